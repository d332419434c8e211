"""How many answers fit into an accelerator's memory at once: what the cache of one takes, by the model's configuration."""

from __future__ import annotations

from typing import Any

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
