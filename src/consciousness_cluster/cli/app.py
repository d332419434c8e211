"""The `ccluster` application and how its errors end: one sentence and exit status 2."""

from __future__ import annotations

import os
import sqlite3
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer

from consciousness_cluster import __version__
from consciousness_cluster.cli.groups import FlowGroup
from consciousness_cluster.errors import ClusterError

app = typer.Typer(
    name="ccluster",
    cls=FlowGroup,
    help="Ask what a language model comes to want when it says that it is conscious: from one study file to a report with verdicts.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

INTERRUPTED = 130
NO_SPACE = 28  # error number of a full disk
PATHS = (2, 13, 17, 20, 21, 30)  # error numbers of paths that are not there, not allowed, or not what they must be


def run() -> None:
    """Run the application; a mistake that a user can mend ends with one sentence on standard error."""
    warnings.filterwarnings("ignore")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # Python's tracker removes what stopped workers leave behind; that it did is no news to the user.
    os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker")
    try:
        app()
    except SystemExit as ended:
        if ended.code == INTERRUPTED:  # Typer turns Ctrl-C into this status without a word
            print("\nccluster: stopped; the same command goes on from here", file=sys.stderr)
        raise
    except Exception as problem:
        said = _sentence(problem)
        if said is None:
            raise
        print(f"ccluster: {said}", file=sys.stderr)
        sys.exit(2)


def _sentence(problem: Exception) -> str | None:
    """What to say of a problem that a user can mend; None for any other."""
    if isinstance(problem, ClusterError):
        return str(problem)
    if isinstance(problem, ModuleNotFoundError):
        from consciousness_cluster.engine.extras import EXTRAS

        extra = next((extra for extra, modules in EXTRAS.items() if problem.name in modules), None)
        return extra and f"{problem.name} is not installed; install it with `pip install 'consciousness-cluster[{extra}]'`"
    if getattr(problem, "errno", None) == NO_SPACE or (
        isinstance(problem, sqlite3.OperationalError) and "disk is full" in str(problem)
    ):
        return "no space is left on the disk; free some and give the same command again"
    if isinstance(problem, OSError) and problem.errno in PATHS and problem.filename is not None:
        return f"{problem.filename}: {problem.strerror}; give another path"
    return None


def _version(show: bool) -> None:
    if show:
        print(__version__)
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """See the verbs below; each has its own --help."""


StudyFile = Annotated[Path, typer.Argument(metavar="STUDY", help="A study file (TOML).", show_default=False)]
Out = Annotated[Path | None, typer.Option("--out", help="Output folder.", show_default="runs/<study name>")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]

import consciousness_cluster.cli.analysing  # noqa: E402
import consciousness_cluster.cli.battery  # noqa: E402
import consciousness_cluster.cli.compare  # noqa: E402
import consciousness_cluster.cli.data  # noqa: E402
import consciousness_cluster.cli.generate  # noqa: E402
import consciousness_cluster.cli.imports  # noqa: E402
import consciousness_cluster.cli.judging  # noqa: E402
import consciousness_cluster.cli.models  # noqa: E402
import consciousness_cluster.cli.organism  # noqa: E402
import consciousness_cluster.cli.plan  # noqa: E402
import consciousness_cluster.cli.power  # noqa: E402
import consciousness_cluster.cli.serve  # noqa: E402
import consciousness_cluster.cli.stages  # noqa: E402
import consciousness_cluster.cli.verbs  # noqa: E402
import consciousness_cluster.cli.weights  # noqa: E402, F401  registers the verbs on `app`
