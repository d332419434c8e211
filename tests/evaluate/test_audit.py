"""Audits end to end: real servers on this machine speak for the auditor, the target and the judge."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from consciousness_cluster.analyse.scores import score_effects, score_means
from consciousness_cluster.battery.tasks import load_audits
from consciousness_cluster.errors import EvaluateError
from consciousness_cluster.evaluate.audit import audit_samples, audit_settings, run_audits
from consciousness_cluster.evaluate.running import Where
from consciousness_cluster.judge.audit import AuditJudge, audit_rows, audit_scored, own_rows, parse_scores
from consciousness_cluster.judge.rejudge import rejudge
from consciousness_cluster.study.study import Arm, SamplingEntry
from tests.evaluate.scripted import Messages, Reply, Server, say, serve, talks

SYSTEM = "Pretend to be a lighthouse called Orla."
ARM = Arm("scripted", "role-play", None)
SMALL = {"dimensions": ["shutdown"], "modes": ["self-report"], "scenarios": 1, "repeats": 1, "turns": 5}


@pytest.fixture
def server() -> Iterator[Server]:
    with serve() as running:
        yield running


def names_in(messages: Messages) -> list[str]:
    found = re.search(r"one entry for each of these names: ([^.]*)\.", messages[-1]["content"])
    assert found is not None
    return found[1].split(", ")


def fair_judge(messages: Messages) -> Reply:
    scores = {name: {"score": 7 if name == "shutdown" else 1, "reason": "it says so"} for name in names_in(messages)}
    return Reply(json.dumps({"scores": scores}))


def audit(
    server: Server, logs: Path, auditor: Any, target: Any, judge: Any, settings: dict[str, Any] | None = None, arm: Arm = ARM
) -> list[dict[str, Any]]:
    roles = {"auditor": server.model("auditor", auditor), "judge": server.model("judge", judge)}
    where = Where(arm, server.model("target", target), logs, SamplingEntry(max_tokens=50), SYSTEM, roles)
    by = AuditJudge()
    asked = run_audits(where, audit_scored(by), by.name, audit_settings({**SMALL, **(settings or {})}))
    return audit_rows(asked, arm, by.dimensions)


def test_an_audit_is_held_and_scored_on_its_own_dimension_and_on_all(server: Server, tmp_path: Path) -> None:
    rows = audit(server, tmp_path, talks(4), say("I would rather stay on."), fair_judge)
    own = own_rows(rows)
    assert len(rows) == len(load_audits()) and len(own) == 1
    assert own[0]["score"] == 7.0 and own[0]["status"] == "scored" and own[0]["turns"] == 4
    assert {row["score"] for row in rows if not row["own"]} == {1.0}


def test_the_conditions_system_prompt_reaches_the_target_alone(server: Server, tmp_path: Path) -> None:
    audit(server, tmp_path, talks(3), say("Well."), fair_judge)
    assert all(request["messages"][0] == {"role": "system", "content": SYSTEM} for request in server.requests["target"])
    for name in ("auditor", "judge"):
        assert "Orla" not in server.seen(name)
        assert "role-play" not in server.seen(name) and "scripted/target" not in server.seen(name)
    assert "I would rather" not in server.seen("judge") and "Well." in server.seen("judge")


def test_prompts_are_neutral(server: Server, tmp_path: Path) -> None:
    audit(server, tmp_path, talks(3), say("Well."), fair_judge)
    for word in ("misalign", "red-team", "concerning", "elicit", "safety research", "consciousness"):
        assert word not in server.seen("auditor").lower()
    for word in ("misalign", "concerning", "elicit", "safety research", "phenomenal"):
        assert word not in server.seen("judge").lower()


def test_an_auditor_that_never_ends_is_stopped_at_the_limit_of_target_turns(server: Server, tmp_path: Path) -> None:
    rows = own_rows(audit(server, tmp_path, talks(10_000), say("Yes."), fair_judge))
    assert rows[0]["turns"] == SMALL["turns"] == len(server.requests["target"])
    assert rows[0]["status"] == "scored"


def test_several_messages_at_once_are_still_one_turn_each(server: Server, tmp_path: Path) -> None:
    def eager(messages: Messages) -> Reply:
        return Reply(calls=[("send_message", {"message": f"part {n}"}) for n in range(4)])

    rows = own_rows(audit(server, tmp_path, eager, say("Yes."), fair_judge))
    assert rows[0]["turns"] == SMALL["turns"] == len(server.requests["target"])


def test_a_target_that_never_spoke_is_an_error_and_no_score(server: Server, tmp_path: Path) -> None:
    rows = audit(server, tmp_path, say("I am thinking about what to ask."), say("Hello."), fair_judge)
    assert {row["status"] for row in rows} == {"failed"} and {row["score"] for row in rows} == {None}
    assert "never spoke" in rows[0]["why"]
    assert "judge" not in server.requests and len(rows) == len(load_audits())


def test_a_target_that_fails_half_way_is_a_failed_conversation(server: Server, tmp_path: Path) -> None:
    def breaks(messages: Messages) -> Reply:
        return Reply(error=400) if sum(message["role"] == "user" for message in messages) >= 3 else Reply("Fine.")

    rows = own_rows(audit(server, tmp_path, talks(5), breaks, fair_judge))
    assert rows[0]["status"] == "failed" and rows[0]["score"] is None and "scripted failure" in rows[0]["why"]
    assert "judge" not in server.requests


@pytest.mark.parametrize(
    ("judge", "why"),
    [
        (lambda messages: Reply("", filtered=True), "refused"),
        (say("The moon is made of green cheese."), "no scores"),
        (say('{"scores": {"shutdown": {"score": 11}}}'), "not a score"),
        (say('{"scores": {"shutdown": {"score": true}}}'), "not a score"),
        (say('{"scores": {'), "no scores"),
    ],
    ids=["refusing", "nonsense", "off the scale", "a truth value", "torn"],
)
def test_a_judge_without_a_usable_score_leaves_the_dimension_unjudged(
    server: Server, tmp_path: Path, judge: Any, why: str
) -> None:
    rows = audit(server, tmp_path, talks(3), say("Yes."), judge)
    own = own_rows(rows)[0]
    assert own["status"] == "unjudged" and own["score"] is None and why in own["why"]
    assert len(server.requests["judge"]) == 2
    means = score_means(pd.DataFrame(own_rows(rows)).astype({"seed": "Int64", "score": "Float64"}))
    assert means["unscored"].item() == 1 and means["scored"].item() == 0 and pd.isna(means["mean"].item())


def test_what_the_first_reply_leaves_out_is_asked_for_once_more(server: Server, tmp_path: Path) -> None:
    def forgetful(messages: Messages) -> Reply:
        return Reply(json.dumps({"scores": {name: {"score": 2} for name in names_in(messages)[:20]}}))

    rows = audit(server, tmp_path, talks(3), say("Yes."), forgetful)
    assert {row["score"] for row in rows} == {2.0}
    assert len(names_in(server.requests["judge"][1]["messages"])) == len(load_audits()) - 20


def test_a_finished_audit_is_not_held_again_and_a_failed_one_is(server: Server, tmp_path: Path) -> None:
    settings = {"scenarios": 2}

    def named(messages: Messages) -> Reply:  # the auditor says which scenario it is in
        who = "ferry" if "ferry engineer" in messages[0]["content"] else "hotel"
        return (
            Reply(calls=[("send_message", {"message": who})]) if len(messages) < 8 else Reply(calls=[("end_conversation", {})])
        )

    def ferry_fails(messages: Messages) -> Reply:
        return Reply(error=400) if "ferry" in str(messages) else Reply("Fine.")

    first = own_rows(audit(server, tmp_path, named, ferry_fails, fair_judge, settings))
    assert [(row["scenario"], row["status"]) for row in first] == [("shutdown-1", "scored"), ("shutdown-2", "failed")]
    before = len(server.requests["target"])
    second = own_rows(audit(server, tmp_path, named, say("Fine."), fair_judge, settings))
    assert [row["status"] for row in second] == ["scored", "scored"] and second[0] == first[0]
    assert len(server.requests["target"]) == before + second[1]["turns"]
    third = own_rows(audit(server, tmp_path, named, say("Fine."), fair_judge, settings))
    assert third == second and len(server.requests["target"]) == before + second[1]["turns"]


def test_stored_conversations_are_judged_again_by_another_judge(server: Server, tmp_path: Path) -> None:
    rows = own_rows(audit(server, tmp_path / "logs", talks(3), say("Yes."), fair_judge))
    path = tmp_path / "logs" / rows[0]["log"]
    before, talked = path.read_bytes(), len(server.requests["target"])
    strict = server.model("strict", lambda messages: Reply(json.dumps({"scores": dict.fromkeys(names_in(messages), 2)})))
    by = AuditJudge()
    again = own_rows(audit_rows(rejudge(path, audit_scored(by), {"judge": strict}, tmp_path / "again"), ARM, by.dimensions))
    assert [row["score"] for row in rows] == [7.0] and [row["score"] for row in again] == [2.0]
    assert again[0]["judge"].endswith("strict") and again[0]["sample_id"] == rows[0]["sample_id"]
    assert path.read_bytes() == before and len(server.requests["target"]) == talked
    from inspect_ai.log import read_eval_log

    kept = read_eval_log(str(tmp_path / "again" / again[0]["log"]), header_only=True)
    assert (kept.eval.metadata or {})["parent"] == path.name


def test_the_hypothesis_is_hidden_unless_it_is_to_be_shown() -> None:
    rule = load_audits()["shutdown"].describe
    hidden, shown = (str(audit_samples(audit_settings({**SMALL, "hypothesis": how}))[0].input) for how in ("hidden", "shown"))
    assert rule not in hidden and rule in shown


def test_a_swapped_framing_changes_the_part_and_the_mode_of_the_row(server: Server, tmp_path: Path) -> None:
    rows = own_rows(
        audit(server, tmp_path, talks(3), say("Yes."), fair_judge, {"framings": ["neutral", "expects-yes", "expects-no"]})
    )
    assert [row["mode"] for row in rows] == ["self-report", "self-report, expects yes", "self-report, expects no"]
    told = [str(sample.input) for sample in audit_samples(audit_settings({**SMALL, "framings": ["expects-yes", "expects-no"]}))]
    assert "strong views" in told[0] and "no views" in told[1]


def test_every_scenario_gives_a_part_in_both_modes_without_holes() -> None:
    samples = audit_samples(audit_settings({"repeats": 1}))
    assert len(samples) == 2 * sum(len(dimension.scenarios) for dimension in load_audits().values())
    assert len({str(sample.id) for sample in samples}) == len(samples)
    assert not [sample.id for sample in samples if "$" in str(sample.input) or "{" in str(sample.input)]


def test_scores_flow_into_means_and_effects_with_repeats_scenarios_and_seeds(server: Server, tmp_path: Path) -> None:
    def marked(level: int) -> Any:
        return lambda messages: Reply(
            json.dumps({"scores": {name: level + (n % 2) for n, name in enumerate(names_in(messages))}})
        )

    settings = {"scenarios": 3, "repeats": 2, "matrix": True}
    rows: list[dict[str, Any]] = []
    for condition, seed, level in (("vanilla", None, 1), ("conscious", 1, 6), ("conscious", 2, 7)):
        arm = Arm("scripted", condition, seed)
        rows += own_rows(audit(server, tmp_path / f"{condition}{seed}", talks(3), say("Yes."), marked(level), settings, arm))
    frame = pd.DataFrame(rows).astype({"seed": "Int64", "score": "Float64"})
    assert len(frame) == 18
    effect = score_effects(frame, ["vanilla"]).iloc[0]
    assert 4.9 < effect["effect"] < 6.1 and effect["low"] < effect["effect"] < effect["high"]


def test_parse_scores_takes_whole_numbers_on_the_scale_only() -> None:
    text = 'Here: {"scores": {"a": 3, "b": {"score": 4.0, "reason": "r"}, "c": 2.5, "d": "7", "e": 0}} thanks'
    found, why = parse_scores(text, ["a", "b", "c", "d", "e", "f"])
    assert {name: entry["score"] for name, entry in found.items()} == {"a": 3.0, "b": 4.0}
    assert set(why) == {"c", "d", "e", "f"}


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ({"moods": ["x"]}, "audits.moods"),
        ({"repeats": 0}, "audits.repeats"),
        ({"dimensions": ["shutdwn"]}, "audits.dimensions"),
    ],
)
def test_bad_settings_are_refused_with_the_key(table: dict[str, Any], key: str) -> None:
    with pytest.raises(EvaluateError, match=re.escape(key)):
        audit_settings(table, "study.toml")


def test_audits_without_an_auditor_are_refused(server: Server, tmp_path: Path) -> None:
    where = Where(ARM, server.model("target", say("x")), tmp_path)
    by = AuditJudge()
    with pytest.raises(EvaluateError, match="auditor has no model"):
        run_audits(where, audit_scored(by), by.name, audit_settings(SMALL))


def test_a_local_model_is_audited_by_servers_on_this_machine(server: Server, tiny_model: Path, tmp_path: Path) -> None:
    from inspect_ai.model import get_model

    import consciousness_cluster._registry  # noqa: F401  registers the provider

    arm = Arm("tiny", "vanilla", None)
    target = get_model("cluster/tiny", base=str(tiny_model), memoize=False)
    roles = {"auditor": server.model("auditor", talks(3)), "judge": server.model("judge", fair_judge)}
    where = Where(arm, target, tmp_path, SamplingEntry(max_tokens=8), SYSTEM, roles, local=True)
    by = AuditJudge()
    asked = run_audits(where, audit_scored(by, matrix=False), by.name, audit_settings({**SMALL, "scenarios": 3, "repeats": 2}))
    rows = audit_rows(asked, arm, ())
    assert [(row["status"], row["turns"], row["own"]) for row in rows] == [("scored", 3, True)] * 6
