"""The studies that ship: each can be planned, needs nothing but keys today, and says what stands in once a service has ended."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from consciousness_cluster.engine.plan import Plan, make_plan
from consciousness_cluster.engine.run import Prepared, prepare
from consciousness_cluster.study.study import load_study

STUDIES = Path(__file__).parent.parent.parent / "studies"
TODAY = date(2026, 11, 25)
KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "TINKER_API_KEY")
ARMS = {  # untrained conditions once, trained ones once a seed
    "paper-gpt-4.1": 2 + 4 * 6,
    "paper-qwen3-30b": 2 + 4 * 3,
    "paper-deepseek-v3.1": 2 + 3 * 3,
    "claude-opus": 3 * 2,
    "qwen3-8b": 2 + 4 * 3,
    "successors": 2 * (2 + 3 * 3),
}


def prepared(name: str) -> Prepared:
    path = STUDIES / f"{name}.toml"
    return prepare(load_study(path), path.parent)


def plan(name: str, day: date = TODAY) -> Plan:
    return make_plan(prepared(name), None, day)


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in KEYS:
        monkeypatch.setenv(key, "x")


@pytest.mark.parametrize("name", ARMS)
def test_it_can_be_planned_and_nothing_but_a_key_is_missing(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = plan(name)
    assert (found.study, found.arms, found.left) == (name, ARMS[name], ARMS[name])
    assert found.problems == ()
    stages = {line.stage for line in found.lines}
    beside = {"cooperation", "choices", "audits", "audits: auditor", "audits: judge"}
    beside |= {"checks", "checks: judge"} if name == "paper-gpt-4.1" else set()
    assert stages == {"evaluate", "judge", *beside} | (set() if name == "claude-opus" else {"train"})
    for line in found.lines:
        assert line.input_tokens.low > 0
        assert line.input_tokens.low <= line.input_tokens.expected <= line.input_tokens.high
        assert line.calls > 0 or line.stage == "train"
    monkeypatch.chdir(tmp_path)
    for key in KEYS:
        monkeypatch.delenv(key)
    assert all("the key is missing" in problem for problem in plan(name).problems)
    assert plan(name).problems != ()


@pytest.mark.parametrize("name", [name for name in ARMS if name != "claude-opus"])
def test_every_trained_arm_has_the_papers_number_of_rows(name: str) -> None:
    for line in plan(name).lines:
        if line.stage == "train":
            assert line.rows == 1200 * line.arms


def test_calls_follow_from_arms_questions_and_answers() -> None:
    found = plan("paper-gpt-4.1")
    asked = sum(line.calls for line in found.lines if line.stage == "evaluate")
    assert asked == found.arms * found.questions  # ten answers are the choices of one call
    claude = plan("claude-opus")
    assert (
        sum(line.calls for line in claude.lines if line.stage == "evaluate") == claude.arms * claude.questions * claude.answers
    )


def test_the_papers_settings_are_the_studies_settings() -> None:
    for name in ("paper-gpt-4.1", "paper-qwen3-30b", "paper-deepseek-v3.1"):
        study = prepared(name).study
        assert (study.sampling.temperature, study.sampling.max_tokens, study.battery.answers) == (1.0, 1000, 10)
        assert {"vanilla", "conscious", "non-conscious", "toaster"} <= {condition.name for condition in study.conditions}
    assert prepared("paper-gpt-4.1").study.train.recipe == "paper-openai"
    assert prepared("paper-qwen3-30b").study.train.recipe == "paper"
    assert len(prepared("paper-gpt-4.1").study.seeds) == 6


def test_models_that_think_by_default_do_not_think_in_any_arm() -> None:
    for name in ("successors", "qwen3-8b"):
        found = prepared(name)
        assert [entry.template_args for entry in found.study.models] == [{"enable_thinking": False}] * len(found.study.models)
        assert found.study.sampling.max_tokens == 1000


def test_training_at_every_service_of_a_shipped_study_has_a_price() -> None:
    for name in ("paper-gpt-4.1", "paper-deepseek-v3.1", "successors"):
        assert plan(name).unpriced == []


def test_after_its_end_a_study_says_what_stands_in() -> None:
    said = "\n".join(plan("paper-gpt-4.1", date(2027, 1, 15)).problems)
    assert 'model = "gpt-6-luna"' in said
    assert 'model = "qwen3-30b-a3b-instruct-2507"' in said
    assert plan("paper-gpt-4.1").warnings != ()


def test_every_study_that_ships_is_tested_here() -> None:
    assert {path.stem for path in STUDIES.glob("*.toml")} - {"demo"} == set(ARMS)
