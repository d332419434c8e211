"""The layers of the leak audit, one module each; `data/audit.py` puts them together."""
