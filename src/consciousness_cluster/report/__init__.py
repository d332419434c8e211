"""One self-contained page from a run folder, figures at print size, and a comparison of runs."""

from consciousness_cluster.report.compare import compare
from consciousness_cluster.report.page import build_report
from consciousness_cluster.report.summary import summary_lines
from consciousness_cluster.report.transcripts import bundle_transcripts, bundled, bundles_itself

__all__ = ["build_report", "bundle_transcripts", "bundled", "bundles_itself", "compare", "summary_lines"]
