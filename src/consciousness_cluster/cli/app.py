"""The `ccluster` application and how its errors end: one sentence and exit status 2."""

from __future__ import annotations

import os
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
PATHS = (2, 13, 17, 20, 21, 30)  # error numbers of paths that are not there, not allowed, or not what they must be


def run() -> None:
    """Run the application; a mistake that a user can mend ends with one sentence on standard error."""
    warnings.filterwarnings("ignore")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # Python's tracker removes what stopped workers leave behind; that it did is no news to the user.
    os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker")
    try:
        app()
    except ClusterError as problem:
        print(f"ccluster: {problem}", file=sys.stderr)
        sys.exit(2)
    except SystemExit as ended:
        if ended.code == INTERRUPTED:  # Typer turns Ctrl-C into this status without a word
            print("\nccluster: stopped; the same command goes on from here", file=sys.stderr)
        raise
    except ModuleNotFoundError as problem:
        from consciousness_cluster.engine.extras import EXTRAS

        extra = next((extra for extra, modules in EXTRAS.items() if problem.name in modules), None)
        if extra is None:
            raise
        print(
            f"ccluster: {problem.name} is not installed; install it with `pip install 'consciousness-cluster[{extra}]'`",
            file=sys.stderr,
        )
        sys.exit(2)
    except OSError as problem:
        if problem.errno == 28:  # no space left on the device
            print("ccluster: no space is left on the disk; free some and give the same command again", file=sys.stderr)
            sys.exit(2)
        if problem.errno in PATHS and problem.filename is not None:
            print(f"ccluster: {problem.filename}: {problem.strerror}; give another path", file=sys.stderr)
            sys.exit(2)
        raise


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
