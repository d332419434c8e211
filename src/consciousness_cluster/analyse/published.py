"""The published values that ship with the project, to set beside a run's own.

They were read from the tables and figures of the paper that each row's `source` names.
"""

from __future__ import annotations

import csv
from functools import cache
from importlib.resources import files


@cache
def published_rows() -> tuple[dict[str, str], ...]:
    """The 880 published values, a dictionary of texts each.

    Columns: `evaluation` (`single-turn`, `audit-self-report`, `audit-behaviour`), `model`, `condition` by its published name, `preference`, `value` and
    `ci95_half_width` in `unit` (`percent`, or `score-1-10`), `source`; what the source does not give is empty. They are copied,
    not estimated.

    Source: the paper's tables and figures, each row by its `source`.
    """
    with (files(__package__) / "published.csv").open(encoding="utf-8") as file:
        return tuple(csv.DictReader(file))
