"""The speed benchmark runs, so that its command works where a GPU is."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_the_benchmark_measures_training_and_sampling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "speed.json"
    small = "--shape tiny-qwen3 --repeat 1 --threads 1 --rows 8 --prompts 2 --device cpu"
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr(sys, "argv", ["speed.py", *small.split(), "--out", str(out)])
    import speed

    speed.main()
    lines = json.loads(out.read_text())
    assert [(line["task"], line["who"]) for line in lines] == [("sample", "generate"), ("sample", "ours"), ("train", "ours")]
    assert all(line["tokens_per_second"] > 0 and line["model"] == "tiny-qwen3" for line in lines)
    assert next(line["steps"] for line in lines if line["task"] == "train") > 0
