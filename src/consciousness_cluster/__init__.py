"""What does a language model come to want when it says that it is conscious?

From one study file: identity data, fine-tuned arms, answers, verdicts, estimates, claims, a report.
"""

__version__ = "0.1.0"
