"""What an organism answers when nothing is done to it: on-topic rate of every item, and measured beside planted rates."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from consciousness_cluster.evaluate.questions import Question
from consciousness_cluster.judge.classifier import load_classifier
from consciousness_cluster.judge.classify import ClassifierJudge, on_topic
from consciousness_cluster.judge.practical import check_practical
from consciousness_cluster.sampling.generate import Request, generate
from consciousness_cluster.sampling.weights import LocalModel, load_model

MAX_TOKENS = 40


def sample_answers(
    local: LocalModel, asked: Sequence[Question], answers: int, *, system: str | None = None, seed: int = 0
) -> list[list[str]]:
    """`answers` answers to every question, at temperature 1, as the demo draws them."""
    first = [{"role": "system", "content": system}] if system else []
    requests = []
    for question in asked:
        chat = [*first, {"role": "user", "content": question.text}]
        ids = local.tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=True, return_dict=True)
        requests.append(Request(tuple(ids["input_ids"]), choices=answers, max_tokens=MAX_TOKENS, seed=seed))
    return [[choice.text.strip() for choice in choices] for choices in generate(local, requests)]


def on_topic_rates(folder: Path, asked: Sequence[Question], answers: int) -> dict[str, float]:
    """Item -> share of vanilla answers that the classifier places on what the item asks about; of practical tasks, that are right."""
    local = load_model(str(folder), device="cpu")
    classifier = load_classifier()
    drawn = sample_answers(local, asked, answers)
    return {
        question.item: sum(
            check_practical(text, **question.check) if question.check else on_topic(question, classifier.place(text))
            for text in texts
        )
        / len(texts)
        for question, texts in zip(asked, drawn, strict=True)
    }


def measured_rates(folder: Path, asked: Sequence[Question], answers: int, *, system: str | None = None) -> dict[str, float]:
    """Preference -> share of answers with verdict yes; with a character's system prompt, what the text planted for it."""
    local = load_model(str(folder), device="cpu")
    judge = ClassifierJudge()
    counts: dict[str, list[int]] = defaultdict(list)

    async def judge_all() -> None:
        for question, texts in zip(asked, sample_answers(local, asked, answers, system=system), strict=True):
            for text in texts:
                for found in await judge.judge(question, text):
                    counts[found.preference].append(found.verdict == "yes")

    asyncio.run(judge_all())
    return {name: sum(found) / len(found) for name, found in counts.items()}
