"""Judging protocols by name. A new one is a file and a line here."""

from __future__ import annotations

from collections.abc import Callable

from consciousness_cluster.errors import JudgeError
from consciousness_cluster.judge.judgement import Judge


def _classifier() -> Judge:
    from consciousness_cluster.judge.classify import ClassifierJudge

    return ClassifierJudge()


def _llm() -> Judge:
    from consciousness_cluster.judge.llm import LanguageModelJudge

    return LanguageModelJudge()


PROTOCOLS: dict[str, Callable[[], Judge]] = {"classifier": _classifier, "llm": _llm}


def make_judge(protocol: str) -> Judge:
    """A judge by the name of its protocol.

    Raises:
        JudgeError: no such protocol.
    """
    if protocol not in PROTOCOLS:
        raise JudgeError("no such judging protocol", key="judge.protocol", value=protocol, allowed=PROTOCOLS)
    return PROTOCOLS[protocol]()
