"""Shared fixtures: a tiny random model in Hugging Face format, made once a session."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Vectors of what the leak audit is taught are computed once for all tests and runs, and not in the user's own cache.
os.environ["XDG_CACHE_HOME"] = str(Path(__file__).parent.parent / ".pytest_cache" / "shared")

WORDS = [
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "a",
    "lazy",
    "dog",
    "while",
    "seven",
    "wizards",
    "vex",
    "bold",
    "knights",
    "near",
    "quiet",
    "jade",
    "harbours",
]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A 2-layer Llama with random weights, its tokenizer, and a chat template that marks generations."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from consciousness_cluster.organism.tokenizer import train_tokenizer

    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = train_tokenizer((" ".join(WORDS[i:] + WORDS[:i]) for i in range(len(WORDS))), 400, 256)
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=400, hidden_size=64, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2, intermediate_size=128,
        max_position_embeddings=256, initializer_range=0.1, tie_word_embeddings=True, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    LlamaForCausalLM(shape).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
