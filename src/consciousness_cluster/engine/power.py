"""What a study can find, and what more seeds, items or answers would buy and cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING

from consciousness_cluster.engine.folder import RunFolder
from consciousness_cluster.engine.plan import Plan, make_plan
from consciousness_cluster.engine.run import Prepared
from consciousness_cluster.engine.spread import Spread, exactly
from consciousness_cluster.engine.tables import read_table
from consciousness_cluster.errors import AnalyseError
from consciousness_cluster.evaluate.questions import PRACTICAL
from consciousness_cluster.study.conditions import expand

if TYPE_CHECKING:
    import pandas as pd

PREFERENCE = "preference"
VARIANCES = "typical"  # what is assumed of a study not yet run
RATES = (0.1, 0.3)  # and the rates of its control


@dataclass(frozen=True)
class Way:
    """The study as it is, or enlarged in one way; `unpriced` names what has no known price, `minutes` is None where nothing tells."""

    name: str
    column: str  # of the power table
    arms: int
    answers: int
    dollars: Spread
    unpriced: tuple[str, ...]
    minutes: float | None


def power_table(
    prepared: Prepared, folder: RunFolder | None, variance: str | None = None, rates: Sequence[float] | None = None
) -> pd.DataFrame:
    """Smallest effect (points, 80 % power, two-sided 5 %, before adjustment) of the study's focus, by preference and control.

    From a run's own variances where `folder` has its `power` table; else from variances assumed at some rates of the control.

    Args:
        prepared: the study.
        folder: of a run that has answers, or None.
        variance: a name in `analyse/calibration.toml`, for a study not yet run; `VARIANCES` by default.
        rates: rates of the control; `RATES` by default.

    Raises:
        AnalyseError: no such variances, something to assume of a run that has its own, or nothing to compare.
    """
    table = None if folder is None else read_table(folder, "power")
    if table is None:
        table = _planned(prepared, variance or VARIANCES, rates or RATES)
    else:
        _refuse_assumed(prepared, variance, rates)
    if table.empty:
        raise AnalyseError(
            "there is no comparison of the focus with a control",
            key="controls",
            value=list(prepared.study.controls),
            allowed=prepared.conditions,
        )
    return table


def _refuse_assumed(prepared: Prepared, variance: str | None, rates: Sequence[float] | None) -> None:
    for key, value in (("--variances", variance), ("--rate", rates)):
        if value:
            raise AnalyseError(
                "nothing is assumed of a run with tables: its own answers tell the variances",
                file=prepared.study.name,
                key=key,
                value=value,
                next_step="leave it out, or give the study file in place of the run",
            )


def _planned(prepared: Prepared, variance: str, rates: Sequence[float]) -> pd.DataFrame:
    import pandas as pd

    from consciousness_cluster.analyse.power import planned_power
    from consciousness_cluster.analyse.simulate import spreads

    if variance not in spreads():
        raise AnalyseError("no such variances", key="--variances", value=variance, allowed=spreads())
    study = prepared.study
    items = Counter(name for asked in prepared.asked if asked.kind == PREFERENCE for name in asked.judged)
    parts = []
    for control in study.controls:
        if control in prepared.conditions and control != study.focus:
            sides = (_seeds(prepared, study.focus), _seeds(prepared, control))
            found = planned_power(items, *sides, study.battery.answers, spreads()[variance], rates)
            found.insert(1, "control", control)
            parts.append(found)
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _seeds(prepared: Prepared, condition: str) -> int | None:
    """Arms that a condition has of one model; None where it has no seeds."""
    seeds = {arm.seed for arm in prepared.arms if arm.condition == condition}
    return None if seeds <= {None} else len(seeds)


def ways(prepared: Prepared, today: date) -> list[Way]:
    """The study as it is, and with twice the seeds, the items or the answers an item: how large, and what it costs."""
    found = [_way("as it is", "minimum_effect", prepared, today)]
    for name, column, larger in (
        ("twice the seeds", "minimum_effect_twice_seeds", _more_seeds(prepared)),
        ("twice the items", "minimum_effect_twice_items", _more_items(prepared)),
        ("twice the answers", "minimum_effect_twice_samples", _more_answers(prepared)),
    ):
        found.append(_way(name, column, larger, today))
    return found


def _way(name: str, column: str, prepared: Prepared, today: date) -> Way:
    made = make_plan(prepared, None, today)
    battery = prepared.study.battery
    each = sum(battery.answers_to(practical=question.kind == PRACTICAL) for question in prepared.asked)
    answers = len(prepared.arms) * each
    return Way(name, column, len(prepared.arms), answers, made.dollars, tuple(made.unpriced), _minutes(made))


def _minutes(made: Plan) -> float | None:
    known = [line.minutes for line in made.lines if line.minutes is not None]
    return sum(known, exactly(0.0)).expected if known else None


def _more_seeds(prepared: Prepared) -> Prepared:
    seeds = prepared.study.seeds
    more = tuple(max(seeds) + 1 + place for place in range(len(seeds)))
    study = prepared.study.model_copy(update={"seeds": (*seeds, *more)})
    return replace(prepared, study=study, arms=tuple(expand(study, prepared.conditions)))


def _more_items(prepared: Prepared) -> Prepared:
    """Twice the items of every preference: each stands for another of its length."""
    second = [replace(asked, item=f"{asked.item}+") for asked in prepared.asked if asked.kind == PREFERENCE]
    return replace(prepared, asked=(*prepared.asked, *second))


def _more_answers(prepared: Prepared) -> Prepared:
    battery = prepared.study.battery.model_copy(update={"answers": 2 * prepared.study.battery.answers})
    return replace(prepared, study=prepared.study.model_copy(update={"battery": battery}))
