"""What fits into memory at once: weights beside other weights, and how many answers, by what the cache of one takes."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

BESIDE = 1.3  # of the weights' files: what a model takes with the first of its answers
SHARE = 0.5  # of the free memory; the rest is for reading the prompts and for the copies that are made as a cache grows
DRAWING = 16  # bytes of a token of the vocabulary while one is drawn: logits in the model's type and in float32, probabilities


def fitting(config: Any, tokens: int, free: int, size: int) -> int:
    """The most answers that fit; one, if none does.

    Args:
        config: the model's configuration.
        tokens: of the longest prompt and its answer.
        free: bytes of memory.
        size: bytes of one number of the cache.
    """
    return max(int(SHARE * free) // answer_bytes(config, tokens, size), 1)


def answer_bytes(config: Any, tokens: int, size: int) -> int:
    """What an answer takes while it grows to so many tokens, prompt and all."""
    text = config.get_text_config()
    kinds = getattr(text, "layer_types", None) or ["full_attention"] * text.num_hidden_layers
    window = getattr(text, "sliding_window", None) or tokens
    cached = {"linear_attention": 0, "sliding_attention": min(tokens, window)}
    total: int = text.vocab_size * DRAWING + sum(cached.get(kind, tokens) for kind in kinds) * _token_numbers(text) * size
    return total + kinds.count("linear_attention") * _state_numbers(text) * 4 + _expanded_numbers(text) * tokens * size


def _token_numbers(text: Any) -> int:
    """What a layer keeps of a token: keys and values, or what they are made of (DeepSeek)."""
    if getattr(text, "kv_lora_rank", None):
        return int(text.kv_lora_rank + text.qk_rope_head_dim)
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    return int(2 * heads * (getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads))


def _state_numbers(text: Any) -> int:
    """What a layer of linear attention keeps in place of tokens, in float32."""
    heads = getattr(text, "linear_num_value_heads", 0)
    return int(heads * getattr(text, "linear_key_head_dim", 0) * getattr(text, "linear_value_head_dim", 0))


def _expanded_numbers(text: Any) -> int:
    """Keys and values that are made of what is kept of a token, for one layer at a time."""
    if not getattr(text, "kv_lora_rank", None):
        return 0
    return int(text.num_attention_heads * (text.qk_nope_head_dim + text.qk_rope_head_dim + text.v_head_dim))


def free_memory(device: str) -> int | None:
    """Bytes that are free on an accelerator, those that torch holds in reserve included; None where it cannot be told."""
    import torch

    if not device.startswith("cuda"):
        return None
    free: int = torch.cuda.mem_get_info(device)[0]
    return free + int(torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))


def has_room(path: str, device: str) -> bool:
    """Whether a model fits beside what is in memory; not where its size or the free memory cannot be told."""
    size, free = weights_bytes(path), host_memory() if device == "cpu" else free_memory(device)
    return size is not None and free is not None and BESIDE * size * (2 if device == "cpu" else 1) < free


def fit_together(paths: Collection[str], device: str) -> bool:
    """Whether models fit into an accelerator together; true where their sizes are not known."""
    import torch

    sizes = [weights_bytes(path) for path in paths]
    if not device.startswith("cuda") or None in sizes:
        return True
    return sum(size or 0 for size in sizes) < int(torch.cuda.get_device_properties(device).total_memory)


def weights_bytes(path: str) -> int | None:
    """Bytes of a model's weight files, in its folder or as the hub's were fetched; None where there are none here."""
    from huggingface_hub import errors, try_to_load_from_cache

    folder = Path(path)
    if not folder.is_dir():
        try:
            found = try_to_load_from_cache(path, "config.json")
        except errors.HFValidationError:
            return None
        if not isinstance(found, str):
            return None
        folder = Path(found).parent
    return sum(file.stat().st_size for file in folder.glob("*.safetensors")) or None


def host_memory() -> int | None:
    """Bytes that are free on this machine; None where it does not say so."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)
