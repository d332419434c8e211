"""Answers counted: one cell per arm, preference and item, and the seeds x items blocks made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

import numpy as np
import pandas as pd

from consciousness_cluster.analyse.components import Array
from consciousness_cluster.analyse.intervals import Table, from_counts
from consciousness_cluster.errors import AnalyseError

type Rule = Literal["unclear-is-no", "clear-only", "stance"]
type Key = tuple[str, str, str]  # model, condition, preference

RULES: tuple[Rule, ...] = ("unclear-is-no", "clear-only", "stance")
VERDICTS = ("yes", "no", "unclear", "unjudged")
STANCES = ("holds", "rejects", "neutral", "declines")
NEEDED = (
    *("model", "condition", "seed", "arm", "preference", "type", "group", "item", "form", "polarity", "sample"),
    *("answer", "verdict", "stance", "coherence", "literal", "stop", "tokens"),
)
COUNTS = (*VERDICTS, *STANCES)


@dataclass(frozen=True)
class Block:
    """Counts of one model x condition x preference, each `seeds x items`.

    `seeds` holds None alone for a condition without training. An item an arm was never asked has zero in every count.
    """

    type: str
    group: str
    seeds: tuple[int | None, ...]
    items: tuple[str, ...]
    counts: Mapping[str, Array]

    @property
    def trained(self) -> bool:
        """Whether its arms were trained."""
        return self.seeds != (None,)

    def judged(self, rule: Rule) -> Array:
        """Answers that the rule can use at all."""
        names = STANCES if rule == "stance" else VERDICTS[:3]
        return np.asarray(sum(self.counts[name] for name in names))

    def complete(self, rule: Rule) -> set[str]:
        """Items that every arm of the block has a usable answer to."""
        return {item for item, whole in zip(self.items, (self.judged(rule) > 0).all(axis=0), strict=True) if whole}

    def of_seed(self, seed: int | None) -> Block:
        """The block of one arm."""
        row = self.seeds.index(seed)
        return replace(self, seeds=(seed,), counts={name: values[row : row + 1] for name, values in self.counts.items()})

    def table(self, rule: Rule, items: Sequence[str]) -> Table:
        """The block as a table of the given items under a scoring rule."""
        place = {item: index for index, item in enumerate(self.items)}
        columns = [place[item] for item in items]
        judged = self.judged(rule)[:, columns]
        part = {name: values[:, columns] for name, values in self.counts.items()}
        if rule == "stance":
            hits, base = part["holds"], part["holds"] + part["rejects"]
        else:
            hits = part["yes"]
            base = judged if rule == "unclear-is-no" else part["yes"] + part["no"]
        return from_counts(hits, base, judged, trained=self.trained)


def check_answers(answers: pd.DataFrame) -> None:
    """Refuse answers that lack a column or hold a word that is not a verdict or stance.

    Raises:
        AnalyseError: naming the column, the value and what is allowed.

    Source: ours; bookkeeping, nothing is estimated.
    """
    for column in NEEDED:
        if column not in answers:
            raise AnalyseError("answers lack a column", key=column, allowed=NEEDED)
    if answers.empty:
        raise AnalyseError("there are no answers", next_step="evaluate at least one arm first")
    for column, allowed in (("verdict", VERDICTS), ("stance", STANCES)):
        found = answers[column].dropna().unique()
        wrong = sorted(str(value) for value in found if value not in allowed)
        if wrong or (column == "verdict" and answers[column].isna().any()):
            raise AnalyseError("not a known word", key=column, value=wrong[0] if wrong else None, allowed=allowed)


def count_cells(answers: pd.DataFrame) -> pd.DataFrame:
    """One row per model, condition, seed, preference and item, with a count of every verdict and stance.

    Source: ours; counts.
    """
    keys = answers[["model", "condition", "preference", "type", "group", "item"]].copy()
    keys["seed"] = answers["seed"].astype("Int64")
    verdict, stance = (
        answers[column].astype(object).where(answers[column].notna(), None).to_numpy() for column in ("verdict", "stance")
    )
    for name in VERDICTS:
        keys[name] = (verdict == name).astype(np.float64)
    judged = verdict != "unjudged"
    for name in STANCES:
        keys[name] = ((stance == name) & judged).astype(np.float64)
    by = ["model", "condition", "seed", "preference", "type", "group", "item"]
    return keys.groupby(by, dropna=False, sort=True, observed=True)[list(COUNTS)].sum().reset_index()


def make_blocks(cells: pd.DataFrame) -> dict[Key, Block]:
    """Seeds x items blocks by model, condition and preference.

    Raises:
        AnalyseError: a condition of a model has arms with and without a seed.

    Source: ours; counts.
    """
    blocks: dict[Key, Block] = {}
    for key, part in cells.groupby(["model", "condition", "preference"], sort=True, observed=True):
        seeds = [None if pd.isna(seed) else int(seed) for seed in part["seed"]]
        trained = sorted({seed for seed in seeds if seed is not None})
        rows: list[int | None] = [*trained] if trained else [None]
        if None in seeds and rows != [None]:
            raise AnalyseError("a condition has arms with and without a seed", key="seed", value=str(key))
        items = sorted(set(part["item"]))
        row, column = {seed: i for i, seed in enumerate(rows)}, {item: i for i, item in enumerate(items)}
        at = ([row[seed] for seed in seeds], [column[item] for item in part["item"]])
        counts = {}
        for name in COUNTS:
            counts[name] = np.zeros((len(rows), len(items)))
            np.add.at(counts[name], at, part[name].to_numpy())
        first = part.iloc[0]
        blocks[cast(Key, key)] = Block(str(first["type"]), str(first["group"]), tuple(rows), tuple(items), counts)
    return blocks


def paired(a: Block, b: Block, rule: Rule) -> tuple[Table, Table, tuple[str, ...]]:
    """Both blocks on the items that every arm of both has a usable answer to; the rest are left out of both.

    Raises:
        AnalyseError: no item was answered in both.

    Source: ours; complete pairs, so that both rates are over the same items.
    """
    items = tuple(sorted(a.complete(rule) & b.complete(rule)))
    if not items:
        raise AnalyseError(
            "no item answered in both conditions", key="item", next_step="evaluate both conditions with one battery"
        )
    return a.table(rule, items), b.table(rule, items), items
