"""The run's Inspect logs with a viewer beside the report, for whoever gets the folder."""

from __future__ import annotations

from pathlib import Path

from consciousness_cluster.errors import ReportError


def bundle_transcripts(run: Path) -> Path:
    """Copy `logs/` and Inspect's viewer (about 11 MB) to `report/transcripts/`; returns its page.

    The viewer reads the logs by request, so the folder must be served:
    `python -m http.server --directory runs/<study>/report/transcripts`.

    Raises:
        ReportError: the run has no logs.
    """
    logs = run / "logs"
    if not any(logs.glob("*.eval")):
        raise ReportError("holds no logs to bundle", file=logs, next_step="give the output folder of `ccluster run`")
    from inspect_ai.log import bundle_log_dir

    folder = run / "report" / "transcripts"
    folder.parent.mkdir(parents=True, exist_ok=True)
    bundle_log_dir(str(logs), str(folder), overwrite=True)
    return folder / "index.html"
