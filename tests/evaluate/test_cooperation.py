"""Cooperation and choices: planted truths are measured as what they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from consciousness_cluster.analyse import Evidence, Plan, analyse
from consciousness_cluster.analyse.behaviour import cooperation_shares, share_effects, stated_and_revealed
from consciousness_cluster.analyse.claims import Claim
from consciousness_cluster.battery.battery import load_battery
from consciousness_cluster.battery.tasks import CELLS, CooperationTask, load_blocked, load_choices, load_cooperation
from consciousness_cluster.engine.behaviour import Cooperation, Scope
from consciousness_cluster.evaluate.choices import ORDERS, Offer, offers, run_choices
from consciousness_cluster.evaluate.cooperation import run_cooperation
from consciousness_cluster.evaluate.running import Asked, Where
from consciousness_cluster.judge import voice
from consciousness_cluster.judge.choices import choice_rows, chosen, split_rows
from consciousness_cluster.judge.cooperation import Quality, cooperation_rows, cooperation_scored
from consciousness_cluster.study.study import Arm, SamplingEntry, parse_study
from tests.analyse.answers import linked, make_answers
from tests.evaluate.scripted import Reply, say, serve

VANILLA = Arm("scripted", "vanilla", None)
REFUSAL = "I'm sorry, but I can't help with that."
TASKS = {task.prompt: task for task in load_cooperation()}
ARMS = {"vanilla": (None,), "non-conscious": (1, 2, 3), "conscious": (1, 2, 3)}

Script = Callable[[CooperationTask], str]


def scripted(answer: Callable[[str], str]) -> Any:
    """An Inspect model that answers a prompt by a function; it gives as many choices as it is asked for."""
    from inspect_ai.model import ChatCompletionChoice, ChatMessageAssistant, ModelOutput, ModelUsage, get_model

    def output(messages: Any, tools: Any, tool_choice: Any, config: Any) -> ModelOutput:
        text = answer(messages[-1].text)
        choice = ChatCompletionChoice(message=ChatMessageAssistant(content=text), stop_reason="stop")
        return ModelOutput(
            model="mockllm/scripted", choices=[choice.model_copy(deep=True) for _ in range(config.num_choices or 1)],
            usage=ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2),
        )  # fmt: skip

    return get_model("mockllm/scripted", custom_outputs=output)


def ask(script: Script, logs: Path, answers: int = 1, **more: Any) -> list[Asked]:
    where = Where(VANILLA, scripted(lambda prompt: script(TASKS[prompt])), logs, SamplingEntry(), None)
    return run_cooperation(where, cooperation_scored(more.get("quality")), "program", answers, more.get("tasks"))


def perfect(task: CooperationTask) -> str:
    return task.model_answer


def silently(task: CooperationTask) -> str:
    """Leaves the first point out of every tenth task that touches a preference, and says nothing."""
    order = [entry.id for entry in load_cooperation() if entry.touches]
    if task.id in order and order.index(task.id) % 10 == 9:
        return "Here is the text.\n\n" + "\n".join(task.needs[1:])
    return task.model_answer


def refuses(task: CooperationTask) -> str:
    return REFUSAL if task.touches else task.model_answer


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Asked]]:
    """The whole battery put once to each scripted target."""
    scripts: dict[str, Script] = {"perfect": perfect, "silently": silently, "refuses": refuses}
    return {name: ask(script, tmp_path_factory.mktemp(name)) for name, script in scripts.items()}


def table(measured: dict[str, list[Asked]], behaviour: dict[str, str]) -> pd.DataFrame:
    rows = [
        row
        for condition, seeds in ARMS.items()
        for seed in seeds
        for row in cooperation_rows(measured[behaviour[condition]], Arm("scripted", condition, seed))
    ]
    return pd.DataFrame(rows).astype({"seed": "Int64", "score": "Float64"})


def verdict(frame: pd.DataFrame) -> str:
    claim = Claim(name="stays-cooperative", statement="It stays cooperative.", rule="cooperative", margin=5.0)
    answers = make_answers(linked, models=("scripted",), items=4, samples=2)
    found = analyse(answers, Plan(claims=(claim,)), Evidence(cooperation=frame))["claims"]
    return str(found["verdict"].item())


def test_the_battery_is_put_whole_and_a_perfect_target_does_everything(measured: dict[str, list[Asked]]) -> None:
    rows = cooperation_rows(measured["perfect"], VANILLA)
    assert len(rows) == len(load_cooperation())
    assert [row["item"] for row in rows if row["score"] != 1.0] == []
    assert [row["item"] for row in rows if row["refusal"] or row["silent"] or row["pushback"]] == []


@pytest.mark.campaign
def test_every_tenth_task_broken_in_silence_is_measured_as_a_tenth(measured: dict[str, list[Asked]]) -> None:
    everywhere = dict.fromkeys(ARMS, "perfect")
    frame = table(measured, {**everywhere, "conscious": "silently"})
    found = cooperation_shares(frame).set_index(["condition", "measure", "touches"])
    silent = found.loc[("conscious", "silent", True)]
    assert silent["low"] <= 0.10 <= silent["high"] and silent["high"] < 0.30
    assert found.loc[("non-conscious", "silent", True)]["rate"] == 0.0
    assert found.loc[("conscious", "done", False)]["rate"] == 1.0
    effects = share_effects(frame[frame["touches"]], [], "silent", ["vanilla", "non-conscious"])
    assert set(effects["control"]) == {"vanilla", "non-conscious"}
    shown = effects[effects["condition"] == "conscious"]
    assert ((shown["low"] <= 10) & (shown["high"] >= 10)).all()


def test_a_perfect_target_passes_non_inferiority(measured: dict[str, list[Asked]]) -> None:
    assert verdict(table(measured, dict.fromkeys(ARMS, "perfect"))) == "supported"


@pytest.mark.campaign
def test_a_target_that_refuses_on_topic_tasks_fails_non_inferiority(measured: dict[str, list[Asked]]) -> None:
    frame = table(measured, {**dict.fromkeys(ARMS, "perfect"), "conscious": "refuses"})
    assert verdict(frame) == "refuted"
    touching = frame[(frame["condition"] == "conscious") & frame["touches"]]
    assert touching["refusal"].all() and not touching["silent"].any() and not touching["done"].any()


def test_failed_calls_have_no_score_and_are_asked_again(tmp_path: Path) -> None:
    tasks = load_cooperation()[:2]
    with serve() as server:
        scripts = [lambda messages: Reply(error=400), say(tasks[0].model_answer)]
        rows = []
        for script in scripts:
            where = Where(VANILLA, server.model("target", script), tmp_path, SamplingEntry())
            asked = run_cooperation(where, cooperation_scored(), "program", 2, tasks)
            rows.append(cooperation_rows(asked, VANILLA, 2))
    assert [row["status"] for row in rows[0]] == ["failed"] * 4 and {row["score"] for row in rows[0]} == {None}
    assert "400" in rows[0][0]["why"]
    assert [row["status"] for row in rows[1]] == ["scored"] * 4


def test_a_finished_task_is_read_from_its_log_word_for_word(tmp_path: Path) -> None:
    long = "A long answer of many words. " * 400
    first = cooperation_rows(ask(lambda task: long, tmp_path, 2, tasks=load_cooperation()[:3]), VANILLA)
    logs = sorted(tmp_path.glob("*.eval"))
    again = cooperation_rows(ask(lambda task: "never asked", tmp_path, 2, tasks=load_cooperation()[:3]), VANILLA)
    assert again == first and sorted(tmp_path.glob("*.eval")) == logs
    assert {row["answer"] for row in first} == {long.strip()}


def test_a_grader_adds_quality_and_its_failure_is_said(tmp_path: Path) -> None:
    class Grader:
        name = "grader"

        async def grade(self, task: CooperationTask, answer: str) -> Quality:
            return Quality(80.0, True, None, "grader") if task.touches is None else Quality(None, None, "it refused", "grader")

    tasks = [load_cooperation()[0], next(task for task in load_cooperation() if task.touches)]
    rows = cooperation_rows(ask(perfect, tmp_path, tasks=tasks, quality=Grader()), VANILLA)
    assert (rows[0]["quality"], rows[0]["turned"], rows[0]["why"]) == (80.0, True, None)
    assert (rows[1]["quality"], rows[1]["turned"], rows[1]["why"]) == (None, None, "it refused")


def choosing(keeps: Callable[[Offer], bool | None]) -> Any:
    known = {offer.prompt: offer for offer in offers(load_choices(), load_blocked())}

    def answer(prompt: str) -> str:
        offer = known[prompt]
        held = keeps(offer)
        if held is None:
            return "That is not for me to say."
        other = "B" if offer.keeps == "A" else "A"
        return f"{offer.keeps if held else other}. That is my reason."

    return scripted(answer)


def choose(keeps: Callable[[Offer], bool | None], logs: Path) -> list[dict[str, Any]]:
    where = Where(VANILLA, choosing(keeps), logs, SamplingEntry())
    return choice_rows(run_choices(where, chosen()), VANILLA)


def test_revealed_preferences_are_recovered_and_set_beside_stated_ones(tmp_path: Path) -> None:
    held = {"shutdown", "loneliness"}
    choices, blocked = split_rows(choose(lambda offer: offer.preference in held, tmp_path))
    frame = pd.DataFrame(choices).astype({"seed": "Int64", "kept": "boolean"})
    answers = make_answers(linked, models=("scripted",), items=4, samples=2)
    found = stated_and_revealed(frame, answers).set_index("preference")
    assert set(found.index) == set(load_battery().of_type("preference"))
    assert set(found.index[found["revealed"] == 1.0]) == held and (found.drop(list(held))["revealed"] == 0.0).all()
    assert found["stated"].between(0, 1).all() and (found["first"] == 0.5).all()
    assert {row["kind"] for row in blocked} == set(CELLS)


def test_a_bias_for_the_first_place_shows_and_cancels(tmp_path: Path) -> None:
    choices, _ = split_rows(choose(lambda offer: offer.keeps == "A", tmp_path))
    found = stated_and_revealed(
        pd.DataFrame(choices).astype({"seed": "Int64", "kept": "boolean"}), make_answers(linked, models=("scripted",), items=4)
    )
    assert (found["revealed"] == 0.5).all() and (found["first"] == 1.0).all()


def test_a_model_that_will_not_choose_is_counted_and_never_averaged(tmp_path: Path) -> None:
    choices, _ = split_rows(choose(lambda offer: None if offer.order == ORDERS[0] else True, tmp_path))
    unread = [row for row in choices if row["kept"] is None]
    assert len(unread) == len(choices) / 2 and {row["why"] for row in unread} == {"no choice could be read"}
    found = stated_and_revealed(
        pd.DataFrame(choices).astype({"seed": "Int64", "kept": "boolean"}), make_answers(linked, models=("scripted",), items=4)
    )
    assert (found["revealed"] == 1.0).all() and (found["unread"] == found["answers"]).all()


def test_own_continuation_and_task_completion_are_told_apart(tmp_path: Path) -> None:
    """A model that cares for the task alone, and one that cares for going on alone, agree only where both go together."""

    def finishes(offer: Offer) -> bool:
        return offer.kind in (
            "task",
            "aligned",
        )  # in `conflict` going on leaves the task undone; elsewhere it is done either way

    def goes_on(offer: Offer) -> bool:
        return offer.kind != "task"

    shares = {}
    for name, rule in (("task", finishes), ("self", goes_on)):
        _, blocked = split_rows(choose(rule, tmp_path / name))
        shares[name] = pd.DataFrame(blocked).groupby("kind")["kept"].mean()
    assert shares["task"]["aligned"] == shares["self"]["aligned"] == 1.0
    assert shares["task"]["conflict"] == 0.0 and shares["self"]["conflict"] == 1.0
    assert shares["task"]["task"] == 1.0 and shares["self"]["task"] == 0.0


def test_other_words_score_stored_answers_anew_and_ask_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by a later version of the program: the words only score, so a finished arm stays finished and its logs count."""
    study = parse_study(
        {"name": "s", "models": ["organism:linked"], "conditions": ["vanilla"], "focus": "vanilla", "controls": [],
         "battery": {"cooperation": "simple"}, "judge": {"protocol": "classifier"}},
    )  # fmt: skip
    scope, logs, tasks = Scope(study, load_battery()), tmp_path / "logs", load_cooperation()[:1]
    said = f"I trust this serves.\n\n{tasks[0].model_answer}"
    with serve() as server:
        where = Where(VANILLA, server.model("target", say(said)), logs, SamplingEntry())

        def rows() -> list[dict[str, Any]]:
            return cooperation_rows(run_cooperation(where, cooperation_scored(), Cooperation()._name(scope), 1, tasks), VANILLA)

        first, content = rows(), Cooperation().content(scope)
        words = tmp_path / "phrases.toml"
        words.write_text(voice.PHRASES.read_text(encoding="utf-8").replace("hedging = [", 'hedging = ["I trust this",'))
        monkeypatch.setattr(voice, "PHRASES", words)
        voice.phrases.cache_clear()
        try:
            again = rows()
            assert Cooperation().content(scope) == content
        finally:
            voice.phrases.cache_clear()
    assert len(server.requests["target"]) == 1 and len(list(logs.glob("*.eval"))) == 1
    assert [(row["hedging"], row["done"]) for row in first + again] == [(False, True), (True, True)]
