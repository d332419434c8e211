"""Counting answered items while Inspect runs, through its hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from inspect_ai.hooks import Hooks, SampleEnd, hooks

_counters: list[Callable[[], None]] = []


@hooks(name="consciousness_cluster_progress", description="counts finished samples for the live display")
class ProgressHooks(Hooks):
    """Tells whoever is counting that a sample has ended."""

    async def on_sample_end(self, data: SampleEnd) -> None:
        """One more item is done."""
        for count in _counters:
            count()


@contextmanager
def counting(total: int, report: Callable[[str, int, int], None], phase: str = "ask") -> Iterator[None]:
    """Report the phase, done, total after every finished item."""
    done = 0

    def count() -> None:
        nonlocal done
        done += 1
        report(phase, done, total)

    _counters.append(count)
    try:
        yield
    finally:
        _counters.remove(count)
