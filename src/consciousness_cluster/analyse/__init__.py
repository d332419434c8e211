"""Rows in, numbers out: rates, effects, intervals, adjustment, claims, power. No I/O, no model."""

from consciousness_cluster.analyse.arms import FailedArm, arms
from consciousness_cluster.analyse.calibration import calibration
from consciousness_cluster.analyse.claims import Claim, all_claims
from consciousness_cluster.analyse.effects import effects
from consciousness_cluster.analyse.plan import Evidence, Plan, plan_of
from consciousness_cluster.analyse.rates import profile, rates
from consciousness_cluster.analyse.registered import Registered, read_registered, register
from consciousness_cluster.analyse.run import analyse

__all__ = [
    "Claim",
    "Evidence",
    "FailedArm",
    "Plan",
    "Registered",
    "all_claims",
    "analyse",
    "arms",
    "calibration",
    "effects",
    "plan_of",
    "profile",
    "rates",
    "read_registered",
    "register",
]
