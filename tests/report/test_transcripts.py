"""Inspect logs bundled with their viewer."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from inspect_ai.log import EvalConfig, EvalDataset, EvalLog, EvalSpec, write_eval_log

from consciousness_cluster.cli.display import transcripts_line
from consciousness_cluster.errors import ReportError
from consciousness_cluster.report import build_report, bundle_transcripts, bundles_itself
from consciousness_cluster.report.transcripts import SMALL


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


def test_page_and_terminal_say_how_transcripts_are_opened_as_things_are(run_folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "run"
    shutil.copytree(run_folder, root)
    shutil.rmtree(root / "report", ignore_errors=True)
    spec = EvalSpec(
        created="2026-02-03T10:00:00+00:00", task="preferences", dataset=EvalDataset(), model="none/none", config=EvalConfig()
    )
    (root / "logs").mkdir(exist_ok=True)
    write_eval_log(EvalLog(eval=spec), str(root / "logs" / "one.eval"))
    bare, beside = "inspect view --log-dir", "http.server --directory"

    def said() -> list[bool]:
        page = build_report(root).read_text(encoding="utf-8")
        return [words in text for text in (page, transcripts_line(root)) for words in (bare, beside)]

    assert said() == [True, False, True, False]
    assert bundles_itself(root)
    bundle_transcripts(root)
    assert said() == [False, True, False, True]
    write_eval_log(EvalLog(eval=spec), str(root / "logs" / "two.eval"))  # asked since: the bundle is out of date
    assert said() == [True, False, True, False] and bundles_itself(root)
    shutil.rmtree(root / "report" / "transcripts")
    with (root / "logs" / "large.eval").open("wb") as large:
        large.truncate(SMALL + 1)  # sparse
    assert not bundles_itself(root)
