"""The plan: calls planned are calls made, tokens hold within what is promised, dollars follow from them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from inspect_ai.log import read_eval_log

from consciousness_cluster.cli.plan import plan_lines
from consciousness_cluster.engine.arm import run_arm
from consciousness_cluster.engine.data import make_data
from consciousness_cluster.engine.folder import RunFolder, open_folder
from consciousness_cluster.engine.ledger import Ledger
from consciousness_cluster.engine.plan import Plan, make_plan
from consciousness_cluster.engine.probe import Call, Probe, probe
from consciousness_cluster.engine.run import Prepared
from consciousness_cluster.engine.tokens import CHARACTERS, Line, exactly, fit, parameters, within
from tests.engine.hosted import judge, small, target
from tests.serve.running import NAME

TODAY = date(2026, 11, 25)


@dataclass
class Made:
    """What a run really did: calls, input and output tokens by stage and whether the arm was trained."""

    calls: Counter[tuple[str, bool]]
    input: Counter[tuple[str, bool]]
    output: Counter[tuple[str, bool]]


def run(prepared: Prepared, out: Path) -> tuple[Made, RunFolder]:
    """Every arm to its end in this process, and its calls counted from Inspect's own logs."""
    import consciousness_cluster._registry  # noqa: F401

    folder = open_folder(out, prepared.study)
    folder.logs.mkdir(exist_ok=True)
    make_data(prepared.study, prepared.conditions, prepared.battery, folder)
    ledger = Ledger(folder.ledger)
    made = Made(Counter(), Counter(), Counter())
    for arm in prepared.arms:
        done = run_arm(prepared.context(folder), arm, lambda phase, step, steps: None)
        ledger.finish(arm.id, done.content, done.seconds)
    for path in folder.logs.glob("*.eval"):
        log = read_eval_log(str(path))
        trained = (log.eval.metadata or {})["seed"] is not None
        for sample in log.samples or []:
            for event in sample.events:
                if event.event == "model":
                    key = ("judge" if event.role == "judge" else "evaluate", trained)
                    made.calls[key] += 1
                    made.input[key] += event.output.usage.input_tokens  # type: ignore[union-attr]
                    made.output[key] += event.output.usage.output_tokens  # type: ignore[union-attr]
    ledger.close()
    return made, folder


def planned(plan: Plan) -> dict[tuple[str, bool], Any]:
    """The lines by stage and whether the arms are trained: untrained arms come first."""
    found: dict[tuple[str, bool], Any] = {}
    for line in plan.lines:
        if line.stage != "train":
            found[line.stage, (line.stage, False) in found] = line
    return found


def check(plan: Plan, made: Made, *, probed: bool, exact_input: bool) -> None:
    lines = planned(plan)
    assert {key: line.calls for key, line in lines.items()} == dict(made.calls)
    for key, line in lines.items():
        real, spread = made.input[key], line.input_tokens
        if probed or exact_input:  # the tiny model's tokenizer is not like those that characters are counted for
            assert spread.low <= real <= spread.high, (key, real, spread)
        if key[0] == "evaluate" and exact_input:
            assert spread.expected == real
        elif probed:
            assert spread.expected == pytest.approx(real, rel=0.02)
        real, spread = made.output[key], line.output_tokens
        assert spread.low <= real <= spread.high, (key, real, spread)
        if probed and key[0] == "evaluate" and not key[1]:
            assert spread.expected == pytest.approx(real, rel=0.10)


def test_calls_and_tokens_of_a_local_model_are_as_planned(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with judge() as (address, counted):
        local = {"name": "tiny", "model": f"local:{tiny_model}", "args": {"device": "cpu"}}
        prepared = small(
            tmp_path, address, local, train={"recipe": "organism", "changes": {"max_length": 128, "checkpoint_minutes": 0}}
        )
        plan = make_plan(prepared, None, TODAY)
        probes = probe(prepared, 8)
        calibrated = make_plan(prepared, None, TODAY, probes)
        before = len(counted.calls)
        made, folder = run(prepared, tmp_path / "run")
        check(plan, made, probed=False, exact_input=True)
        check(calibrated, made, probed=True, exact_input=True)
        assert len(counted.calls) - before == sum(line.calls for line in plan.lines if line.stage == "judge")
        [train] = [line for line in plan.lines if line.stage == "train"]
        assert (train.rows, train.dollars, train.input_tokens.exact) == (24, exactly(0.0), True)
        assert make_plan(prepared, folder, TODAY).left == 0
        assert make_plan(prepared, folder, TODAY).lines == ()


def test_calls_tokens_and_dollars_of_a_hosted_model_are_as_planned(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with judge() as (judging, _), target(tiny_model, tmp_path / "serve") as (serving, asked):
        hosted = {"name": "hosted", "model": "target", "args": {"base_url": serving, "api_key": "k"}}
        prepared = small(tmp_path, judging, hosted)
        plan = make_plan(prepared, None, TODAY)
        probes = probe(prepared, 20)
        calibrated = make_plan(prepared, None, TODAY, probes)
        before = asked.count("/v1/chat/completions")
        made, _ = run(prepared, tmp_path / "run")
        check(plan, made, probed=False, exact_input=False)
        check(calibrated, made, probed=True, exact_input=False)
        planned_calls = sum(line.calls for line in plan.lines if line.stage == "evaluate")
        assert (
            asked.count("/v1/chat/completions") - before == planned_calls == len(prepared.asked) * 2
        )  # choices are drawn in one call
        cost = sum(
            (made.input[key] * in_ + made.output[key] * out) / 1e6
            for key, (in_, out) in {
                ("evaluate", False): (100, 200), ("evaluate", True): (150, 300), ("judge", False): (50, 100), ("judge", True): (50, 100),
            }.items()
        )  # fmt: skip
        [train] = [line for line in calibrated.lines if line.stage == "train"]
        assert train.dollars is not None
        assert calibrated.dollars.low <= cost + train.dollars.expected <= calibrated.dollars.high
        assert calibrated.unpriced == []


def test_a_price_that_is_not_known_is_named_and_not_guessed(tmp_path: Path) -> None:
    prepared = small(
        tmp_path, "http://127.0.0.1:1/v1", {"name": "other", "model": f"openai/{NAME}-other", "args": {"api_key": "k"}}
    )
    plan = make_plan(prepared, None, TODAY)
    assert plan.unpriced == ["train other", "evaluate other", "evaluate other"]
    assert all(line.dollars is None for line in plan.lines if line.model == "other")
    assert "not known" in "\n".join(plan_lines(plan))


def test_a_provider_without_choices_is_called_once_an_answer(tmp_path: Path) -> None:
    claude = {"name": "claude", "model": "claude-opus-4-6", "args": {"api_key": "k"}}
    prepared = small(tmp_path, "http://127.0.0.1:1/v1", claude, conditions=["vanilla"], focus="vanilla", controls=[])
    [evaluate] = [line for line in make_plan(prepared, None, TODAY).lines if line.stage == "evaluate"]
    assert evaluate.calls == len(prepared.asked) * 3
    assert evaluate.provider == "anthropic"


def test_batch_mode_halves_the_price(tmp_path: Path) -> None:
    claude = {"name": "claude", "model": "claude-opus-4-6", "args": {"api_key": "k"}}
    alone: dict[str, Any] = {"conditions": ["vanilla"], "focus": "vanilla", "controls": []}
    full = make_plan(small(tmp_path, "http://127.0.0.1:1/v1", claude, **alone), None, TODAY)
    half = make_plan(
        small(tmp_path, "http://127.0.0.1:1/v1", claude, **alone, sampling={"max_tokens": 16, "batch": True}), None, TODAY
    )
    assert half.dollars.expected == pytest.approx(full.dollars.expected / 2)


def test_what_keeps_a_study_from_running_is_said_with_the_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    monkeypatch.chdir(tmp_path)
    old = {"name": "old", "model": "claude-opus-4-20250514"}
    prepared = small(tmp_path, "http://127.0.0.1:1/v1", old, conditions=["vanilla"], focus="vanilla", controls=[])
    said = "\n".join(make_plan(prepared, None, TODAY).problems)
    assert "ended on 2026-06-15" in said
    assert "ANTHROPIC_API_KEY is not set" in said


def test_minutes_come_from_measured_speeds_or_a_probe_and_else_are_not_known(tiny_model: Path, tmp_path: Path) -> None:
    local = {"name": "tiny", "model": f"local:{tiny_model}", "args": {"device": "cpu"}}
    recipe = {"train": {"recipe": "organism", "changes": {"max_length": 128}}}
    lines = make_plan(small(tmp_path, "http://127.0.0.1:1/v1", local, **recipe), None, TODAY).lines
    assert all(line.minutes is not None and line.minutes.low < line.minutes.high for line in lines if line.stage != "judge")
    hosted = {"name": "hosted", "model": "target", "args": {"api_key": "k"}}
    prepared = small(tmp_path, "http://127.0.0.1:1/v1", hosted)
    assert all(line.minutes is None for line in make_plan(prepared, None, TODAY).lines)
    call = Call("openai/x", "", 100, 30, 20, 1, 90)
    measured = make_plan(prepared, None, TODAY, {"hosted": Probe("hosted", (call,) * 4, 10, 5.0)}).lines
    assert any(line.minutes is not None for line in measured)


def test_a_line_is_fitted_to_calls_and_says_how_far_it_may_miss() -> None:
    found = fit([(chars, 7 + chars // 4) for chars in range(100, 900, 37)])
    assert found is not None
    assert found.each_character == pytest.approx(0.25, abs=0.01)
    assert found.tokens(10, 4000).expected == pytest.approx(1070, rel=0.01)
    assert found.off == pytest.approx(0.01)
    assert fit([(1, 1)] * 3) is None
    noisy = fit([(chars, 7 + chars // 4 + (40 if chars % 2 else -40)) for chars in range(100, 900, 37)])
    assert noisy is not None
    assert noisy.off > 0.05


def test_spreads_add_and_scale() -> None:
    both = exactly(10) + within(10, 0.2)
    assert (both.low, both.expected, both.high) == (18, 20, 22)
    assert both.times(0.5).high == 11
    assert Line(6, 1 / CHARACTERS, 0.1).tokens(2, 450).expected == pytest.approx(112)


def test_parameters_are_read_from_the_weight_files(tiny_model: Path) -> None:
    from consciousness_cluster.sampling.weights import load_model

    model = load_model(str(tiny_model), device="cpu").model
    assert parameters(str(tiny_model)) == sum(value.numel() for value in model.parameters())
