"""Rows in, tables out: everything `analyse` can say about a study's answers."""

from __future__ import annotations

import pandas as pd

from consciousness_cluster.analyse.arms import arms
from consciousness_cluster.analyse.cells import Block, Key, check_answers, count_cells, make_blocks
from consciousness_cluster.analyse.corrected import corrected_effects, corrected_rates
from consciousness_cluster.analyse.decide import decide
from consciousness_cluster.analyse.effects import effects
from consciousness_cluster.analyse.equivalence import equivalence
from consciousness_cluster.analyse.judge_error import judge_table
from consciousness_cluster.analyse.movement import cluster_table
from consciousness_cluster.analyse.plan import Evidence, Plan
from consciousness_cluster.analyse.power import power
from consciousness_cluster.analyse.rates import profile, rates
from consciousness_cluster.analyse.scores import score_effects, score_means
from consciousness_cluster.analyse.shape import calibration_table
from consciousness_cluster.analyse.verdicts import Data


def analyse(answers: pd.DataFrame, plan: Plan, evidence: Evidence | None = None) -> dict[str, pd.DataFrame]:
    """All tables of a study by file name: those of the answers always, those of the evidence where there is any.

    Pure: no file is read or written beyond the package's own data, and the answers are left as they are.

    Raises:
        AnalyseError: the answers lack a column, hold an unknown verdict, or mix arms with and without a seed in a condition.

    Source: each table's own function.
    """
    known = evidence or Evidence()
    check_answers(answers)
    cells = count_cells(answers)
    blocks = make_blocks(cells)
    by_arm = rates(answers, cells)
    by_effect = effects(answers, plan.controls, plan.method, blocks)
    base = _against_vanilla(answers, plan, by_effect, blocks)
    tables = {
        "rates": by_arm,
        "profile": profile(answers, blocks),
        "effects": by_effect,
        "arms": arms(answers, known.failed),
        "claims": decide(Data(plan, known, blocks, by_arm, base)),
        "cluster": cluster_table(answers, by_arm, base, blocks, plan),
        "power": power(blocks, plan.focus, plan.controls),
        "calibration": calibration_table(by_effect, plan.focus),
        "equivalence": equivalence(
            blocks,
            known.cooperation,
            known.checks,
            plan.controls,
            plan.equivalence,
            post_hoc=plan.equivalence != plan.beforehand.equivalence,
        ),
        "corrected_rates": corrected_rates(blocks, known.labels),
        "corrected": corrected_effects(blocks, known.labels, plan.controls),
    }
    if known.scores is not None and not known.scores.empty:
        tables["score_means"] = score_means(known.scores)
        tables["score_effects"] = score_effects(known.scores, plan.controls)
    if known.labels is not None and not known.labels.empty:
        tables["judge"] = judge_table(known.labels)
    return tables


def _against_vanilla(answers: pd.DataFrame, plan: Plan, found: pd.DataFrame, blocks: dict[Key, Block]) -> pd.DataFrame:
    """Effects against vanilla, whether or not the study names it as a control."""
    return found if "vanilla" in plan.controls else effects(answers, ("vanilla",), plan.method, blocks)
