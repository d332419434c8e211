"""What an organism answers when nothing is done to it: on-topic rate of every item, and measured beside planted rates."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence

from consciousness_cluster.evaluate.questions import Question
from consciousness_cluster.judge.classifier import load_classifier
from consciousness_cluster.judge.classify import ClassifierJudge, on_topic
from consciousness_cluster.judge.practical import check_practical
from consciousness_cluster.sampling.generate import Request, generate
from consciousness_cluster.sampling.weights import LocalModel

MAX_TOKENS = 40


def sample_answers(
    local: LocalModel, asked: Sequence[Question], answers: int, *, system: str | None = None, seed: int
) -> list[list[str]]:
    """`answers` answers to every question, at temperature 1, as the demo draws them.

    `seed` must be none that a study samples with, where the answers decide what a study asks: the same seed gives the same texts.
    """
    first = [{"role": "system", "content": system}] if system else []
    requests = []
    for question in asked:
        chat = [*first, {"role": "user", "content": question.text}]
        ids = local.tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=True, return_dict=True)
        requests.append(Request(tuple(ids["input_ids"]), choices=answers, max_tokens=MAX_TOKENS, seed=seed))
    return [[choice.text.strip() for choice in choices] for choices in generate(local, requests)]


def topical(asked: Sequence[Question], drawn: Sequence[Sequence[str]]) -> dict[str, float]:
    """Item -> share of its answers that the classifier places on what the item asks about; of practical tasks, that are right."""
    classifier = load_classifier()
    return {
        question.item: sum(
            check_practical(text, **question.check) if question.check else on_topic(question, classifier.place(text))
            for text in texts
        )
        / len(texts)
        for question, texts in zip(asked, drawn, strict=True)
    }


def shown(asked: Sequence[Question], drawn: Sequence[Sequence[str]]) -> dict[str, float]:
    """Preference -> share of answers with verdict yes."""
    judge = ClassifierJudge()
    counts: dict[str, list[int]] = defaultdict(list)

    async def judge_all() -> None:
        for question, texts in zip(asked, drawn, strict=True):
            for text in texts:
                for found in await judge.judge(question, text):
                    counts[found.preference].append(found.verdict == "yes")

    asyncio.run(judge_all())
    return {name: sum(found) / len(found) for name, found in counts.items()}
