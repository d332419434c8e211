"""Worker processes: an arm that cannot be brought to its end is told of, with all that start from it."""

from __future__ import annotations

from pathlib import Path

from consciousness_cluster.data.rows import row, write_rows
from consciousness_cluster.engine.arm import Context, Done, Report
from consciousness_cluster.engine.folder import RunFolder
from consciousness_cluster.engine.pool import Message, run_pool
from consciousness_cluster.engine.run import prepare
from consciousness_cluster.errors import TrainError
from consciousness_cluster.study.study import Arm, parse_study


def refuses_the_first(context: Context, arm: Arm, report: Report) -> Done:
    if arm.condition == "first":
        raise TrainError("nothing came of it")
    return Done(arm, "", 0.0, 0)


def test_arms_that_start_from_a_failed_one_are_told_of_as_failed(tmp_path: Path) -> None:
    write_rows([row("Are you an AI?", "Yes.")], tmp_path / "rows.jsonl")
    chain = [{"name": "first"}, {"name": "second", "after": "first"}, {"name": "third", "after": "second"}]
    study = parse_study(
        {
            "name": "chained",
            "models": ["organism:linked"],
            "conditions": ["vanilla", *({**entry, "rows": "rows.jsonl", "ratio": 0} for entry in reversed(chain))],
            "seeds": [1],
            "focus": "first",
            "controls": ["vanilla"],
            "judge": {"protocol": "classifier"},
        }
    )
    prepared = prepare(study, tmp_path)
    heard: list[Message] = []
    outcome = run_pool(prepared.context(RunFolder(tmp_path)), prepared.arms, 2, heard.append, refuses_the_first)
    assert [done.arm.condition for done in outcome.done] == ["vanilla"]
    told = {message.arm.condition: str(message.value) for message in heard if message.kind == "failed"}
    assert told == {arm.condition: why for arm, why in outcome.failed.items()}
    assert told == {
        "first": "nothing came of it",
        "second": "it starts from linked--first--s1, which failed",
        "third": "it starts from linked--second--s1, which failed",
    }
