"""Other people's material read into the form of this project: the authors' battery and rows, and anyone's answers."""
