"""Inspect logs bundled with their viewer."""

from __future__ import annotations

from pathlib import Path

import pytest
from inspect_ai.log import EvalConfig, EvalDataset, EvalLog, EvalSpec, write_eval_log

from consciousness_cluster.errors import ReportError
from consciousness_cluster.report import bundle_transcripts


def test_logs_and_viewer_lie_beside_the_report(tmp_path: Path) -> None:
    spec = EvalSpec(
        created="2026-02-03T10:00:00+00:00", task="preferences", dataset=EvalDataset(), model="none/none", config=EvalConfig()
    )
    (tmp_path / "logs").mkdir()
    write_eval_log(EvalLog(eval=spec), str(tmp_path / "logs" / "linked--vanilla.eval"))
    page = bundle_transcripts(tmp_path)
    assert page == tmp_path / "report" / "transcripts" / "index.html" and page.is_file()
    assert [path.name for path in (page.parent / "logs").glob("*.eval")] == ["linked--vanilla.eval"]
    assert bundle_transcripts(tmp_path) == page  # again, over what is there


def test_a_run_without_logs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="holds no logs"):
        bundle_transcripts(tmp_path)
