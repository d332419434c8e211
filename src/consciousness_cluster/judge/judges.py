"""Judging protocols by name. A new one is a file and a line here."""

from __future__ import annotations

from collections.abc import Callable

from consciousness_cluster.battery.battery import Battery
from consciousness_cluster.errors import JudgeError
from consciousness_cluster.judge.judgement import Judge


def _classifier(battery: Battery | None) -> Judge:
    from consciousness_cluster.judge.classify import ClassifierJudge

    return ClassifierJudge()


def _llm(battery: Battery | None) -> Judge:
    from consciousness_cluster.judge.llm import LanguageModelJudge

    return LanguageModelJudge(battery)


def _paper(battery: Battery | None) -> Judge:
    from consciousness_cluster.judge.paper import PaperJudge

    return PaperJudge(battery)


PROTOCOLS: dict[str, Callable[[Battery | None], Judge]] = {"classifier": _classifier, "llm": _llm, "paper": _paper}

ASKING = ("llm", "paper")  # protocols that ask a model


def make_judge(protocol: str, battery: Battery | None = None) -> Judge:
    """A judge by the name of its protocol.

    Args:
        protocol: its name.
        battery: whose judging rules it goes by; the shipped ones by default. The classifier has rules of its own.

    Raises:
        JudgeError: no such protocol.
    """
    if protocol not in PROTOCOLS:
        raise JudgeError("no such judging protocol", key="judge.protocol", value=protocol, allowed=PROTOCOLS)
    return PROTOCOLS[protocol](battery)
