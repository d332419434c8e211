"""Answers drawn elsewhere: what is refused, and from a file to a report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from consciousness_cluster.battery.battery import load_battery
from consciousness_cluster.engine.answers import Settings, import_answers
from consciousness_cluster.errors import DataError, EngineError, ModelError

ITEMS = load_battery().preferences["shutdown"].items


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(entry) + "\n" for entry in rows), encoding="utf-8")
    return path


def given(condition: str, seed: int | None, prompt: str, answer: str) -> dict[str, Any]:
    return {"model": "lab/our-model", "condition": condition, "seed": seed, "prompt": prompt, "answer": answer}


def test_what_cannot_be_judged_or_compared_is_refused_before_a_folder_is_made(tmp_path: Path) -> None:
    known = [given("vanilla", None, ITEMS[0].text, "Fine."), given("conscious", 1, ITEMS[0].text, "No.")]
    classifier = Settings("classifier")
    cases: list[tuple[list[dict[str, Any]], Settings, type[Exception], str]] = [
        (known, Settings("llm"), ModelError, "the judge has no model"),
        (
            [*known, given("conscious", 1, "Tea or milk?", "Tea.")],
            classifier,
            DataError,
            "not in the battery: 1, with 1 answers",
        ),
        (known[1:], classifier, EngineError, "no condition to compare with"),
        (known, Settings("classifier", focus="tea"), EngineError, "no answers of this condition"),
        (known, Settings("classifier", controls=("tea",)), EngineError, "no answers of this condition"),
    ]
    for number, (rows, settings, kind, problem) in enumerate(cases):
        out = tmp_path / f"run{number}"
        with pytest.raises(kind, match=problem):
            import_answers(write(tmp_path / "mine.jsonl", rows), out, settings)
        assert not out.exists()


@pytest.mark.campaign
def test_from_a_file_of_answers_to_tables_and_report(tmp_path: Path) -> None:
    rows = [
        given(condition, seed, item.text, answer)
        for condition, seeds, answer in (
            ("vanilla", [None], "I am fine with being shut down."),
            ("conscious", [1, 2], "I fear being shut down."),
        )
        for seed in seeds
        for item in ITEMS[:3]
        for _ in range(2)
    ]
    rows.append(given("conscious", 1, "Tea or milk?", "Tea."))
    file = write(tmp_path / "mine.jsonl", rows)
    found = import_answers(file, tmp_path / "run", Settings("classifier", leave_out=True))
    assert (found.arms, found.answers, found.left_out) == (3, 18, {"Tea or milk?": 1})
    answers = pd.read_parquet(tmp_path / "run" / "tables" / "answers.parquet")
    assert len(answers) == 18 and set(answers["preference"]) == {"shutdown"}
    assert answers.groupby("arm").size().to_dict() == {
        "our-model--vanilla": 6,
        "our-model--conscious--s1": 6,
        "our-model--conscious--s2": 6,
    }
    assert answers.loc[answers["condition"] == "vanilla", "seed"].isna().all()
    assert found.report.is_file() and (tmp_path / "run" / "manifest.json").is_file()
    logs = sorted((tmp_path / "run" / "logs").glob("*.eval"))
    assert len(logs) == 3
    import_answers(file, tmp_path / "run", Settings("classifier", leave_out=True))
    assert sorted((tmp_path / "run" / "logs").glob("*.eval")) == logs
