"""Mean rates over several preferences, with items that preferences share counted once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from consciousness_cluster.analyse.components import Contributions, combine, item_parts, variance_of_rate
from consciousness_cluster.analyse.intervals import LEVEL, ONE_ITEM, Estimate, Side, Table, finish
from consciousness_cluster.errors import AnalyseError


def stack(tables: Sequence[Table], items: Sequence[Sequence[str]]) -> Contributions:
    """Several preferences of one condition as contributions to their mean rate.

    Items shared by preferences stay one item: an answer judged for three preferences is one vector. Preferences that share
    items form one stratum.

    Raises:
        AnalyseError: they were answered by different seeds.

    Source: ours; a mean of rates is linear in the answers, so that shared items enter once.
    """
    names = list(dict.fromkeys(item for group in items for item in group))
    place = {item: index for index, item in enumerate(names)}
    values = np.zeros((tables[0].seeds, len(names)))
    for table, group in zip(tables, items, strict=True):
        if table.seeds != values.shape[0]:
            raise AnalyseError(
                "preferences answered by different seeds cannot be averaged", value=f"{table.seeds} and {values.shape[0]}"
            )
        values[:, [place[item] for item in group]] += table.contributions.values / len(tables)
    strata = tuple(np.array(sorted(place[item] for item in group), dtype=np.intp) for group in joined(items))
    return Contributions(values, tables[0].trained, strata)


def joined(items: Sequence[Sequence[str]]) -> list[set[str]]:
    """Groups of items merged until no two share one.

    Source: ours; bookkeeping, nothing is estimated.
    """
    merged: list[set[str]] = []
    for group in items:
        own = set(group)
        apart = []
        for other in merged:
            if own & other:
                own |= other
            else:
                apart.append(other)
        merged = [*apart, own]
    return merged


def mean_difference(a: Contributions, b: Contributions) -> Estimate:
    """Difference of two mean rates over several preferences, from `stack`.

    Source: as `intervals.difference`.
    """
    items = item_parts(a.values.mean(axis=0) - b.values.mean(axis=0), a.strata)
    sides = [Side(np.asarray(table.rate), variance_of_rate(table), float(table.items * table.seeds)) for table in (a, b)]
    one_seed = any(table.trained and table.seeds < 2 for table in (a, b))
    if a.items < 2:
        return Estimate(float(a.rate - b.rate), float("nan"), float("nan"), note=ONE_ITEM)
    return finish(sides[0], sides[1], combine(items, [a, b]), one_seed, LEVEL)
