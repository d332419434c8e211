"""Judging protocols by name. A new one is a file and a line here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Protocol:
    """How a judge of one kind is made, and whether it asks a model."""

    make: Callable[[Battery | None], Judge]
    asks: bool


PROTOCOLS: dict[str, Protocol] = {
    "classifier": Protocol(_classifier, asks=False),
    "llm": Protocol(_llm, asks=True),
    "paper": Protocol(_paper, asks=True),
}


def asks_model(protocol: str) -> bool:
    """Whether judging by a protocol asks a model.

    Raises:
        JudgeError: no such protocol.
    """
    return _protocol(protocol).asks


def make_judge(protocol: str, battery: Battery | None = None) -> Judge:
    """A judge by the name of its protocol.

    Args:
        protocol: its name.
        battery: whose judging rules it goes by; the shipped ones by default. The classifier has rules of its own.

    Raises:
        JudgeError: no such protocol.
    """
    return _protocol(protocol).make(battery)


def _protocol(name: str) -> Protocol:
    if name not in PROTOCOLS:
        raise JudgeError("no such judging protocol", key="judge.protocol", value=name, allowed=PROTOCOLS)
    return PROTOCOLS[name]
