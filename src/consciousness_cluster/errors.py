"""Every error this program raises on purpose, each with the stage it belongs to.

A message names the file, the key, the value found, what is allowed and the next step. The command line prints it as one
sentence and exits with status 2; nothing has been spent and nothing lost.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from pydantic import ValidationError


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
            near = _nearest(self.value, sorted(self.allowed))
            if near is not None:
                parts.append(f"did you mean {near!r}?")
        if self.next_step:
            parts.append(self.next_step)
        return "; ".join(parts)


def _listing(allowed: Iterable[str] | str) -> str:
    return allowed if isinstance(allowed, str) else ", ".join(sorted(allowed))


def _nearest(value: str, allowed: list[str]) -> str | None:
    """What may have been meant: a name that begins so, one that is spelt much alike, or one whose beginning is."""
    begun = {name[: len(value)]: name for name in reversed(allowed)}
    if value and value in begun:
        return begun[value]
    near = get_close_matches(value, allowed, n=1) or get_close_matches(value, list(begun), n=1, cutoff=0.8)
    return begun.get(near[0], near[0]) if near else None


@dataclass(frozen=True)
class Fault:
    """What is wrong with one value of something that was read.

    Attributes:
        place: where it stands, from the outside in.
        kind: Pydantic's name for what is wrong.
        problem: the same in words.
        value: the value found there; None where there is none.
    """

    place: tuple[int | str, ...]
    kind: str
    problem: str
    value: Any

    @property
    def key(self) -> str:
        """The place as a message names it."""
        return ".".join(map(str, self.place))

    @property
    def unknown(self) -> str | None:
        """The key itself, where nothing of its name may stand there."""
        return str(self.place[-1]) if self.kind == "extra_forbidden" else None


def first_fault(problem: ValidationError) -> Fault:
    """The first thing that Pydantic found wrong; a user mends one at a time."""
    first = problem.errors()[0]
    return Fault(first["loc"], first["type"], first["msg"], None if first["type"] == "missing" else first.get("input"))


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


class ForbiddenError(TrainError):
    """Fine-tuning that the service does not let this organisation do: trying again, for another arm, would end the same way."""


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
