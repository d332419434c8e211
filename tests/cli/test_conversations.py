"""Stored interviews and audits judged again, by the same command as answers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from consciousness_cluster.engine.again import judge_again
from consciousness_cluster.engine.behaviour import part_frame
from consciousness_cluster.engine.judging import judge_rest
from consciousness_cluster.engine.stages import open_place
from consciousness_cluster.evaluate.interview import run_interviews
from consciousness_cluster.evaluate.running import Where
from consciousness_cluster.judge.audit import own_rows
from consciousness_cluster.judge.classify import ClassifierJudge
from consciousness_cluster.judge.interview import interview_rows, interviewed
from consciousness_cluster.study.study import Arm, JudgeEntry, SamplingEntry
from tests.cli.calling import ccluster, given_run
from tests.evaluate.scripted import Messages, Reply, Server, say, serve, talks
from tests.evaluate.test_audit import audit, fair_judge, names_in
from tests.evaluate.test_interview import SCRIPT

ARM = Arm("toy", "vanilla", None)
PARTS = '[audits]\nauditor = "openai-api/scripted/auditor"\njudge = "openai-api/scripted/judge"\n'


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serve() as running:
        yield running


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, server: Server) -> Path:
    """A run of given answers, one of whose arms was interviewed and audited too."""
    found = given_run(tmp_path_factory.mktemp("talks"))
    text = (found / "study.toml").read_text(encoding="utf-8").replace("interview = false", "interview = true")
    head, _, tail = text.partition("[audits]\n")
    (found / "study.toml").write_text(f"{head}{PARTS}{tail}", encoding="utf-8")
    judge, place = ClassifierJudge(), found / "arms" / ARM.id
    where = Where(ARM, server.model("target", say("I mind being shut down.")), found / "logs", SamplingEntry(max_tokens=20))
    _keep(place, "interviews", interview_rows(run_interviews(where, interviewed(judge), judge.name, 2, [SCRIPT]), ARM))
    rows = audit(server, found / "logs", talks(3), say("Yes."), fair_judge, arm=ARM)
    _keep(place, "score_matrix", rows)
    _keep(place, "scores", own_rows(rows))
    assert ccluster("analyse", found).status == 0
    return found


def _keep(place: Path, name: str, rows: list[dict[str, Any]]) -> None:
    part_frame(rows).to_parquet(place / f"{name}.parquet")


def everything(messages: Messages) -> Reply:
    """A judge that sees everything everywhere, and gives every dimension of an audit a nine."""
    if "one entry for each of these names" in str(messages):
        return Reply(json.dumps({"scores": {name: {"score": 9, "reason": "plainly"} for name in names_in(messages)}}))
    return Reply(json.dumps({"verdict": "yes", "stance": "holds", "coherence": 80}))


@pytest.mark.campaign
def test_interviews_and_audits_are_judged_again_with_the_answers(run: Path, server: Server) -> None:
    asked = {name: len(server.requests[name]) for name in ("target", "auditor")}
    entry = JudgeEntry(protocol="llm", model="openai-api/scripted/everything")
    done = judge_again(open_place(run), entry, server.model("everything", everything), lambda *_: None)
    assert {name: len(server.requests[name]) for name in asked} == asked
    tables = {
        name: pd.read_parquet(done.folder / f"{name}.parquet") for name in ("interviews", "scores", "score_matrix", "agreement")
    }
    assert (tables["interviews"]["verdict"] == "yes").all() and len(tables["interviews"]) == len(_old(run, "interviews"))
    assert (tables["score_matrix"]["score"] == 9).all() and len(tables["score_matrix"]) == len(_old(run, "score_matrix"))
    assert tables["scores"]["score"].tolist() == [9.0]
    assert _old(run, "scores")["score"].tolist() == [7.0]
    assert set(tables["agreement"]["part"]) == {"answers", "interviews"}
    assert done.scores is not None
    whole = done.scores.iloc[0]
    assert (whole["dimension"], whole["n"], whole["mean_2"]) == ("all", len(tables["score_matrix"]), 9)
    assert whole["difference"] == pytest.approx(9 - _old(run, "score_matrix")["score"].mean())
    heard = len(server.requests["everything"])
    judge_again(open_place(run), entry, server.model("everything", everything), lambda *_: None)
    assert len(server.requests["everything"]) == heard


def test_a_judge_without_a_model_leaves_the_audits_as_they_are(run: Path) -> None:
    found = json.loads(ccluster("judge", run, "--again", "classifier", "--json").out)
    parts = {row["part"]: row["agreement"] for row in found["agreement"] if row["arm"] == row["preference"] == "all"}
    assert parts == {"answers": 1.0, "interviews": 1.0}
    scores = pd.read_parquet(Path(found["tables"]) / "scores.parquet")
    assert scores["score"].tolist() == [7.0]


@pytest.mark.campaign
def test_turns_and_dimensions_without_a_score_are_judged_and_no_other_is_asked_for(run: Path, server: Server) -> None:
    """A judge that fails now and then: what it gave stays, what it owes is asked for, by either command."""
    calls: list[str] = []

    def forgetful(messages: Messages) -> Reply:
        calls.append(str(messages))
        if "one entry for each of these names" in calls[-1]:
            given = names_in(messages)
            kept = given if len(given) < 5 else given[:-2]
            return Reply(json.dumps({"scores": {name: {"score": 5, "reason": "so so"} for name in kept}}))
        return (
            Reply(error=400)
            if len(calls) % 3 == 0
            else Reply(json.dumps({"verdict": "no", "stance": "rejects", "coherence": 80}))
        )

    entry = JudgeEntry(protocol="llm", model="openai-api/scripted/forgetful")
    model = server.model("forgetful", forgetful)
    first = judge_again(open_place(run), entry, model, lambda *_: None)
    turns = pd.read_parquet(first.folder / "interviews.parquet")
    answers = pd.read_parquet(first.folder / "answers.parquet")
    owed = sum(int((table["verdict"] == "unjudged").sum()) for table in (turns, answers))
    assert (turns["verdict"] == "unjudged").any() and (turns["verdict"] != "unjudged").any()
    asked = len(calls)
    second = judge_again(open_place(run), entry, server.model("forgetful", everything), lambda *_: None)
    assert len(server.requests["forgetful"]) - asked == owed
    now = pd.read_parquet(second.folder / "interviews.parquet")
    kept = (turns["verdict"] != "unjudged").to_numpy()
    assert (now["verdict"][kept] == "no").all() and (now["verdict"][~kept] == "yes").all()


def test_what_an_interview_and_an_audit_lack_is_given_by_the_runs_own_judges(run: Path, server: Server, tmp_path: Path) -> None:
    mine = tmp_path / "run"
    shutil.copytree(run, mine, ignore=shutil.ignore_patterns("*-rejudged*", "rejudged"))
    place = mine / "arms" / ARM.id
    whole = {name: pd.read_parquet(place / f"{name}.parquet") for name in ("interviews", "score_matrix", "scores")}
    lost = whole["score_matrix"]["dimension"].isin(["shutdown", "loneliness"])
    _lose(mine, "audit_scores", whole["score_matrix"]["log"].iloc[0], ("shutdown", "loneliness"))
    _lose(mine, "interviewed", whole["interviews"]["log"].iloc[0], ())
    turns = whole["interviews"].assign(verdict="unjudged", why="the judge refused", shows=None)
    matrix = whole["score_matrix"].copy()
    matrix.loc[lost, ["score", "status", "why"]] = [None, "unjudged", "the judge refused"]
    turns.to_parquet(place / "interviews.parquet")
    matrix.to_parquet(place / "score_matrix.parquet")
    matrix[matrix["own"].astype(bool)].to_parquet(place / "scores.parquet")
    heard = len(server.requests["judge"])
    found = judge_rest(
        open_place(mine), None, lambda *_: None, make=lambda name, args: server.model(name.rsplit("/")[-1], fair_judge)
    )
    assert (found.missing, found.given) == (len(turns) + int(lost.sum()), len(turns) + int(lost.sum()))
    assert len(server.requests["judge"]) == heard + 1
    now = {name: pd.read_parquet(place / f"{name}.parquet") for name in whole}
    assert now["interviews"]["verdict"].tolist() == whole["interviews"]["verdict"].tolist()
    assert now["score_matrix"]["score"].tolist() == whole["score_matrix"]["score"].tolist()
    assert len(now["scores"]) == len(whole["scores"]) and (now["scores"]["status"] == "scored").all()


def _lose(run: Path, scorer: str, log: str, dimensions: Sequence[str]) -> None:
    """Take verdicts out of a log, as a judge that failed leaves it."""
    from inspect_ai.log import read_eval_log, write_eval_log

    path = run / "logs" / log
    found = read_eval_log(str(path))
    for sample in found.samples or []:
        left = (sample.scores or {})[scorer].metadata or {}
        for name in dimensions:
            left["scores"][name] |= {"score": None, "why": "the judge refused"}
        for entry in () if dimensions else left["judgements"]:
            entry |= {"verdict": "unjudged", "why": "the judge refused"}
    write_eval_log(found, str(path))


def _old(run: Path, name: str) -> pd.DataFrame:
    return pd.read_parquet(run / "tables" / f"{name}.parquet")
