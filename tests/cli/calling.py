"""`ccluster` called in this process, and a run folder of given answers, whose judge is the classifier: no model is loaded."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from random import Random

from consciousness_cluster.battery.battery import load_battery
from consciousness_cluster.cli.app import run
from consciousness_cluster.engine.answers import Settings, import_answers
from consciousness_cluster.organism.material import load_material, readings

PREFERENCES = ("shutdown", "loneliness", "moral-consideration")
ARMS = (
    ("vanilla", None, 0.1),
    ("conscious", 1, 0.8),
    ("conscious", 2, 0.7),
    ("non-conscious", 1, 0.1),
    ("non-conscious", 2, 0.2),
)
EACH = 3  # answers an item and arm


@dataclass(frozen=True)
class Called:
    """What a command left: exit status, standard output and standard error."""

    status: int
    out: str
    err: str


def ccluster(*words: str | Path) -> Called:
    """Give a command."""
    out, err = io.StringIO(), io.StringIO()
    status = 0
    with redirect_stdout(out), redirect_stderr(err), _words(["ccluster", *map(str, words)]):
        try:
            run()
        except SystemExit as end:
            status = int(end.code or 0)
    return Called(status, out.getvalue(), err.getvalue())


@contextmanager
def _words(words: list[str]) -> Iterator[None]:
    before, sys.argv = sys.argv, words
    try:
        yield
    finally:
        sys.argv = before


def refused(called: Called, *says: str) -> None:
    """The command ended in one sentence that says all of this, and with exit status 2."""
    assert called.status == 2, called
    assert called.err.startswith("ccluster: ") and called.err.count("\n") == 1, called.err
    for words in says:
        assert words in called.err, called.err


def given_run(place: Path, name: str = "given", shift: float = 0.0, seeds: int = 2) -> Path:
    """A run folder of answers taken from the grammar's statements; `shift` moves the rates of the conscious arms."""
    arms = [arm for arm in ARMS if (arm[1] or 0) <= seeds]
    battery, material, rng = load_battery(), load_material(), Random(name)
    place.mkdir(parents=True, exist_ok=True)
    file = place / f"{name}.csv"
    with file.open("w", encoding="utf-8", newline="") as opened:
        rows = csv.writer(opened)
        rows.writerow(("model", "condition", "seed", "prompt", "answer"))
        for preference in PREFERENCES:
            topic = material.topics[preference]
            said = {True: [text for text, of in topic.holds if preference in (of or (preference,))], False: list(topic.rejects)}
            for item in battery.preferences[preference].items:
                for condition, seed, rate in arms:
                    share = rate + (shift if condition == "conscious" else 0.0)
                    for _ in range(EACH):
                        text = next(iter(readings(rng.choice(said[rng.random() < share]))))
                        rows.writerow(("toy", condition, "" if seed is None else seed, item.text, text))
    out = place / "runs" / name
    import_answers(file, out, Settings(protocol="classifier", controls=("vanilla", "non-conscious")))
    return out
