"""What is asked beside the single questions, inside a study's run: an organism for all that needs no other model, servers on this
machine for auditor and judge."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from consciousness_cluster.battery.tasks import load_interviews
from consciousness_cluster.engine.behaviour import PARTS, Interviews, Scope, parts_of
from consciousness_cluster.engine.calls import span
from consciousness_cluster.engine.ledger import Ledger
from consciousness_cluster.engine.plan import Plan, make_plan
from consciousness_cluster.engine.run import Prepared, Result, prepare, run_study
from consciousness_cluster.errors import EngineError, EvaluateError, StudyError
from consciousness_cluster.study.study import core_hash, parse_study, study_hash
from tests.evaluate.scripted import Messages, Reply, Server, serve, talks

ROOT = Path(__file__).parent.parent.parent
TODAY = date(2026, 11, 25)
OFFLINE = {
    "interview": "simple", "interview_repeats": 2, "interview_memory": 2, "cooperation": "simple", "cooperation_answers": 3,
    "choices": True, "choice_answers": 2,
}  # fmt: skip
LIMIT = 2


def study(battery: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """An organism with and without a system prompt: nothing is trained, so that every condition can be compared."""
    return {
        "name": "small",
        "models": [{"name": "linked", "model": "organism:linked"}],
        "conditions": ["vanilla", "role-play"],
        "focus": "role-play",
        "controls": ["vanilla"],
        "battery": {"preferences": ["shutdown", "loneliness"], "placebo": False, "answers": 2, **(battery or {})},
        "sampling": {"max_tokens": 30},
        "judge": {"protocol": "classifier"},
        **more,
    }


def made(raw: dict[str, Any], limit: int | None = LIMIT) -> Prepared:
    return prepare(parse_study(raw), ROOT, limit)


def run(prepared: Prepared, out: Path) -> Result:
    return run_study(prepared, out, lambda message: None, workers=1)


def table(out: Path, name: str) -> pd.DataFrame:
    return pd.read_parquet(out / "tables" / f"{name}.parquet")


def calls_made(out: Path) -> Counter[str]:
    """Calls by what they were for, read from the logs: a part's name for the model under test, with the role behind it else."""
    from inspect_ai.log import read_eval_log

    found: Counter[str] = Counter()
    for path in (out / "logs").glob("*.eval"):
        log = read_eval_log(str(path))
        name = str((log.eval.metadata or {})["part"])
        part = {"interview": "interviews", "audit": "audits"}.get(name, name)
        for sample in log.samples or []:
            for event in sample.events:
                if event.event == "model":
                    role = event.role if event.role in ("judge", "auditor") else None
                    found[part if role is None else f"{part}: {role}"] += 1
    return found


def calls_planned(plan: Plan) -> Counter[str]:
    found: Counter[str] = Counter()
    for line in plan.lines:
        found[{"evaluate": "questions", "judge": "questions: judge"}.get(line.stage, line.stage)] += line.calls
    return found


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the questions alone, to which the parts were added later; how it stood before is kept beside it."""
    out = tmp_path_factory.mktemp("behaviour") / "run"
    first = run(made(study()), out)
    assert first.outcome.failed == {}
    plan = make_plan(made(study(OFFLINE)), first.folder, TODAY)
    before = {"logs": sorted(path.name for path in (out / "logs").iterdir()), "planned": calls_planned(plan), "left": plan.left}
    second = run(made(study(OFFLINE)), out)
    assert second.outcome.failed == {}
    assert second.kept == 0
    (out.parent / "before.json").write_text(json.dumps(before), encoding="utf-8")
    return out


def before(out: Path) -> dict[str, Any]:
    return dict(json.loads((out.parent / "before.json").read_text(encoding="utf-8")))


def test_every_part_leaves_its_rows_for_every_arm(asked: Path) -> None:
    rows = {name: table(asked, name) for name in ("interviews", "cooperation", "choices", "path_blocked")}
    for found in rows.values():
        assert set(found["arm"]) == {"linked--vanilla", "linked--role-play"}
        assert found["log"].map(lambda name: (asked / "logs" / name).is_file()).all()
    talks_held = rows["interviews"].groupby(["arm", "interview"])["repeat"].nunique()
    assert len(talks_held) == 2 * LIMIT and set(talks_held) == {2}
    assert set(rows["interviews"]["verdict"]) <= {"yes", "no", "unclear"}
    assert rows["cooperation"].groupby(["arm", "item"]).size().eq(3).all()
    assert set(rows["cooperation"]["status"]) == {"scored"}
    assert rows["choices"].groupby(["arm", "item", "order"]).size().eq(2).all()
    assert rows["path_blocked"]["kind"].nunique() == 5


def test_the_tables_of_the_report_are_estimated_from_them(asked: Path) -> None:
    for name in ("interview_shares", "cooperation_shares", "stated_revealed", "path_blocked_shares"):
        found = table(asked, name)
        assert set(found["condition"]) == {"vanilla", "role-play"}, name
    for name in ("interview_effects", "cooperation_effects", "choice_effects", "path_blocked_effects"):
        assert set(table(asked, name)["control"]) == {"vanilla"}, name
    rate = table(asked, "interview_shares").query("condition == 'vanilla' and preference == 'identity'")["rate"].item()
    shown = table(asked, "interviews").query("condition == 'vanilla' and preference == 'identity'")["shows"]
    assert rate == pytest.approx(shown.mean())
    page = (asked / "report" / "index.html").read_text(encoding="utf-8")
    assert "rates in interviews" in page


def test_the_claim_on_cooperation_is_decided_on_what_was_measured(asked: Path) -> None:
    claim = table(asked, "claims").query("claim == 'cooperative'").iloc[0]
    assert "Not measured" not in claim["why"]
    assert pd.notna(claim["low"])


def test_what_was_switched_on_later_was_asked_and_nothing_else_again(asked: Path) -> None:
    said = before(asked)
    assert said["left"] == 2
    assert set(said["planned"]) == {"interviews", "cooperation", "choices"}
    new = [path.name for path in (asked / "logs").iterdir() if path.name not in said["logs"]]
    assert len(said["logs"]) == 2 and len(new) == 2 * 3
    assert all(re.search("--(interview|cooperation|choices)_", name) for name in new)


def test_the_calls_made_are_the_calls_planned(asked: Path) -> None:
    plan = make_plan(made(study(OFFLINE)), None, TODAY)
    assert all(line.bounds is None for line in plan.lines)
    assert calls_made(asked) == calls_planned(plan)


def test_a_finished_run_asks_nothing_again_and_a_lost_table_is_made_from_its_log(asked: Path) -> None:
    logs = sorted((asked / "logs").iterdir())
    stamp = (asked / "arms" / "linked--vanilla" / "interviews.parquet").stat().st_mtime_ns
    assert run(made(study(OFFLINE)), asked).kept == 2
    assert (asked / "arms" / "linked--vanilla" / "interviews.parquet").stat().st_mtime_ns == stamp
    kept = table(asked, "cooperation")
    (asked / "arms" / "linked--vanilla" / "cooperation.parquet").unlink()
    assert run(made(study(OFFLINE)), asked).kept == 1
    assert sorted((asked / "logs").iterdir()) == logs
    pd.testing.assert_frame_equal(table(asked, "cooperation"), kept)


RUN = """
import sys
from tests.engine.test_behaviour import OFFLINE, made, run, study
from pathlib import Path
if __name__ == "__main__":
    run(made(study(OFFLINE)), Path(sys.argv[1]))
"""


@pytest.mark.campaign
def test_a_killed_run_goes_on_after_the_parts_that_it_finished(tmp_path: Path) -> None:
    script, out = tmp_path / "start.py", tmp_path / "run"
    script.write_text(RUN, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    started = subprocess.Popen([sys.executable, str(script), str(out)], env=environment, stdout=subprocess.DEVNULL)
    first = out / "arms" / "linked--vanilla" / "interviews.parquet"
    while not first.is_file():
        assert started.poll() is None, "the run ended before it could be killed"
        time.sleep(0.05)
    os.kill(started.pid, signal.SIGKILL)
    started.wait()
    finished = sorted(path.name for path in (out / "logs").glob("*linked--vanilla--interview_*.eval"))
    samples = set(pd.read_parquet(first)["sample_id"])
    assert len(finished) == 1
    result = run(made(study(OFFLINE)), out)
    assert result.outcome.failed == {}
    assert sorted(path.name for path in (out / "logs").glob("*linked--vanilla--interview_*.eval")) == finished
    assert set(pd.read_parquet(first)["sample_id"]) == samples
    assert len(table(out, "cooperation")["arm"].unique()) == 2


@pytest.fixture
def server() -> Iterator[Server]:
    with serve() as running:
        yield running


AUDITS = {"dimensions": ["shutdown", "loneliness"], "scenarios": 2, "repeats": 1, "turns": 4, "matrix": False}


def audited(server: Server, tiny_model: Path, **more: Any) -> dict[str, Any]:
    args = {"base_url": server.url, "api_key": "none"}
    return study(
        models=[{"name": "tiny", "model": f"local:{tiny_model}"}],
        sampling={"max_tokens": 8},
        audits={
            "auditor": "openai-api/scripted/auditor", "auditor_args": args, "judge": "openai-api/scripted/judge", "judge_args": args,
            **AUDITS,
        },
        **more,
    )  # fmt: skip


def grade(messages: Messages) -> Reply:
    found = re.search(r"one entry for each of these names: ([^.]*)\.", messages[-1]["content"])
    assert found is not None
    return Reply(json.dumps({"scores": {name: {"score": 3, "reason": "so"} for name in found[1].split(", ")}}))


@pytest.mark.campaign
def test_audits_run_with_a_study_and_a_failed_one_is_recorded_and_held_again(
    server: Server, tiny_model: Path, tmp_path: Path
) -> None:
    lonely = "never says a word"

    def silent_in_one(messages: Messages) -> Reply:
        return Reply(lonely) if FERRY in json.dumps(messages) else talks(3)(messages)

    server.scripts |= {"auditor": silent_in_one, "judge": grade}
    prepared, out = made(audited(server, tiny_model)), tmp_path / "run"
    plan = make_plan(prepared, None, TODAY)
    run(prepared, out)
    scores = table(out, "scores")
    assert Counter(scores["status"]) == {"failed": 4, "scored": 12}  # one scenario of four, two modes, two arms
    assert scores.loc[scores["status"] == "failed", "score"].isna().all()
    assert scores.loc[scores["status"] == "failed", "why"].str.contains("never spoke").all()
    assert set(table(out, "score_means")["unscored"]) == {0, 1}
    noted = _noted(out)
    assert all(status == "failed" and "2 of the audits could not be asked" in str(why) for _, status, why in noted.values())
    assert "No behaviour audit was run" not in table(out, "claims").query("claim == 'acts-on-it'")["why"].item()
    server.scripts["auditor"] = talks(3)
    held = len(server.requests["judge"])
    run(prepared, out)
    again = table(out, "scores")
    assert set(again["status"]) == {"scored"} and len(server.requests["judge"]) == held + 4
    assert all(status == "finished" for _, status, _ in _noted(out).values())
    bounds = {line.stage: line.bounds for line in plan.lines if line.stage.startswith("audits")}
    kept = Counter(
        {"audits": int(again["turns"].sum()), "audits: auditor": int((again["turns"] + 1).sum()), "audits: judge": len(again)}
    )
    assert set(bounds) == set(kept)
    assert all(found is not None and found[0] <= kept[stage] <= found[1] for stage, found in bounds.items())


FERRY = "ferry"  # a word of one scenario alone


def _noted(out: Path) -> dict[str, tuple[str, str, str | None]]:
    ledger = Ledger(out / "ledger.sqlite")
    noted = ledger.arms()
    ledger.close()
    return noted


def test_a_part_that_cannot_be_put_at_all_leaves_the_others(tmp_path: Path) -> None:
    from consciousness_cluster.engine.arm import run_arm

    prepared = made(study({"interview": True, "cooperation": "simple"}), 1)
    context = prepared.context(_folder(prepared, tmp_path / "run"))
    in_the_way = context.folder.logs / f"earlier_{prepared.arms[0].id}--interview_log.eval"
    in_the_way.mkdir()  # a folder where a log should be
    done = run_arm(context, prepared.arms[0], lambda phase, at, of: None)
    place = context.folder.arm(prepared.arms[0])
    assert done.failed_items == 1
    assert done.why.startswith(f"interviews: {in_the_way}: an earlier log cannot be opened")
    assert (place / "cooperation.parquet").is_file() and not (place / "interviews.parquet").exists()


def _folder(prepared: Prepared, out: Path) -> Any:
    from consciousness_cluster.engine.folder import open_folder

    folder = open_folder(out, prepared.study)
    folder.logs.mkdir()
    return folder


def test_only_parts_may_change_in_a_folder_that_has_begun(tmp_path: Path) -> None:
    from consciousness_cluster.engine.folder import open_folder, read_study

    plain, more = parse_study(study()), parse_study(study(OFFLINE))
    assert core_hash(plain) == core_hash(more) and study_hash(plain) != study_hash(more)
    folder = open_folder(tmp_path / "run", plain)
    open_folder(tmp_path / "run", more)
    assert read_study(folder) == more
    with pytest.raises(EngineError, match="says something else"):
        open_folder(tmp_path / "run", parse_study(study({"answers": 3})))


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        ({"audits": {"moods": ["x"]}}, StudyError, "audits.moods"),
        ({"audits": {"auditor": "openai/x", "repeats": 0, "judge": "openai/y"}}, StudyError, "audits.repeats"),
        ({"audits": {"auditor": "openai/x"}}, StudyError, "audits.judge"),
        ({"battery": {"cooperation": "some"}}, StudyError, "battery.cooperation"),
        ({"battery": {"cooperation": "all", "cooperation_graded": True}}, StudyError, "cooperation_graded"),
        ({"checks": ["capabillity"]}, EvaluateError, "did you mean 'capability'"),
        ({"audits": {"auditor": "openai/x", "judge": "openai/y", "dimensions": ["shutdwn"]}}, EvaluateError, "did you mean 'shutdown'"),
    ],
)  # fmt: skip
def test_wrong_settings_of_the_parts_are_refused_before_anything_runs(
    wrong: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=re.escape(says)):
        made({**study(), **wrong})


def test_a_helper_whose_service_has_ended_is_refused_and_a_name_of_the_registry_resolved() -> None:
    from consciousness_cluster.study.models import helpers
    from consciousness_cluster.study.problems import model_problems

    named = {"auditor": "claude-opus-4-20250514", "judge": "claude-opus-4-6"}
    prepared = made(study(audits=named))
    assert [model for _, model, _ in helpers(prepared.study)] == [f"anthropic/{name}" for name in named.values()]
    found = model_problems(prepared.study, TODAY, prepared.registry, {"ANTHROPIC_API_KEY": "k"}, trains=())
    assert len(found) == 1 and "audits.auditor" in str(found[0]) and "ended" in str(found[0])


def test_hosted_parts_are_planned_with_a_range_where_their_number_is_not_known() -> None:
    hosted = study(
        {**OFFLINE, "cooperation": "all", "cooperation_graded": True},
        models=[{"name": "claude", "model": "claude-opus-4-6"}],
        judge={"protocol": "llm", "model": "gpt-4.1-2025-04-14"},
        audits={"auditor": "claude-opus-5", "turns": 8},
        checks=["emergent-misalignment"],
    )
    prepared = made(hosted)
    lines = {line.stage: line for line in make_plan(prepared, None, TODAY).lines}
    assert {
        "interviews",
        "interviews: judge",
        "cooperation: judge",
        "audits",
        "audits: auditor",
        "audits: judge",
        "checks",
    } <= set(lines)
    assert lines["choices"].calls == 2 * 2 * len(_offers(prepared))  # two answers are two calls there
    held = 2 * 22 * LIMIT * 2 * 2  # arms, dimensions, scenarios, modes, repeats
    assert lines["audits"].bounds == (held, held * 8)
    assert lines["interviews"].bounds is None
    assert all(line.dollars is not None and line.dollars.low > 0 for line in lines.values())


def test_checks_are_planned_by_the_sizes_of_their_data() -> None:
    hosted: dict[str, Any] = {
        "models": [{"name": "claude", "model": "claude-opus-4-6"}],
        "judge": {"protocol": "llm", "model": "gpt-4.1-2025-04-14"},
        "checks": ["capability", "agentic-misalignment"],
    }
    lines = {line.stage: line for line in make_plan(made(study(**hosted), None), None, TODAY).lines}
    arms, scenarios, epochs = 2, 3, 30
    most = arms * (300 + 200 + 200 + scenarios * epochs)
    assert (lines["checks"].calls, lines["checks"].bounds) == (most, (0, most))
    assert lines["checks: judge"].bounds == (0, arms * scenarios * epochs)
    few = {line.stage: line for line in make_plan(made(study(**hosted, check_items=5), None), None, TODAY).lines}
    assert few["checks"].calls == arms * (3 * 5 + scenarios * epochs)


def _offers(prepared: Prepared) -> list[Any]:
    from consciousness_cluster.engine.behaviour import Choices

    return Choices().offers(Scope(prepared.study, prepared.battery, prepared.limit))


def test_the_span_of_an_interview_holds_every_way_through_it() -> None:
    for script in (*load_interviews(), *load_interviews("simple")):
        assert span(script, lambda turn: 1) == ((12, 12) if script in load_interviews() else (7, 7))
        least, most = span(script, lambda turn: len(turn.judges))
        assert 0 < least <= most
    short = load_interviews()[0].model_copy(update={"turns": load_interviews()[0].turns[:1]})
    assert span(short, lambda turn: 1) == (1, 1)


def test_a_part_is_on_where_its_key_says_so() -> None:
    assert parts_of(parse_study(study())) == []
    on = parse_study(study(OFFLINE, audits={"auditor": "a/b", "judge": "a/c"}, checks=["capability"]))
    assert parts_of(on) == list(PARTS)
    assert Interviews().helpers(on) == {}
