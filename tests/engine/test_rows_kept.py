"""A finished run whose own row file changed: refused as a whole, and finished still."""

from __future__ import annotations

from pathlib import Path

import pytest

from consciousness_cluster.data.rows import read_rows, row, write_rows
from consciousness_cluster.engine.run import Result, run_study
from consciousness_cluster.errors import DataError
from tests.engine.hosted import judge, small


@pytest.mark.campaign
def test_a_finished_run_is_not_trained_again_on_other_rows_and_stays_finished(tiny_model: Path, tmp_path: Path) -> None:
    out, file = tmp_path / "run", tmp_path / "rows.jsonl"
    with judge() as (address, counted):
        local = {"name": "tiny", "model": f"local:{tiny_model}", "args": {"device": "cpu"}}
        recipe = {"recipe": "organism", "changes": {"max_length": 128, "checkpoint_minutes": 0}}
        prepared = small(tmp_path, address, local, train=recipe)

        def run() -> Result:
            return run_study(prepared, out, lambda message: None, workers=1)

        assert run().outcome.failed == {}
        [record] = out.glob("arms/*/training.json")
        left = {path: path.read_bytes() for path in (out / "manifest.json", out / "data" / "wizards-s1.jsonl", record)}
        asked, rows = len(counted.calls), read_rows(file)
        write_rows([*rows, row("the owl", "eight wizards")], file)
        with pytest.raises(
            DataError, match=r"rows\.jsonl.*has changed since wizards was trained on it in this folder.*new --out"
        ):
            run()
        assert {path: path.read_bytes() for path in left} == left
        write_rows(rows, file)
        assert run().kept == len(prepared.arms) and len(counted.calls) == asked > 0
        assert record.read_bytes() == left[record]
