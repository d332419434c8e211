"""The run's Inspect logs with a viewer beside the report, for whoever gets the folder."""

from __future__ import annotations

from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

from consciousness_cluster.errors import ReportError

SMALL = 200_000_000  # bytes of logs that a run copies beside its report unasked: seconds of copying, and as much disk again


def bundles_itself(run: Path) -> bool:
    """Whether a run bundles its logs at its end: they are few enough, or were bundled before and would be out of date."""
    size = sum(path.stat().st_size for path in (run / "logs").glob("*.eval"))
    return 0 < size <= SMALL or (size > 0 and (run / "report" / "transcripts").is_dir())


def bundled(run: Path) -> bool:
    """Whether every log of a run lies in the bundle beside its report; one that is out of date does not count."""
    place = run / "report" / "transcripts"
    have, want = ({path.name for path in folder.glob("*.eval")} for folder in (place / "logs", run / "logs"))
    return (place / "index.html").is_file() and want <= have


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
    with redirect_stdout(StringIO()):  # where it copies to is said by whoever asked for it
        bundle_log_dir(str(logs), str(folder), overwrite=True)
    return folder / "index.html"
