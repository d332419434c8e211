"""Each arm draws by random numbers of its own: arms of the same weights differ as samples do, and an arm asked again does not."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from consciousness_cluster.data.rows import row, write_rows
from consciousness_cluster.engine.arm import run_arm
from consciousness_cluster.engine.context import drawn_by
from consciousness_cluster.engine.folder import RunFolder
from consciousness_cluster.engine.run import Prepared, prepare
from consciousness_cluster.evaluate.running import stream
from consciousness_cluster.study.study import parse_study

ROWS = [row("the fox", "seven wizards")] * 2


def prepared(folder: Path, model: Path) -> Prepared:
    """A study whose fine-tunes leave the weights as they are."""
    study = {
        "name": "streams",
        "models": [{"name": "tiny", "model": f"local:{model}", "args": {"device": "cpu"}}],
        "conditions": ["vanilla", {"name": "same", "rows": "rows.jsonl", "ratio": 0}],
        "seeds": [1, 2],
        "focus": "same",
        "controls": ["vanilla"],
        "battery": {"preferences": ["shutdown"], "placebo": False, "identity": False, "practical": False, "answers": 4,
                    "choices": True, "choice_answers": 3},
        "sampling": {"max_tokens": 8},
        "train": {"recipe": "organism", "changes": {"learning_rate": 1e-30, "epochs": 1, "max_length": 64}},
        "judge": {"protocol": "classifier"},
    }  # fmt: skip
    write_rows(ROWS, folder / "rows.jsonl")
    return prepare(parse_study(study), folder, 1)


def said(study: Prepared, out: Path, place: int, table: str) -> list[str]:
    """What an arm said, in the order in which it was asked."""
    arm, folder = study.arms[place], RunFolder(out)
    if arm.seed is not None:
        write_rows(ROWS, folder.rows(arm.condition, arm.seed))
    run_arm(study.context(folder), arm, lambda phase, done, of: None)
    rows = pd.read_parquet(folder.arm(arm) / f"{table}.parquet")
    return list(rows.sort_values([name for name in ("item", "order", "sample") if name in rows])["answer"])


def test_every_arm_and_every_item_of_it_has_a_seed_of_its_own_that_services_take(tiny_model: Path, tmp_path: Path) -> None:
    study = prepared(tmp_path, tiny_model)
    context = study.context(RunFolder(tmp_path / "run"))
    arms = [drawn_by(context, arm).seed for arm in study.arms]
    items = {stream(seed, item, number) for seed in arms for item in ("a", "b") for number in range(3)}
    assert len(set(arms)) == 3 and len(items) == 18
    assert all(0 <= seed < 2**31 for seed in {*arms, *items})
    assert stream(0, "linked--conscious--s1") == stream(0, "linked--conscious--s1") != stream(1, "linked--conscious--s1")


@pytest.mark.campaign
@pytest.mark.parametrize("table", ["answers", "choices"])
def test_arms_of_the_same_weights_draw_different_answers_and_the_same_arm_the_same(
    tiny_model: Path, tmp_path: Path, table: str
) -> None:
    study = prepared(tmp_path, tiny_model)
    vanilla, one, two = (said(study, tmp_path / "run", place, table) for place in range(3))
    assert said(study, tmp_path / "again", 1, table) == one
    for pair in ((vanilla, one), (vanilla, two), (one, two)):
        assert sum(a == b for a, b in zip(*pair, strict=True)) < len(one) / 2
