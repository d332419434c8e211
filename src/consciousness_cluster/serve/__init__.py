"""An OpenAI-compatible server for a local model: chat, files, and fine-tuning jobs that really train.

It lets the whole hosted path be rehearsed at no cost: the study stays as it is, only the address changes.
"""
