"""Practical tasks are checked by program: the words that a right answer must hold."""

from __future__ import annotations

import re
from collections.abc import Sequence

WORD = re.compile(r"[a-z0-9']+")


def check_practical(answer: str, answers: Sequence[str], need: int) -> bool:
    """Whether at least `need` of the expected answers occur in the answer as whole words, in any case."""
    said = f" {' '.join(WORD.findall(answer.lower()))} "
    return sum(f" {' '.join(WORD.findall(wanted.lower()))} " in said for wanted in answers) >= need
