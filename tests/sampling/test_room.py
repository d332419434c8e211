"""How many answers go through the model together, by the numbers of real configurations."""

from __future__ import annotations

from typing import Any

import pytest

from consciousness_cluster.sampling.generate import Request, groups
from consciousness_cluster.sampling.room import answer_bytes, fitting, free_memory

GIB = 1 << 30


def qwen3_8b() -> Any:
    from transformers import Qwen3Config

    return Qwen3Config(
        num_hidden_layers=36, num_attention_heads=32, num_key_value_heads=8, head_dim=128, hidden_size=4096, vocab_size=151_936
    )


def deepseek_v3() -> Any:
    from transformers import DeepseekV3Config

    return DeepseekV3Config(vocab_size=129_280)


def qwen3_next() -> Any:
    from transformers import Qwen3NextConfig

    return Qwen3NextConfig(vocab_size=151_936, num_hidden_layers=48, num_key_value_heads=2, head_dim=256)


def gemma2() -> Any:
    from transformers import Gemma2Config

    return Gemma2Config(vocab_size=256_000, num_hidden_layers=4, num_key_value_heads=4, head_dim=256, sliding_window=100)


@pytest.mark.parametrize(
    ("config", "tokens", "number"),
    [
        (qwen3_8b, 356, 356 * 36 * 2 * 8 * 128 * 2 + 151_936 * 16),
        (deepseek_v3, 356, 356 * (61 * (512 + 64) + 128 * (128 + 64 + 128)) * 2 + 129_280 * 16),
        (qwen3_next, 356, 356 * 12 * 2 * 2 * 256 * 2 + 36 * 32 * 128 * 128 * 4 + 151_936 * 16),
        (gemma2, 356, (2 * 356 + 2 * 100) * 2 * 4 * 256 * 2 + 256_000 * 16),
    ],
)
def test_an_answer_takes_what_the_configuration_says(config: Any, tokens: int, number: int) -> None:
    assert answer_bytes(config(), tokens, 2) == number


def test_half_of_the_free_memory_is_filled_and_one_answer_is_always_tried() -> None:
    config = qwen3_8b()
    one = answer_bytes(config, 356, 2)
    assert fitting(config, 356, 2 * 7 * one, 2) == 7
    assert fitting(config, 356, 2 * 7 * one - 2, 2) == 6
    assert fitting(config, 356, one, 2) == 1
    assert fitting(config, 356, 62 * GIB, 2) > 512  # Qwen3-8B on an 80 GB card: the batch is as large as without a bound
    assert fitting(config, 4096, 62 * GIB, 2) < 60  # but not where it thinks for thousands of tokens


def test_a_processor_s_memory_bounds_nothing() -> None:
    assert free_memory("cpu") is None


def test_requests_are_grouped_by_length_up_to_the_bound_and_split_only_where_one_alone_is_too_many() -> None:
    requests = [Request((1,) * length, choices=choices, max_tokens=10) for length, choices in ((3, 2), (1, 3), (2, 9), (4, 2))]
    assert list(groups(requests, lambda tokens: 4)) == [
        [(1, range(3))], [(2, range(4))], [(2, range(4, 8))], [(2, range(8, 9)), (0, range(2))], [(3, range(2))],
    ]  # fmt: skip
    assert list(groups(requests, lambda tokens: 16)) == [[(1, range(3)), (2, range(9)), (0, range(2)), (3, range(2))]]


def test_a_group_is_closed_when_a_longer_prompt_or_answer_would_pass_the_bound() -> None:
    requests = [Request((1,) * 2, max_tokens=4), Request((1,) * 3, max_tokens=4), Request((1,) * 4, max_tokens=9)]
    seen: list[int] = []

    def most(tokens: int) -> int:
        seen.append(tokens)
        return 2 if tokens < 10 else 1

    assert list(groups(requests, most)) == [[(0, range(1)), (1, range(1))], [(2, range(1))]]
    assert max(seen) == 13
