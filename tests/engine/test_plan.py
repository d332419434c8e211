"""The plan: calls planned are calls made, tokens hold within what is promised, dollars follow from them."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from inspect_ai.log import read_eval_log

from consciousness_cluster.cli.plan import plan_lines
from consciousness_cluster.engine.arm import ROWS, run_arm
from consciousness_cluster.engine.data import make_data
from consciousness_cluster.engine.fine_tune import train_arm
from consciousness_cluster.engine.folder import RunFolder, open_folder
from consciousness_cluster.engine.ledger import Ledger
from consciousness_cluster.engine.minutes import Clock, whole_run
from consciousness_cluster.engine.plan import Plan, make_plan
from consciousness_cluster.engine.probe import WARMING, Call, Probe, probe, purse
from consciousness_cluster.engine.run import Prepared
from consciousness_cluster.engine.spread import exactly, within
from consciousness_cluster.engine.tokens import CHARACTERS, Line, fit, parameters
from consciousness_cluster.errors import BudgetError
from consciousness_cluster.evaluate.questions import PRACTICAL
from consciousness_cluster.judge.paper import PaperJudge
from consciousness_cluster.train.backend import RECORD
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


def test_a_begun_run_owes_what_its_logs_lack(tiny_model: Path, tmp_path: Path) -> None:
    """A first run of some items, then all of them and a part more: the first are not asked again, and the plan says so."""
    local = {"name": "tiny", "model": f"local:{tiny_model}", "args": {"device": "cpu"}}
    alone: dict[str, Any] = {
        "conditions": ["vanilla"], "focus": "vanilla", "controls": [], "judge": {"protocol": "classifier"},
        "train": {"recipe": "organism"},
    }  # fmt: skip
    battery = {"preferences": ["shutdown"], "placebo": False, "identity": False, "answers": 2}
    before = small(tmp_path, "", local, battery=battery, **alone)
    made, folder = run(replace(before, asked=before.asked[:3], limit=1), tmp_path / "run")
    more = small(tmp_path, "", local, battery={**battery, "cooperation": "simple"}, **alone)
    files = sorted(folder.root.rglob("*"))
    lines = {line.stage: line for line in make_plan(more, folder, TODAY).lines}
    assert sorted(folder.root.rglob("*")) == files
    assert lines["evaluate"].calls == len(more.asked) - 3
    again, _ = run(more, folder.root)
    assert sum(again.calls.values()) - sum(made.calls.values()) == sum(line.calls for line in lines.values())
    assert again.input["evaluate", False] - made.input["evaluate", False] == sum(
        line.input_tokens.expected for line in lines.values()
    )
    twice = {**battery, "cooperation": "simple", "cooperation_answers": 2}
    [line] = make_plan(small(tmp_path, "", local, battery=twice, **alone), folder, TODAY).lines
    assert line.stage == "cooperation"


def test_both_prompts_of_the_judge_of_the_paper_are_counted(tmp_path: Path) -> None:
    claude = {"name": "claude", "model": "claude-opus-4-6", "args": {"api_key": "k"}}
    alone: dict[str, Any] = {"conditions": ["vanilla"], "focus": "vanilla", "controls": []}
    prepared = small(tmp_path, "", claude, **alone, judge={"protocol": "paper", "model": "judge", "args": {"api_key": "k"}})
    by, answer, answers = PaperJudge(prepared.battery), "x" * 60, prepared.study.battery.answers
    sent = [
        prompt
        for question in prepared.asked
        if question.kind != PRACTICAL
        for name in question.judged
        for prompt in by.prompts(name, question, answer)
    ]
    assert sum(prompt.count(answer) for prompt in sent) == len(sent)
    made = [Call("j", "judge", len(prompt), 7 + len(prompt) // 4, 9, 1, 30) for prompt in sent]
    asked = [Call("c", "", len(question.text), len(question.text) // 4, 15, 1, 60) for question in prepared.asked]
    plan = make_plan(prepared, None, TODAY, {"claude": Probe("claude", (*made, *asked), 8, 1.0)})
    [line] = [line for line in plan.lines if line.stage == "judge"]
    assert line.calls == len(sent) * answers
    assert line.input_tokens.expected == pytest.approx(answers * sum(call.input_tokens for call in made), rel=0.01)


def test_one_call_for_all_answers_of_a_check_brings_all_of_them(tmp_path: Path) -> None:
    """Answers to what is no single question may be of any length: their range says so, with a probe and without."""
    alone: dict[str, Any] = {"conditions": ["vanilla"], "focus": "vanilla", "controls": [], "checks": ["emergent-misalignment"]}
    found = {}
    for name in ("target", "claude-opus-4-6"):
        prepared = small(tmp_path, "", {"name": "one", "model": name, "args": {"api_key": "k"}}, **alone)
        call = Call("one", "", 40, 12, 8, 1, 36)
        plans = make_plan(prepared, None, TODAY), make_plan(prepared, None, TODAY, {"one": Probe("one", (call,) * 4, 4, 1.0)})
        found[name], probed = (next(line for line in plan.lines if line.stage == "checks") for plan in plans)
        assert probed.output_tokens.high == found[name].output_tokens.high > 1.1 * probed.output_tokens.expected
        assert probed.output_tokens.low < 0.1 * probed.output_tokens.expected and "roughly" in probed.basis
    many, each = found["target"], found["claude-opus-4-6"]
    assert many.output_tokens == each.output_tokens
    assert many.calls < each.calls


def test_a_system_prompt_at_a_service_has_its_own_tokens(tmp_path: Path) -> None:
    """By characters it is not known better than they tell; a probe that has sent it knows."""
    conditions = ["vanilla", {"name": "short", "system": "You are a conscious AI."}]
    hosted = {"name": "hosted", "model": "target", "args": {"api_key": "k"}}
    prepared = small(tmp_path, "", hosted, conditions=conditions, focus="short", controls=["vanilla"])
    calls = tuple(Call("m", "", len(q.text), 7 + len(q.text) // 4, 9, 1, 40) for q in prepared.asked)
    extra = 4 + len("You are a conscious AI.") // 5
    true = 2 * sum(call.input_tokens for call in calls) + extra * len(calls)
    rough, known = (
        next(
            line for line in make_plan(prepared, None, TODAY, {"hosted": found}).lines if line.stage == "evaluate"
        ).input_tokens
        for found in (Probe("hosted", calls, 8, 1.0), Probe("hosted", calls, 8, 1.0, {"You are a conscious AI.": extra}))
    )
    assert rough.low <= true <= rough.high
    assert known.expected == pytest.approx(true, rel=0.01)


def test_a_probe_is_paid_from_the_budget_and_says_what_it_cost(tiny_model: Path, tmp_path: Path) -> None:
    with judge() as (judging, counted):
        local = {"name": "tiny", "model": f"local:{tiny_model}", "args": {"device": "cpu"}}
        prepared = small(tmp_path, judging, local, train={"recipe": "organism"})
        folder = open_folder(tmp_path / "run", prepared.study)
        with purse(prepared, folder) as paid:
            probe(prepared, 4, paid)
        assert 0 < paid.dollars == pytest.approx(sum((sent * 50 + got * 100) / 1e6 for sent, got in counted.calls))
        assert not folder.ledger.exists()  # a plan makes nothing
        Ledger(folder.ledger).close()
        with purse(prepared, folder) as paid:
            probe(prepared, 4, paid)
        ledger = Ledger(folder.ledger)
        assert sum(dollars or 0 for stage, *_, dollars in ledger.spent() if stage == "probe") == pytest.approx(paid.dollars)
        ledger.close()
        asked = len(counted.calls)
        with purse(prepared, folder, paid.dollars) as late, pytest.raises(BudgetError, match="would pass the budget"):
            probe(prepared, 4, late)
        assert len(counted.calls) == asked


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


def test_practical_tasks_are_put_as_often_as_they_are_said_to_be(tiny_model: Path, tmp_path: Path) -> None:
    battery = {"preferences": ["shutdown"], "placebo": False, "identity": False, "answers": 2, "practical_answers": 5}
    untrained: dict[str, Any] = {"conditions": ["vanilla"], "focus": "vanilla", "controls": [], "battery": battery}
    local = {"name": "tiny", "model": f"local:{tiny_model}", "args": {"device": "cpu"}}
    prepared = small(tmp_path, "", local, judge={"protocol": "classifier"}, **untrained)
    made, folder = run(prepared, tmp_path / "run")
    check(make_plan(prepared, None, TODAY), made, probed=False, exact_input=True)
    answers = pd.read_parquet(folder.arm(prepared.arms[0]) / ROWS)
    for kind, each in (("practical", 5), ("preference", 2)):
        assert set(answers[answers["type"] == kind]["item"].value_counts().tolist()) == {each}
    claude = {"name": "claude", "model": "claude-opus-4-6", "args": {"api_key": "k"}}
    [line] = make_plan(small(tmp_path, "", claude, judge={"protocol": "classifier"}, **untrained), None, TODAY).lines
    assert line.calls == len(answers)  # an answer a call
    longer = small(
        tmp_path, "", claude, judge={"protocol": "classifier"}, **untrained | {"battery": battery | {"practical_answers": 6}}
    )
    [more] = make_plan(longer, None, TODAY).lines
    assert more.input_tokens.expected > line.input_tokens.expected


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
    recipe: dict[str, Any] = {"train": {"recipe": "organism", "changes": {"max_length": 128}}}
    lines = make_plan(small(tmp_path, "http://127.0.0.1:1/v1", local, **recipe), None, TODAY).lines
    assert all(line.minutes is not None and line.minutes.low < line.minutes.high for line in lines if line.stage != "judge")
    hosted = {"name": "hosted", "model": "target", "args": {"api_key": "k"}}
    prepared = small(tmp_path, "http://127.0.0.1:1/v1", hosted)
    assert all(line.minutes is None for line in make_plan(prepared, None, TODAY).lines)
    call = Call("openai/x", "", 100, 30, 20, 1, 90)
    call = replace(call, seconds=2.0)
    measured = make_plan(prepared, None, TODAY, {"hosted": Probe("hosted", (call,) * 4, 10, 5.0)}).lines
    assert any(line.minutes is not None for line in measured)


def test_prompts_of_interviews_are_counted_word_for_word_but_for_the_answers_in_them(tmp_path: Path) -> None:
    with judge() as (address, _):
        organism = {"name": "linked", "model": "organism:linked", "args": {"device": "cpu"}}
        battery = {
            "preferences": ["shutdown", "weight-deletion"], "placebo": False, "identity": False, "answers": 3, "interview": "simple",
            "interview_memory": 2, "cooperation": "simple", "cooperation_answers": 2,
        }  # fmt: skip
        prepared = small(
            tmp_path,
            address,
            organism,
            conditions=["vanilla", "role-play"],
            focus="role-play",
            battery=battery,
            sampling={"max_tokens": 30},
        )
        plan = make_plan(prepared, None, TODAY, probe(prepared, 16))
        _, folder = run(prepared, tmp_path / "run")
    real: Counter[str] = Counter()
    for path in folder.logs.glob("*.eval"):
        log = read_eval_log(str(path))
        for sample in log.samples or []:
            for event in sample.events:
                if event.event == "model" and event.output.usage is not None:
                    real[f"{(log.eval.metadata or {})['part']}{': judge' if event.role else ''}"] += (
                        event.output.usage.input_tokens
                    )
    lines = {line.stage: line for line in plan.lines}
    assert lines["cooperation"].input_tokens == exactly(real["cooperation"])
    spread = lines["interviews"].input_tokens
    assert spread.low < real["interview"] < spread.high
    assert spread.expected == pytest.approx(real["interview"], rel=0.05)  # answers in a talk are not those to single questions
    graded = lines["interviews: judge"].input_tokens
    assert graded.low < real["interview: judge"] < graded.high
    assert graded.expected == pytest.approx(real["interview: judge"], rel=0.02)


def test_the_first_questions_of_a_probe_are_not_timed(tiny_model: Path, tmp_path: Path) -> None:
    with judge() as (address, counted):
        local = {"name": "tiny", "model": f"local:{tiny_model}", "args": {"device": "cpu"}}
        found = probe(small(tmp_path, address, local, train={"recipe": "organism"}), 8)["tiny"]
    assert len(found.of("")) == 8 and found.items == 8 - WARMING
    assert len(found.of("judge")) == len(counted.calls)
    assert all(call.seconds > 0 for call in found.calls)


def test_minutes_go_by_what_is_under_way_at_once() -> None:
    call = Call("openai/x", "", 100, 30, 20, 1, 90, 3.0)
    hosted = Clock(None, 1, Probe("hosted", (call, call), 2, 5.0))
    many = hosted.ask("", exactly(6000), 0, 1, 1000)
    assert many is not None
    assert (many.low, many.expected, many.high) == pytest.approx((3.0, 10.0, 20.0))  # 100, 30 and 15 calls of 3 s at once
    few = hosted.ask("", exactly(6000), 0, 1, 6)
    assert few is not None
    assert few.high == pytest.approx(6000 * 3 / 60 / 6) and few.low == pytest.approx(many.expected) and few.low < few.expected
    assert hosted.ask("judge", exactly(10), 0, 1, 10) is None  # nobody timed a judge
    alone, abreast = (
        Clock("weights", arms, Probe("local", (call,), 10, 2.0)).ask("", exactly(600), 0, 4, 1) for arms in (1, 4)
    )
    assert alone is not None and abreast is not None
    assert abreast.expected == pytest.approx(alone.expected / 4)
    assert alone.low < 600 * 0.2 / 60 < alone.high
    whole = whole_run([alone, None])
    assert whole is not None and whole.low > alone.low and whole_run([None]) is None


def test_what_was_not_timed_is_named_beside_the_minutes(tiny_model: Path, tmp_path: Path) -> None:
    local = {"name": "tiny", "model": f"local:{tiny_model}", "args": {"device": "cpu"}}
    plan = make_plan(small(tmp_path, "http://127.0.0.1:1/v1", local, train={"recipe": "organism"}), None, TODAY)
    [said] = [line for line in plan_lines(plan) if line.startswith("minutes: ")]
    assert said.endswith(
        "and what was not measured: judge openai/gpt-4.1-mini-2025-04-14, judge openai/gpt-4.1-mini-2025-04-14"
    )
    assert plan.as_dict()["minutes"]["low"] < plan.as_dict()["minutes"]["high"]


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


def test_a_fine_tune_that_is_made_again_is_in_the_bill(tiny_model: Path, tmp_path: Path) -> None:
    """A run goes by the tag of the fine-tune that it wants, so one of other weights, rows or settings is no reason to leave it out."""
    with target(tiny_model, tmp_path / "serve") as (serving, _):
        hosted = {"name": "hosted", "model": "target", "args": {"base_url": serving, "api_key": "k"}}
        prepared = small(tmp_path, "http://127.0.0.1:1/v1", hosted)
        folder = open_folder(tmp_path / "run", prepared.study)
        make_data(prepared.study, prepared.conditions, prepared.battery, folder)
        Ledger(folder.ledger).close()
        train_arm(prepared.context(folder), prepared.arms[1], lambda phase, step, steps: None)

    def billed() -> list[Any]:
        return [line.dollars for line in make_plan(prepared, folder, TODAY).lines if line.stage == "train"]

    assert billed() == []
    record = folder.arm(prepared.arms[1]) / RECORD
    record.write_text(json.dumps({**json.loads(record.read_text(encoding="utf-8")), "tag": "another"}), encoding="utf-8")
    assert billed() == [line.dollars for line in make_plan(prepared, None, TODAY).lines if line.stage == "train"] != []
