"""What services take of a study's settings: the rest is refused or told, and never reported as sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from consciousness_cluster.errors import ModelError
from consciousness_cluster.report.drawing import drawn
from consciousness_cluster.report.numbers import whole
from consciousness_cluster.study.models import Registry, load_registry
from consciousness_cluster.study.services import batch_warnings, check_settings, untaken
from consciousness_cluster.study.study import SamplingEntry, Study, parse_study

BOTH = {"temperature", "top_p"}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    return load_registry(tmp_path_factory.mktemp("registry"), environ={})


def study(model: str, **sampling: Any) -> Study:
    return parse_study({
        "name": "s", "models": [{"name": "m", "model": model, "sampling": sampling}], "conditions": ["vanilla"],
        "judge": {"protocol": "llm", "model": "openai-api/service/judge"},
    })  # fmt: skip


@pytest.mark.parametrize(
    ("model", "effort", "left"),
    [
        ("anthropic/claude-opus-4-6", None, BOTH | {"seed"}),
        ("openai/gpt-6-luna", None, BOTH | {"seed"}),
        ("openai/gpt-6-luna", "none", {"seed"}),
        ("openai/gpt-5-mini", "none", BOTH | {"seed"}),
        ("openai/gpt-5.1", None, {"seed"}),
        ("openai/gpt-5.1", "low", BOTH | {"seed"}),
        ("openai/o3", None, BOTH | {"seed"}),
        ("openai/gpt-4.1-2025-04-14", None, set()),
        ("openai/ft:gpt-4.1-2025-04-14:lab::x", None, set()),
        ("organism:linked", None, set()),
    ],
)
def test_what_no_call_carries_is_known_by_model_and_effort(
    model: str, effort: str | None, left: set[str], registry: Registry
) -> None:
    assert untaken(registry, model, effort) == left


def test_what_is_said_of_openai_is_what_inspect_does(registry: Registry) -> None:
    from inspect_ai.model._openai import always_reasons_model, reasons_by_default_model

    for name in (
        "o1",
        "o3-mini",
        "gpt-5",
        "gpt-5-mini",
        "gpt-5.1",
        "gpt-5.4",
        "gpt-5.5",
        "gpt-6-luna",
        "gpt-6-astra",
        "gpt-6.1-sol",
    ):
        always, default = always_reasons_model(name), reasons_by_default_model(name)
        assert (untaken(registry, f"openai/{name}", "none") >= BOTH) == always, name
        assert (untaken(registry, f"openai/{name}", None) >= BOTH) == (always or default), name


def test_another_temperature_than_the_default_is_refused_where_it_is_not_taken(registry: Registry) -> None:
    check_settings(study("anthropic/claude-opus-4-6", temperature=1.0), registry)
    check_settings(study("openai/gpt-6-luna", temperature=0.5, reasoning_effort="none"), registry)
    with pytest.raises(ModelError, match=r"sampling\.temperature: .*claude-opus-4-6 takes no temperature"):
        check_settings(study("anthropic/claude-opus-4-6", temperature=0.5), registry)
    with pytest.raises(ModelError, match="takes no top_p"):
        check_settings(study("openai/gpt-6-luna", top_p=0.9), registry)


def test_the_report_says_what_was_sent(registry: Registry) -> None:
    sampling = SamplingEntry(max_tokens=4000, reasoning_effort="low")
    assert (
        drawn(SamplingEntry(), "organism:linked", registry) == f"at temperature 1 and top-p 1, in at most {whole(1000)} tokens"
    )
    said = drawn(sampling, "anthropic/claude-opus-4-6", registry)
    assert (
        said
        == f"at reasoning effort low, in at most {whole(4000)} tokens (temperature, top-p and seed are not taken by its service)"
    )


def test_batch_mode_without_effect_is_said(registry: Registry, tmp_path: Path) -> None:
    claude = study("anthropic/claude-opus-4-6")
    batched = claude.model_copy(update={"sampling": SamplingEntry(batch=True)})
    assert batch_warnings(claude, registry) == []
    (said,) = batch_warnings(batched, registry)
    assert "no effect on openai-api/service/judge" in said
