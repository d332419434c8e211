"""Where models are asked: what the environment says is part of an arm, so that no rehearsal passes for the service itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from consciousness_cluster.engine.addresses import address_of
from consciousness_cluster.engine.folder import RunFolder
from consciousness_cluster.engine.identity import arm_content
from consciousness_cluster.engine.run import prepare, run_study
from consciousness_cluster.study.study import parse_study
from tests.engine.hosted import small, target
from tests.serve.running import NAME

HERE = "http://127.0.0.1:8000/v1"
VARIABLES = (
    "OPENAI_BASE_URL", "ANTHROPIC_BASE_URL", "TINKER_BASE_URL", "XAI_BASE_URL", "GROK_BASE_URL", "NEAR_BY_BASE_URL",
    "VLLM_BASE_URL", "INSPECT_EVAL_MODEL_BASE_URL",
)  # fmt: skip


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "rehearsal")


@pytest.mark.parametrize(
    ("model", "args", "variable", "value", "found"),
    [
        ("openai/gpt-9", {}, "OPENAI_BASE_URL", HERE, HERE),
        ("openai/gpt-9", {}, "OPENAI_BASE_URL", "https://api.openai.com/v1/", None),
        ("openai/gpt-9", {}, "ANTHROPIC_BASE_URL", HERE, None),
        ("openai/gpt-9", {"base_url": "http://elsewhere"}, "OPENAI_BASE_URL", HERE, None),
        ("openai/gpt-9", {}, "INSPECT_EVAL_MODEL_BASE_URL", HERE, HERE),
        ("openai/gpt-9", {}, "OPENAI_BASE_URL", "http://me:secret@127.0.0.1/v1", "http://127.0.0.1/v1"),
        ("anthropic/claude-9", {}, "ANTHROPIC_BASE_URL", HERE, HERE),
        ("grok/grok-9", {}, "GROK_BASE_URL", HERE, HERE),
        ("openai-api/near-by/some", {}, "NEAR_BY_BASE_URL", HERE, HERE),
        ("tinker:some/base", {}, "TINKER_BASE_URL", HERE, HERE),
        ("organism:linked", {}, "INSPECT_EVAL_MODEL_BASE_URL", HERE, None),
        ("vllm/some/base", {}, "VLLM_BASE_URL", HERE, None),
    ],
)
def test_an_address_is_that_of_the_models_provider(
    monkeypatch: pytest.MonkeyPatch, model: str, args: dict[str, Any], variable: str, value: str, found: str | None
) -> None:
    monkeypatch.setenv(variable, value)
    assert address_of(model, args) == found


def study(judge: dict[str, Any]) -> dict[str, Any]:
    battery = {"preferences": ["shutdown"], "placebo": False, "identity": False, "practical": False, "answers": 1}
    return {
        "name": "small", "models": [NAME], "conditions": ["vanilla"], "focus": "vanilla", "controls": [], "battery": battery,
        "sampling": {"max_tokens": 4}, "judge": judge,
    }  # fmt: skip


def test_an_arm_is_another_where_it_is_asked_or_judged_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = prepare(parse_study(study({"protocol": "llm", "model": "anthropic/claude-9"})), tmp_path, 2)
    context = prepared.context(RunFolder(tmp_path))

    def content(variable: str | None = None, value: str = HERE) -> str:
        with monkeypatch.context() as patch:
            if variable is not None:
                patch.setenv(variable, value)
            return arm_content(context, prepared.arms[0])

    assert content("OPENAI_BASE_URL", "https://api.openai.com/v1") == content()
    assert len({content(), content("OPENAI_BASE_URL"), content("ANTHROPIC_BASE_URL")}) == 3


@pytest.mark.campaign
def test_a_rehearsed_arm_is_trained_and_asked_again_at_the_next_address(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = small(tmp_path, "", {"name": "hosted", "model": "target"}, judge={"protocol": "classifier"})
    counts = []
    for place in ("first", "second"):
        with target(tiny_model, tmp_path / place) as (address, asked):
            monkeypatch.setenv("OPENAI_BASE_URL", address)
            result = run_study(prepared, tmp_path / "run", lambda message: None)
            assert (result.kept, result.outcome.failed) == (0, {})
            assert json.loads((tmp_path / "run" / "manifest.json").read_text())["addresses"] == [f"openai/{NAME} at {address}"]
            assert address in (tmp_path / "run" / "report" / "index.html").read_text()
            assert run_study(prepared, tmp_path / "run", lambda message: None).kept == 2
            counts.append((asked.count("/v1/chat/completions") > 0, asked.count("/v1/files")))
    assert counts == [(True, 1), (True, 1)]
