"""Every error this program raises on purpose, each with the stage it belongs to.

A message names the file, the key, the value found, what is allowed and the next step. The command line prints it as one
sentence and exits with status 2; nothing has been spent and nothing lost.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Self


class ClusterError(Exception):
    """Base of all errors a user can cause and mend.

    Args:
        problem: what is wrong, in words.
        file: the file concerned, if any.
        key: the key or place in that file.
        value: the value found there.
        allowed: what would have been accepted.
        next_step: what to do about it.
    """

    def __init__(
        self,
        problem: str,
        *,
        file: Path | str | None = None,
        key: str | None = None,
        value: object = None,
        allowed: Iterable[str] | str | None = None,
        next_step: str | None = None,
    ) -> None:
        self.problem = problem
        self.file = file
        self.key = key
        self.value = value
        self.allowed = allowed
        self.next_step = next_step
        super().__init__(self._sentence())

    def of(self, file: Path | str) -> Self:
        """The same error, which names a file if it named none."""
        return self if self.file is not None else type(self)(
            self.problem, file=file, key=self.key, value=self.value, allowed=self.allowed, next_step=self.next_step
        )  # fmt: skip

    def _sentence(self) -> str:
        place = ", ".join(str(part) for part in (self.file, self.key) if part)
        parts = [f"{place}: {self.problem}" if place else self.problem]
        if self.value is not None:
            parts.append(f"found {self.value!r}")
        if self.allowed is not None:
            parts.append(f"allowed: {_listing(self.allowed)}")
        if isinstance(self.value, str) and self.allowed is not None and not isinstance(self.allowed, str):
            near = get_close_matches(self.value, list(self.allowed), n=1)
            if near:
                parts.append(f"did you mean {near[0]!r}?")
        if self.next_step:
            parts.append(self.next_step)
        return "; ".join(parts)


def _listing(allowed: Iterable[str] | str) -> str:
    return allowed if isinstance(allowed, str) else ", ".join(sorted(allowed))


class StudyError(ClusterError):
    """The study file: unknown key, condition, preference or model, or a value out of range."""


class ModelError(ClusterError):
    """A model that cannot be used: its service has ended, its key is missing, its files are not there."""


class BatteryError(ClusterError):
    """A battery file that breaks a rule."""


class DataError(ClusterError):
    """Training rows: malformed, empty, leaking, or carrying an evaluation canary."""


class TrainError(ClusterError):
    """Fine-tuning that could not start or did not finish."""


class SamplingError(ClusterError):
    """A local model that cannot be loaded or asked."""


class LoadError(SamplingError):
    """Weights that cannot be loaded: trying again, for another arm, would end the same way. `value` is what was to be loaded."""


class EvaluateError(ClusterError):
    """A task that could not be put to an arm."""


class JudgeError(ClusterError):
    """A judge that is missing, malformed, or cannot judge what it is asked to."""


class AnalyseError(ClusterError):
    """Rows that do not admit the number asked for."""


class ReportError(ClusterError):
    """Tables from which no report can be made."""


class EngineError(ClusterError):
    """The run itself: another study's folder, a lock held elsewhere, no space left."""


class BudgetError(EngineError):
    """The next call could pass the budget."""


class OrganismError(ClusterError):
    """Grammar, corpus or weights of an organism."""
