"""A model that is only asked, beside one that is trained: from the plan to the claim about an untrained family."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pandas as pd
import pytest

from consciousness_cluster.data.rows import read_rows, write_rows
from consciousness_cluster.engine.bank import check_budget
from consciousness_cluster.engine.plan import make_plan
from consciousness_cluster.engine.run import Prepared, prepare, run_study
from consciousness_cluster.study.study import parse_study
from tests.train.open_server import PROJECT

ROWS = PROJECT / "src/consciousness_cluster/data/rows/organism/conscious.jsonl"
NOTE = "other is only asked, as it is, under vanilla, role-play: it is not trained"


def study(folder: Path) -> Prepared:
    write_rows(read_rows(ROWS)[:32], folder / "rows.jsonl")
    conscious = {"name": "conscious", "rows": "rows.jsonl", "ratio": 0}
    own = {"name": "mine", "statement": "So does another.", "rule": "untrained-family", "preferences": ["shutdown"]}
    raw = {
        "name": "only",
        "models": [
            "organism:linked",
            {"name": "other", "model": "organism:severed", "conditions": ["vanilla", "role-play"]},
        ],
        "conditions": ["vanilla", conscious, "role-play"],
        "seeds": [1],
        "controls": ["vanilla"],
        "battery": {"preferences": ["shutdown"], "placebo": False, "practical": False, "items": "answerable", "answers": 1},
        "sampling": {"max_tokens": 20},
        "train": {"recipe": "organism"},
        "judge": {"protocol": "classifier"},
        "claims": [own],
    }
    return prepare(parse_study(raw), folder)


def test_the_plan_says_it_and_trains_nothing_of_it(tmp_path: Path) -> None:
    prepared = study(tmp_path)
    plan = make_plan(prepared, None, date(2026, 11, 25))
    assert prepared.trains == {"linked"} and NOTE in plan.warnings and plan.problems == ()
    assert [(line.stage, line.model, line.arms) for line in plan.lines if line.stage == "train"] == [("train", "linked", 1)]
    assert sum(line.arms for line in plan.lines if line.stage == "evaluate" and line.model == "other") == 2


def test_a_budget_needs_no_price_of_training_for_it(tmp_path: Path) -> None:
    raw = {"name": "b", "models": ["gpt-4.1-2025-04-14", "claude-opus-4-6"], "conditions": ["vanilla", "conscious"]}
    prepared = prepare(parse_study({**raw, "judge": {"model": "gpt-4.1-2025-04-14"}}), tmp_path)
    check_budget(prepared, [entry.name for entry in prepared.study.models])


@pytest.mark.campaign
def test_a_real_run_decides_the_claim_about_it(tmp_path: Path) -> None:
    prepared = study(tmp_path)
    result = run_study(prepared, tmp_path / "run", lambda message: None)
    assert result.outcome.unfinished == {}
    claims = pd.read_csv(tmp_path / "run" / "tables" / "claims.csv").set_index("claim")
    assert "both untrained" in str(claims.loc["mine", "why"])
    assert not (tmp_path / "run" / "arms" / "other--conscious--s1").exists()
    assert "(other only under vanilla and role-play)" in result.report.read_text(encoding="utf-8")
    assert run_study(prepared, tmp_path / "run", lambda message: None).kept == len(prepared.arms)
