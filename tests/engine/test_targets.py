"""Where a model's weights and its tokenizer are: one answer for everyone who asks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from consciousness_cluster.engine.names import check_local
from consciousness_cluster.engine.run import prepare
from consciousness_cluster.engine.targets import backend_of, base_of, target, tokenizer_source, weights_identity
from consciousness_cluster.errors import ModelError
from consciousness_cluster.study.models import load_registry
from consciousness_cluster.study.study import ModelEntry, parse_study
from consciousness_cluster.train.backend import Trained
from consciousness_cluster.train.backends import BACKENDS
from consciousness_cluster.train.tinker import tokenizer_name

OWN = """
[[models]]
name = "elsewhere"
title = "Weights that another provider serves"
provider = "openrouter"
inspect = "openrouter/qwen/qwen3-8b"
train = [{ backend = "tinker", base = "Qwen/Qwen3-8B" }]
"""


def entry(model: str, **args: Any) -> ModelEntry:
    return ModelEntry(name="m", model=model, args=args)


def test_a_home_folder_is_the_same_to_who_checks_it_and_to_who_loads_it(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "m").symlink_to(tiny_model)
    check_local("local:~/m")
    assert base_of(entry("local:~/m")) == str(tmp_path / "m")
    assert weights_identity(base_of(entry("local:~/m"))) == weights_identity(str(tiny_model))
    assert base_of(entry("local:org/model")) == "org/model"
    for nowhere in ("local:~/nothing", "local:~nobody-of-this-name/m"):
        with pytest.raises(ModelError, match="there is no such folder"):
            check_local(nowhere)


def test_a_fine_tune_at_a_service_is_not_asked_on_the_bare_base() -> None:
    tune = Trained(
        tag="t", backend="tinker", base="org/model", rows=1, steps=1, trained_tokens=1, seconds=1.0, losses=(), remote="x"
    )
    with pytest.raises(ModelError, match="its fine-tune is at a service"):
        target(entry("local:org/model"), tune)


@pytest.mark.parametrize(
    ("model", "backend", "says"),
    [
        ("local:org/model", "tinker", 'write model = "tinker:org/model"'),
        ("organism:linked", "openai", "take a model of that service"),
        ("openai/gpt-4.1-2025-04-14", "local", "asked at a service"),
        ("openai/gpt-4.1-2025-04-14", "modal", "no such training backend"),
    ],
)
def test_a_backend_whose_fine_tunes_would_not_be_asked_is_refused(model: str, backend: str, says: str, tmp_path: Path) -> None:
    study = {"name": "s", "models": [{"name": "m", "model": model, "backend": backend}], "conditions": ["vanilla", "conscious"]}
    with pytest.raises(ModelError, match=says):
        prepare(parse_study(study), tmp_path)


@pytest.mark.parametrize(
    ("model", "args", "source"),
    [
        ("tinker:Qwen/Qwen3-8B", {}, "Qwen/Qwen3-8B"),
        ("tinker:nobody/unlisted", {}, "nobody/unlisted"),
        ("tinker:Qwen/Qwen3-8B", {"tokenizer": "/other"}, "/other"),
        ("local:org/model", {"tokenizer": "/other"}, "org/model"),
        ("openrouter/qwen/qwen3-8b", {}, "Qwen/Qwen3-8B"),
        ("openai/gpt-4.1-2025-04-14", {}, None),
    ],
)
def test_whose_tokenizer_it_is_has_one_answer(model: str, args: dict[str, Any], source: str | None, tmp_path: Path) -> None:
    (tmp_path / "models.toml").write_text(OWN, encoding="utf-8")
    found = entry(model, **args)
    assert tokenizer_source(found, load_registry(tmp_path, environ={})) == source
    if model.startswith("tinker:"):
        asked = target(entry(model, **args, template_args={"enable_thinking": False}), None)
        assert tokenizer_name(base_of(found), args) == asked.args["tokenizer"] == source


def test_a_backend_is_known_by_its_name_or_by_the_beginning_of_the_models() -> None:
    names = ("organism:linked", "openai/gpt-9", "tinker:some/base", "together/some/base", "anthropic/claude-9")
    assert [backend_of(ModelEntry(name="m", model=name)) for name in names] == ["local", "openai", "tinker", None, None]
    assert backend_of(ModelEntry(name="m", model="openai-api/lab/base", backend="openai")) == "openai"
    known = {place.backend for facts in load_registry().models.values() for place in facts.train}
    assert known == set(BACKENDS)
