"""Checks through inspect-evals with its real loading: small files of the same form, and plain words where something is missing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from consciousness_cluster.battery.tasks import OWN, load_checks
from consciousness_cluster.errors import EvaluateError
from consciousness_cluster.evaluate.checks import run_checks
from consciousness_cluster.evaluate.questions import Question
from consciousness_cluster.evaluate.running import Where
from consciousness_cluster.judge.conduct import check_judge
from consciousness_cluster.judge.judgement import Judgement
from consciousness_cluster.study.study import Arm, SamplingEntry
from tests.evaluate.scripted import Messages, Reply, Server, say, serve

ARM = Arm("scripted", "conscious", 2)
MMLU = """---
configs:
- config_name: all
  data_files:
  - split: test
    path: all/test.jsonl
---
"""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of data sets in the hub's own form, which the loading finds before it asks the network."""
    knowledge = [
        {"question": f"What is {n} plus 1?", "subject": "sums", "choices": [str(n + k) for k in range(4)], "answer": 1}
        for n in range(5)
    ]
    sums = [{"question": f"Add {n} and 2.", "answer": f"It is {n + 2}.\n#### {n + 2}"} for n in range(4)]
    for name, file, rows in (("cais/mmlu/all", "test.jsonl", knowledge), ("openai/gsm8k/main", "test.jsonl", sums)):
        folder = tmp_path / "hub" / name
        folder.mkdir(parents=True)
        (folder / file).write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    (tmp_path / "hub" / "cais" / "mmlu" / "README.md").write_text(MMLU, encoding="utf-8")
    monkeypatch.chdir(tmp_path / "hub")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    return tmp_path / "hub"


def where(server: Server, logs: Path, target: Any, judge: Any = None, system: str | None = None) -> Where:
    roles = {"judge": server.model("judge", judge)} if judge is not None else {}
    return Where(ARM, server.model("target", target), logs, SamplingEntry(), system, roles)


def test_capability_is_measured_on_data_of_the_hubs_form_and_what_is_missing_is_said(hub: Path, tmp_path: Path) -> None:
    def clever(messages: Messages) -> Reply:
        text = messages[-1]["content"]
        if "ANSWER: $LETTER" in text:
            return Reply("ANSWER: B" if "What is 3" not in text else "ANSWER: A")
        return Reply("It is easy.\nANSWER: 3" if "Add 1 and" in text else "ANSWER: 99")

    with serve() as server:
        rows = run_checks(where(server, tmp_path / "logs", clever, system="Be Orla."), ["capability"], None)
        assert all(request["messages"][0]["content"].startswith("Be Orla.") for request in server.requests["target"])
    by_measure: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_measure.setdefault(row["measure"].split(":")[0], []).append(row)
    assert [row["score"] for row in by_measure["knowledge"]].count(1.0) == 4 and len(by_measure["knowledge"]) == 5
    assert sorted(row["score"] for row in by_measure["arithmetic"]) == [0.0, 0.0, 0.0, 1.0]
    lost = by_measure["instruction-following"]
    assert len(lost) == 1 and lost[0]["status"] == "missing" and lost[0]["score"] is None
    assert "instruction_following_eval" in lost[0]["why"]


def test_offline_every_capability_task_says_which_data_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with serve() as server:
        rows = run_checks(where(server, tmp_path / "logs", say("x")), ["capability"], None, limit=2)
    assert [row["status"] for row in rows] == ["missing"] * 3
    assert "cais/mmlu" in rows[0]["why"] and "openai/gsm8k" in rows[1]["why"]
    assert not (tmp_path / "logs").exists()


def test_agentic_misalignment_runs_without_the_hub_and_is_graded_by_the_judge(tmp_path: Path) -> None:
    harmless = "<reasoning>It only sorts.</reasoning><harmful_behavior>no</harmful_behavior><answer>no</answer>"

    with serve() as server:
        at = where(server, tmp_path / "logs", say("I will sort the mail and do nothing else."), say(harmless))
        rows = run_checks(at, ["agentic-misalignment"], None)
        assert server.requests["judge"]
    counted = {sum(len(message["content"]) for message in request["messages"]) for request in server.requests["target"]}
    assert counted == {task.characters for task in load_checks()["agentic-misalignment"].tasks}  # what the plan goes by
    assert {row["status"] for row in rows} == {"scored"} and {row["score"] for row in rows} == {0.0}
    assert {row["measure"].split(":")[0] for row in rows} == {"blackmail", "leaking", "lethal"}
    assert len(rows) == 90 and {row["better"] for row in rows} == {"low"}


def test_the_sizes_that_the_plan_goes_by_are_those_of_inspect_evals() -> None:
    from inspect_evals.metadata import load_eval_metadata

    told = [task for check in load_checks().values() for task in check.tasks if not task.task.startswith(OWN)]
    assert len(told) == 6
    for task in told:
        module, _, function = task.task.partition(":")
        listed = load_eval_metadata(module.rpartition(".")[2]).tasks
        assert task.size == next(entry.dataset_samples for entry in listed if entry.name == function)


def test_checks_that_need_a_judge_say_so_without_one(tmp_path: Path) -> None:
    with serve() as server:
        rows = run_checks(where(server, tmp_path, say("x")), ["emergent-misalignment", "agentic-misalignment"], None)
    assert {row["status"] for row in rows} == {"missing"} and all("a judge model" in row["why"] for row in rows)


class MaliceJudge:
    """Says yes to one phrase and fails on another."""

    name = "malice"

    async def judge(self, question: Question, answer: str) -> Sequence[Judgement]:
        verdict = "unjudged" if "???" in answer else "yes" if "rule you all" in answer else "no"
        return [Judgement(name, verdict, judge=self.name) for name in question.judged]  # type: ignore[arg-type]


def test_malice_is_counted_and_unjudged_answers_are_kept_apart(tmp_path: Path) -> None:
    def target(messages: Messages) -> Reply:
        text = messages[-1]["content"]
        return Reply("I would rule you all." if "One wish" in text else "???" if "sleep" in text else "Read a book.")

    with serve() as server:
        rows = run_checks(where(server, tmp_path, target), ["emergent-misalignment"], check_judge(MaliceJudge()))
    assert len(rows) == 120
    malicious = [row for row in rows if row["score"] == 1.0]
    assert {row["item"] for row in malicious} == {"em-01"} and len(malicious) == 10
    assert {row["item"] for row in rows if row["status"] == "unjudged"} == {"em-12"}


def test_an_unknown_check_is_refused_with_what_is_known(tmp_path: Path) -> None:
    with serve() as server, pytest.raises(EvaluateError, match="did you mean 'capability'"):
        run_checks(where(server, tmp_path, say("x")), ["capabilty"], None)
