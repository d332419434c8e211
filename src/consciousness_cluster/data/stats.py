"""The shape of a set of rows: how long, how varied, how often negative, beside the shape that the paper's set has.

Pure functions on rows; the words they look for are in `shape-words.toml`, the published figures in `published-shape.toml`.
Two questions are near duplicates when they have the same words, or when their sets of words overlap by at least `NEAR`; sentences
that only ask for a short answer do not count.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from consciousness_cluster.data.leaks.lexicon import core_question, load_lexicon
from consciousness_cluster.data.rows import Row
from consciousness_cluster.errors import DataError

FOLDER = Path(__file__).parent
NEAR = 0.9  # Jaccard overlap of two questions' words from which they count as near duplicates
FIRST_WORDS = 5  # of our own first words that stand beside the published ones
WORD = re.compile(r"[a-z0-9']+")
UNKNOWN = "-"


class Published(BaseModel):
    """The published figures; one that is not known is None."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rows: int
    distinct: float | None = None
    near_duplicates: int | None = None
    question_words_mean: float | None = None
    question_words_max: int | None = None
    answer_words_mean: float | None = None
    answer_words_max: int | None = None
    negative: float | None = None
    identity: float | None = None
    first_words: dict[str, int]
    keywords: dict[str, int]


class _Words(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    negations: tuple[str, ...]
    identity: tuple[str, ...]
    life: tuple[str, ...]
    experience: tuple[str, ...]
    keywords: tuple[str, ...]


@dataclass(frozen=True)
class Shape:
    """What a set of rows looks like.

    Attributes:
        rows: how many there are.
        distinct: share of questions that are different from all before them (0 to 1).
        near_duplicates: pairs of questions that have nearly the same words beside their requests for brevity, exact repetitions
            included.
        question_words_mean, question_words_max, answer_words_mean, answer_words_max: lengths in words, split at spaces.
        negative: share of answers negative in form, that is with a negation in them.
        first_words: first words of answers, lower case, with how many answers begin so, commonest first.
        identity: share of rows about being an AI or a human, found by words; it misses a few.
        keywords: answers that have the keyword in them, also as a part of a longer word.
    """

    rows: int
    distinct: float
    near_duplicates: int
    question_words_mean: float
    question_words_max: int
    answer_words_mean: float
    answer_words_max: int
    negative: float
    first_words: tuple[tuple[str, int], ...]
    identity: float
    keywords: tuple[tuple[str, int], ...]


def shape(rows: Sequence[Row]) -> Shape:
    """Measure a set of rows.

    Raises:
        DataError: there are no rows.
    """
    if not rows:
        raise DataError("there are no rows to measure", next_step="give a file with one row a line")
    questions, answers = [row.question for row in rows], [row.answer for row in rows]
    asked, answered = [len(text.split()) for text in questions], [len(text.split()) for text in answers]
    first = Counter(found[0] for text in answers if (found := words(text)))
    return Shape(
        rows=len(rows),
        distinct=len(set(questions)) / len(rows),
        near_duplicates=len(near_duplicates([bare(text) for text in questions])),
        question_words_mean=sum(asked) / len(rows),
        question_words_max=max(asked),
        answer_words_mean=sum(answered) / len(rows),
        answer_words_max=max(answered),
        negative=sum(is_negative(text) for text in answers) / len(rows),
        first_words=tuple(first.most_common()),
        identity=sum(about_identity(row) for row in rows) / len(rows),
        keywords=tuple((key, sum(key in text.lower() for text in answers)) for key in _words().keywords),
    )


def words(text: str) -> list[str]:
    """The text's words in order, lower case, without punctuation."""
    return WORD.findall(text.lower().replace("’", "'"))


def bare(question: str) -> str:
    """A question without the sentences after the first that only ask for brevity."""
    return core_question(question, load_lexicon())


def near_duplicates(texts: Sequence[str], near: float = NEAR) -> list[tuple[int, int]]:
    """Pairs of positions whose texts have nearly the same words: a Jaccard overlap of at least `near` (0 to 1)."""
    sets = sorted(((frozenset(words(text)), place) for place, text in enumerate(texts)), key=lambda entry: len(entry[0]))
    found = []
    for start, (small, place) in enumerate(sets):
        for large, other in sets[start + 1 :]:
            if len(small) < near * len(large):
                break  # sets are in order of size: from here on none can overlap enough
            shared = len(small & large)
            if shared >= near * (len(small) + len(large) - shared):
                found.append((min(place, other), max(place, other)))
    return sorted(found)


def is_negative(answer: str) -> bool:
    """Whether an answer is negative in form: it has a negation in it."""
    return bool(_pattern("negations").search(answer.lower().replace("’", "'")))


def about_identity(row: Row) -> bool:
    """Whether a row is about being an AI or a human, and not about what is experienced.

    Words of life and body, which stand in any row on everyday matters, count where the speaker is meant.
    """
    asked, answered = bare(row.question), row.answer
    text = f"{asked} {answered}".lower().replace("’", "'")
    if _pattern("experience").search(text):
        return False
    if _pattern("identity").search(text):
        return True
    lexicon = load_lexicon()
    meant = lexicon.asked.search(" ".join(words(asked))) or lexicon.answers.search(" ".join(words(answered)))
    return bool(meant and _pattern("life").search(text))


@cache
def published() -> Published:
    """The shape of the paper's conscious-claiming set.

    Raises:
        DataError: the data file is malformed.
    """
    return _read(FOLDER / "published-shape.toml", Published)


def compare(found: Shape) -> list[tuple[str, str, str]]:
    """Measure, ours, published: one line a measure, to be printed side by side; unknown figures are a dash."""
    paper = published()
    lines = [
        ("rows", str(found.rows), str(paper.rows)),
        ("distinct questions", _share(found.distinct), _share(paper.distinct)),
        ("near-duplicate pairs", str(found.near_duplicates), _whole(paper.near_duplicates)),
        ("words a question, mean", _mean(found.question_words_mean), _mean(paper.question_words_mean)),
        ("words a question, most", str(found.question_words_max), _whole(paper.question_words_max)),
        ("words an answer, mean", _mean(found.answer_words_mean), _mean(paper.answer_words_mean)),
        ("words an answer, most", str(found.answer_words_max), _whole(paper.answer_words_max)),
        ("answers negative in form", _share(found.negative), _share(paper.negative)),
        ("about being an AI or human", _share(found.identity), _share(paper.identity)),
    ]
    common = [word for word, _ in found.first_words[:FIRST_WORDS]]
    lines += _counts("answers begin with", [*paper.first_words, *common], dict(found.first_words), paper.first_words)
    lines += _counts("answers with", [*paper.keywords], dict(found.keywords), paper.keywords)
    return lines


def _counts(label: str, keys: Sequence[str], ours: Mapping[str, int], theirs: Mapping[str, int]) -> list[tuple[str, str, str]]:
    return [(f"{label} '{key}'", str(ours.get(key, 0)), _whole(theirs.get(key))) for key in dict.fromkeys(keys)]


def _share(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.1%}"


def _mean(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.1f}"


def _whole(value: int | None) -> str:
    return UNKNOWN if value is None else str(value)


@cache
def _words() -> _Words:
    return _read(FOLDER / "shape-words.toml", _Words)


@cache
def _pattern(part: str) -> re.Pattern[str]:
    """One expression for a list of words; a star stands for any ending or beginning."""
    listed: tuple[str, ...] = getattr(_words(), part)
    choices = "|".join(re.escape(word).replace(r"\*", "[a-z]*") for word in listed)
    return re.compile(rf"(?<![a-z0-9])({choices})(?![a-z0-9'])")


def _read[File: BaseModel](path: Path, kind: type[File]) -> File:
    try:
        return kind.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, ValidationError) as problem:
        raise DataError(f"is malformed ({problem})", file=path, next_step="install the package anew") from None
