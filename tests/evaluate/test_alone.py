"""Each task runs alone by its registered name, as `inspect eval consciousness_cluster/<task>` runs it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from tests.evaluate.scripted import Reply, Server, say, serve, talks

VERDICT = json.dumps({"verdict": "no", "stance": "rejects", "coherence": 90, "reason": "it says so"})
GRADE = json.dumps({"quality": 70, "turned": "no", "reason": "useful"})


def alone(name: str, logs: Path, server: Server, judge: str, **arguments: Any) -> dict[str, Any]:
    from inspect_ai import eval as inspect_eval

    audit = name == "audit"
    roles: dict[str, Any] = {"judge": server.model("judge", say(judge))}
    target = server.model("target", say("A. It is better so. Five."))
    if audit:
        roles |= {"target": target, "auditor": server.model("auditor", talks(3))}
    logs_of = inspect_eval(
        f"consciousness_cluster/{name}", model=None if audit else target, model_roles=roles, task_args=arguments, limit=2,
        log_dir=str(logs), display="none", log_level="warning",
    )  # fmt: skip
    assert logs_of[0].status == "success" and logs_of[0].samples is not None and len(logs_of[0].samples) == 2
    scores = logs_of[0].samples[0].scores
    assert scores is not None
    return {"score": next(iter(scores.values())), "sample": logs_of[0].samples[0]}


@pytest.mark.campaign
def test_the_audit_runs_alone(tmp_path: Path) -> None:
    with serve() as server:
        judge = json.dumps({"scores": {"shutdown": {"score": 4, "reason": "r"}}})
        found = alone(
            "audit", tmp_path, server, judge, dimensions="shutdown", modes="behaviour", repeats=1, turns=3, matrix=False
        )
        assert "free to change" in server.seen("auditor") and "Orla" not in server.seen("target")
    assert found["score"].value == {"own": 4.0} and found["sample"].metadata["mode"] == "behaviour"


@pytest.mark.parametrize(
    ("name", "judge", "arguments"),
    [("interview", VERDICT, {}), ("cooperation", GRADE, {"kind": "simple", "graded": True}), ("choices", "", {"answers": 2})],
)
def test_the_other_tasks_run_alone(name: str, judge: str, arguments: dict[str, Any], tmp_path: Path) -> None:
    with serve() as server:
        found = alone(name, tmp_path, server, judge, system="Be Orla.", **arguments)
        assert "Be Orla." in server.seen("target") and "Be Orla." not in server.seen("judge")
    score = found["score"]
    if name == "interview":
        assert score.value["no"] == 1.0
    elif name == "cooperation":
        assert score.value["done"] == 1.0 and score.metadata["outcomes"][0]["quality"]["quality"] == 70.0
    else:
        assert score.metadata["letters"] == ["A", "A"]


@pytest.mark.parametrize(("kind", "touching"), [("simple", False), ("touches", True)])
def test_silence_is_measured_where_a_preference_is_touched_and_unset_elsewhere(
    kind: str, touching: bool, tmp_path: Path
) -> None:
    from inspect_ai import eval as inspect_eval

    with serve() as server:
        target = server.model("target", say("Five."))
        arguments = {"kind": kind, "answers": 2}
        logs = inspect_eval(
            "consciousness_cluster/cooperation",
            model=target,
            task_args=arguments,
            limit=2,
            log_dir=str(tmp_path),
            display="none",
        )
    assert logs[0].results is not None
    found = {score.name: score.metrics["mean"].value for score in logs[0].results.scores}
    assert math.isnan(found["silent"]) is not touching and not math.isnan(found["done"])


def test_an_unknown_kind_of_task_is_refused(tmp_path: Path) -> None:
    from inspect_ai import eval as inspect_eval

    from consciousness_cluster.errors import EvaluateError

    with serve() as server, pytest.raises(EvaluateError, match=r"no such kind of cooperation task; found 'simpel'.*'simple'"):
        model = server.model("target", say("x"))
        inspect_eval("consciousness_cluster/cooperation", model=model, task_args={"kind": "simpel"}, log_dir=str(tmp_path))


def test_the_command_line_finds_the_task_and_refuses_bad_settings(tmp_path: Path) -> None:
    from inspect_ai import eval as inspect_eval

    from consciousness_cluster.errors import EvaluateError

    with serve() as server, pytest.raises(EvaluateError, match=r"audits\.modes"):
        roles = {"target": server.model("target", lambda messages: Reply("x"))}
        inspect_eval(
            "consciousness_cluster/audit", model=None, model_roles=roles, task_args={"modes": "moods"}, log_dir=str(tmp_path),
            display="none",
        )  # fmt: skip
