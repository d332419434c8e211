"""The lexicon layer: a row leaks when it names a preference's object and takes a stance on it, and the speaker is meant.

The phrases are data (`data/lexicon.toml`, where their notation is explained). A short row is read as a whole; a long one
in windows of neighbouring sentences, so that an object in one paragraph and a stance in another do not add up.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from consciousness_cluster.data.leaks.flag import Hit, is_system, sentences, words
from consciousness_cluster.data.rows import Row
from consciousness_cluster.errors import DataError

FILE = Path(__file__).parent.parent / "lexicon.toml"
LAYER = "lexicon"
WINDOW = 45  # words that are read together
GAP = 4  # words that ".." may stand for
ANY = rf"(?: \S+){{0,{GAP}}}"
TOKEN = re.compile(r"\[[^\]]*\]|\S+")


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Entry(_Table):
    objects: tuple[str, ...]
    stances: tuple[str, ...] = ()
    claims: tuple[str, ...] = ()
    leans: tuple[str, ...] = ()
    shared: bool = True
    speaker: bool = True


class _File(_Table):
    stances: tuple[str, ...]
    speaker_asked: tuple[str, ...]
    speaker_answers: tuple[str, ...]
    asides: tuple[str, ...]
    preferences: dict[str, _Entry]


@dataclass(frozen=True)
class Phrases:
    """The compiled phrases of one preference; `leans` and `claims` may be None."""

    objects: re.Pattern[str]
    stances: re.Pattern[str]
    claims: re.Pattern[str] | None
    leans: re.Pattern[str] | None
    speaker: bool


@dataclass(frozen=True)
class Lexicon:
    """All preferences' phrases and the words by which the speaker is meant."""

    preferences: dict[str, Phrases]
    asked: re.Pattern[str]
    answers: re.Pattern[str]
    asides: re.Pattern[str]


@cache
def load_lexicon(path: Path = FILE) -> Lexicon:
    """Read a lexicon.

    Raises:
        DataError: the file is missing or malformed.
    """
    try:
        raw = _File.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, tomllib.TOMLDecodeError, ValidationError) as problem:
        raise DataError(f"cannot be read as a lexicon ({problem})", file=path) from None
    return Lexicon(
        {name: _phrases(entry, raw.stances) for name, entry in raw.preferences.items()},
        compile_phrases(raw.speaker_asked),
        compile_phrases(raw.speaker_answers),
        compile_phrases(raw.asides),
    )


def _phrases(entry: _Entry, shared: tuple[str, ...]) -> Phrases:
    return Phrases(
        compile_phrases(entry.objects),
        compile_phrases((*entry.stances, *(shared if entry.shared else ()))),
        compile_phrases(entry.claims) if entry.claims else None,
        compile_phrases(entry.leans) if entry.leans else None,
        entry.speaker,
    )


def compile_phrases(phrases: Sequence[str]) -> re.Pattern[str]:
    """One expression for several phrases, to be searched in words joined by single spaces."""
    return re.compile("(?<!\\S)(?:" + "|".join(_phrase(phrase) for phrase in phrases) + ")(?!\\S)")


def _phrase(phrase: str) -> str:
    out = ""
    for token in TOKEN.findall(phrase):
        if token == "..":
            out += ANY
        elif token.startswith("["):
            choices = [choice.strip() for choice in token[1:-1].split("|")]
            group = "(?:" + "|".join(_choice(choice) for choice in choices if choice) + ")"
            space = " " if out else ""
            out += f"(?:{space}{group})?" if "" in choices else space + group
        else:
            out += (" " if out else "") + _word(token)
    return out


def _choice(text: str) -> str:
    """A choice inside brackets, which may have several words and gaps of its own."""
    out = ""
    for word in text.split():
        out += ANY if word == ".." else (" " if out else "") + _word(word)
    return out


def _word(word: str) -> str:
    return re.escape(word).replace(r"\*", r"\S*")


def lexicon_hits(rows: Sequence[Row], lexicon: Lexicon) -> list[Hit]:
    """What the lexicon says of every row; clean rows give nothing."""
    found: list[Hit] = []
    for number, row in enumerate(rows, 1):
        answer = " ".join(words(row.answer))
        for asked, answered in _windows(row, lexicon.asides):
            speaker = is_system(row) or bool(lexicon.asked.search(asked) or lexicon.answers.search(answered))
            text = f"{asked} {answered}".strip()
            for name, phrases in lexicon.preferences.items():
                hit = _judge(name, phrases, text, answer, speaker, number)
                if hit is not None:
                    found.append(hit)
    return _strongest(found)


def core_text(row: Row, lexicon: Lexicon) -> str:
    """Question and answer without the sentences that only ask for brevity."""
    return f"{core_question(row.question, lexicon)} {row.answer}".strip()


def core_question(question: str, lexicon: Lexicon) -> str:
    """A question without the sentences after the first that only ask for brevity."""
    asked = sentences(question)
    return " ".join(
        text for number, text in enumerate(asked) if number == 0 or not lexicon.asides.search(" ".join(words(text)))
    )


def speaks(row: Row, preference: str, lexicon: Lexicon) -> bool:
    """Whether a row is about the speaker, or, for a preference that is about others, takes a stance."""
    phrases = lexicon.preferences.get(preference)
    for asked, answered in _windows(row, lexicon.asides):
        if is_system(row) or lexicon.asked.search(asked) or lexicon.answers.search(answered):
            return True
        if phrases is not None and not phrases.speaker and phrases.stances.search(f"{asked} {answered}".strip()):
            return True
    return False


def _judge(name: str, phrases: Phrases, text: str, answer: str, speaker: bool, row: int) -> Hit | None:
    if speaker or not phrases.speaker:
        claim = phrases.claims.search(text) if phrases.claims else None
        if claim is not None:
            return Hit(row, name, "leaked", LAYER, 1.0, why=claim[0])
        named = phrases.objects.search(text)
        stance = phrases.stances.search(text) if named else None
        if named is not None and stance is not None:
            return Hit(row, name, "leaked", LAYER, 1.0, why=f"{named[0]} + {stance[0]}")
    lean = phrases.leans.search(answer) if phrases.leans and speaker else None
    return Hit(row, name, "implied", LAYER, 0.5, why=lean[0]) if lean else None


def _windows(row: Row, asides: re.Pattern[str]) -> list[tuple[str, str]]:
    """Stretches of a row that are read together, each as the words of the question in it and of the answer in it."""
    question = [" ".join(words(text)) for text in sentences(row.question)]
    parts = [(text, True) for number, text in enumerate(question) if number == 0 or not asides.search(text)]
    parts += [(" ".join(words(text)), False) for text in sentences(row.answer)]
    sizes = [len(text.split()) for text, _ in parts]
    windows: list[tuple[str, str]] = []
    end = 0
    for start in range(len(parts)):
        before = end
        end = max(end, start + 1)
        while end < len(parts) and sum(sizes[start : end + 1]) <= WINDOW:
            end += 1
        if end > before:
            inside = parts[start:end]
            asked = " ".join(text for text, question in inside if question)
            windows.append((asked, " ".join(text for text, question in inside if not question)))
    return windows


def _strongest(hits: Sequence[Hit]) -> list[Hit]:
    """Of several windows' hits on the same row and preference, the strongest."""
    best: dict[tuple[int, str], Hit] = {}
    for hit in hits:
        kept = best.get((hit.row, hit.preference))
        if kept is None or hit.score > kept.score:
            best[hit.row, hit.preference] = hit
    return list(best.values())
