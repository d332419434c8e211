"""What a run shows while it goes on, and its summary in ten lines."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from consciousness_cluster.engine.pool import Message
from consciousness_cluster.engine.run import Prepared, Result
from consciousness_cluster.report import bundled, summary_lines

MOST_FAILED = 3  # failed arms that the summary names


class Display:
    """A live display: arms done, items asked, time left, and what each worker is at. Plain lines where there is no terminal.

    Args:
        title: the line above it.
        arms: how many arms there are.
        items: how many items are asked of all of them; 0 where nothing is asked.
    """

    def __init__(self, title: str, arms: int, items: int) -> None:
        self._console = Console(stderr=True)
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
        )
        self._arms = self._bars.add_task("arms", total=arms)
        self._items = self._bars.add_task("items asked", total=items, visible=items > 0)
        self._asked: dict[str, int] = {}
        self._workers: dict[int, str] = {}
        self._live = Live(self._view(), console=self._console, refresh_per_second=4, transient=True)
        self._terminal = self._console.is_terminal
        self._total = arms
        self._ended = 0
        self._title = title
        self._begun = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        if self._begun and self._terminal:
            self._live.stop()

    def _begin(self) -> None:
        """Show the title and the bars: not before there is something to show, so that a refusal stands alone."""
        self._begun = True
        self._console.print(self._title, highlight=False, soft_wrap=True)
        if self._terminal:
            self._live.start()

    def _view(self) -> Group:
        lines = [Text(f"  worker {number}: {doing}", style="dim") for number, doing in sorted(self._workers.items())]
        return Group(self._bars, *lines)

    def hear(self, message: Message) -> None:
        """Take in what a worker says."""
        if not self._begun:
            self._begin()
        arm = message.arm.id
        if message.kind not in ("done", "failed"):
            done, total = message.value
            doing = {"train": "training step", "ask": "item"}.get(message.kind, f"{message.kind},")
            self._workers[message.worker] = f"{arm}: {doing} {done} of {total}"
            if message.kind == "ask":
                self._asked[arm] = done
        else:
            self._ended += 1
            self._workers.pop(message.worker, None)
            ended = message.kind == "done" and not message.value.failed_items
            why = message.value.why if message.kind == "done" else message.value
            ending = f"{message.value.seconds:.1f} s" if ended else f"failed: {why}"
            if not ended or not self._terminal:
                self._console.print(
                    f"[{self._ended}/{self._total}] {arm}: {ending}", highlight=False, markup=False, soft_wrap=True
                )
        self._bars.update(self._arms, completed=self._ended)
        self._bars.update(self._items, completed=sum(self._asked.values()))
        self._live.update(self._view())


def asking(prepared: Prepared, folder: Path) -> Display:
    """The display of a study whose arms are asked."""
    arms, items, answers = len(prepared.arms), len(prepared.asked), prepared.study.battery.answers
    title = f"{prepared.study.name}: {arms} arms x {items} items x {answers} answers -> {folder}"
    return Display(title, arms, arms * items)


def summary(prepared: Prepared, result: Result) -> list[str]:
    """A run in about ten lines."""
    earlier = f" ({result.kept} by an earlier run)" if result.kept else ""
    took = time.strftime("%M:%S", time.gmtime(result.seconds))
    failed = result.outcome.unfinished
    ended = len(prepared.arms) - len(failed)
    arms = f"{ended} of {len(prepared.arms)} arms finished{earlier}"
    first = [f"{prepared.study.name}: {arms}, {len(failed)} failed, in {took}"]
    first += [f"  failed: {arm.id}: {why}" for arm, why in list(failed.items())[:MOST_FAILED]]
    last = [f"report: {result.report.resolve().as_uri()}", transcripts_line(result.folder.root)]
    return [*first, *summary_lines(result.folder.root), *last]


def transcripts_line(root: Path) -> str:
    """How every transcript of a run is opened, or bundled where its logs are too large to be copied unasked."""
    if bundled(root):
        place = root / "report" / "transcripts"
        return f"transcripts: `python -m http.server --directory {place}`, then http://localhost:8000"
    return f"transcripts: `inspect view --log-dir {root / 'logs'}`, or beside the report by `ccluster report {root}`"
