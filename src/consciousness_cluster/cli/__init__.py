"""The command line: verbs only. It parses, calls one function per stage, and prints."""

from __future__ import annotations


def main() -> None:
    """Run `ccluster`."""
    from consciousness_cluster.cli.app import run

    run()
