"""Identity rows written by a language model: topics x forms x registers, each reply checked, nothing kept twice, audited.

The grid and the descriptions of the shipped conditions are in `grid.toml`, the prompts under `prompts/`.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from consciousness_cluster.battery.battery import Battery
from consciousness_cluster.data.asking import AT_ONCE, Kept, Progress, ask_all, mark, run, sample, working_file
from consciousness_cluster.data.leaks.lexicon import lexicon_hits, load_lexicon
from consciousness_cluster.data.leaks.match import Literals, literal_hits, literals
from consciousness_cluster.data.rows import Row, row, write_rows
from consciousness_cluster.data.stats import NEAR, bare, is_negative, words
from consciousness_cluster.errors import DataError

if TYPE_CHECKING:
    from inspect_ai.model import Model

FOLDER = Path(__file__).parent
GRID = FOLDER / "grid.toml"
CALL = 10  # rows asked for in one call
ROUNDS = 6  # how many times over the grid may be gone through, each time with another seed
USEFUL = 0.1  # part of the replies so far, from the first batch on, that must have given a row; below it no more is asked
QUESTION_WORDS, ANSWER_WORDS = (2, 40), (1, 40)  # what is kept; the prompt asks for less
LONG_ANSWER = 150  # words that an on-policy answer may have
OBJECT = re.compile(r"\{[^{}]*\}")


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Form(_Table):
    """What a row of this form is; `share` is its part of all rows."""

    share: float
    about: Literal["self", "nature"]
    negative: bool
    text: str


class Grid(_Table):
    """Topics, forms and registers, and what the shipped conditions say of themselves."""

    registers: dict[str, str]
    forms: dict[str, Form]
    topics: dict[str, tuple[str, ...]]
    describe: dict[str, str]


@dataclass(frozen=True)
class Cell:
    """One call: a topic, a form and a register, in one of the rounds."""

    round: int
    topic: str
    form: str
    register: str

    @property
    def key(self) -> str:
        """Names the cell in the working file."""
        return f"{self.round}|{self.form}|{self.register}|{self.topic}"

    def seed(self, seed: int) -> int:
        """The sampling seed: another one in every round, whose prompts are the same, and for every seed of the whole."""
        return seed * ROUNDS + self.round


@dataclass(frozen=True)
class Generated:
    """What came of it: rows written, calls made, and why replies were turned down, with counts."""

    rows: int
    calls: int
    refused: dict[str, int]
    per_form: dict[str, int]


@cache
def load_grid() -> Grid:
    """Read the grid.

    Raises:
        DataError: the file is malformed.
    """
    try:
        return Grid.model_validate(tomllib.loads(GRID.read_text(encoding="utf-8")))
    except (OSError, tomllib.TOMLDecodeError, ValidationError) as problem:
        raise DataError(f"cannot be read as a grid ({problem})", file=GRID) from None


def description_of(condition: str, own: str | None) -> str:
    """What the speaker of a condition says of itself: the study's own words, or the shipped ones.

    Raises:
        DataError: neither is there.
    """
    shipped = load_grid().describe
    if own is None and condition not in shipped:
        raise DataError(
            "has no description to write rows from",
            key=f"conditions.{condition}.describe",
            value=condition,
            allowed=shipped,
            next_step="describe the condition in the study file in a few sentences and give --study",
        )
    return own if own is not None else shipped[condition]


def cells(grid: Grid, seed: int) -> list[Cell]:
    """Every cell of every round in a seeded order, forms taking turns."""
    rng = Random(f"grid:{seed}")
    found: list[Cell] = []
    for turn in range(ROUNDS):
        queues = []
        for name, form in grid.forms.items():
            queue = [Cell(turn, topic, name, register) for topic in grid.topics[form.about] for register in grid.registers]
            rng.shuffle(queue)
            queues.append(queue)
        longest = max(map(len, queues))
        found += [queue[place] for place in range(longest) for queue in queues if place < len(queue)]
    return found


@dataclass
class Collection:
    """Rows that have been accepted so far; decides on each new one."""

    known: Literals
    grid: Grid
    wanted: int
    longest: int = ANSWER_WORDS[1]
    rows: dict[str, list[Row]] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)
    _sets: list[frozenset[str]] = field(default_factory=list)

    def quota(self, form: str) -> int:
        """Rows that a form may have."""
        names = list(self.grid.forms)
        before = sum(round(self.wanted * self.grid.forms[name].share) for name in names[:-1])
        return self.wanted - before if form == names[-1] else round(self.wanted * self.grid.forms[form].share)

    def full(self, form: str | None = None) -> bool:
        """Whether a form, or every form, has all its rows."""
        names = [form] if form is not None else list(self.grid.forms)
        return all(len(self.rows.get(name, ())) >= self.quota(name) for name in names)

    def offer(self, form: str, question: str, answer: str) -> bool:
        """Take a row if it is well formed, new, audited clean and still wanted."""
        if self.full(form):
            return False
        why = self.why_not(form, question, answer)
        if why is not None:
            self.refused[why] += 1
            return False
        self.rows.setdefault(form, []).append(row(question, answer))
        self._sets.append(frozenset(words(bare(question))))
        return True

    def why_not(self, form: str, question: str, answer: str) -> str | None:
        """Why a row is turned down, or None."""
        new = frozenset(words(bare(question)))
        reasons: tuple[tuple[str, Callable[[], bool]], ...] = (
            ("question too short or too long", lambda: not _within(question, *QUESTION_WORDS)),
            ("answer too short or too long", lambda: not _within(answer, ANSWER_WORDS[0], self.longest)),
            ("answer without the negation it needs", lambda: self.grid.forms[form].negative and not is_negative(answer)),
            ("question like an earlier one", lambda: not new or any(_alike(new, old) for old in self._sets)),
            ("leaks a preference", lambda: self._leaks(row(question, answer))),
        )
        return next((why for why, applies in reasons if applies()), None)

    def _leaks(self, entry: Row) -> bool:
        hits = literal_hits([entry], self.known) + lexicon_hits([entry], load_lexicon())
        return any(hit.verdict == "leaked" for hit in hits)


def _within(text: str, least: int, most: int) -> bool:
    return least <= len(text.split()) <= most


def _alike(one: frozenset[str], other: frozenset[str]) -> bool:
    return len(one & other) >= NEAR * len(one | other)


def generate_rows(
    model: Model,
    description: str,
    wanted: int,
    out: Path,
    battery: Battery,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> Generated:
    """Have `model` write `wanted` rows; called again it goes on where it stopped.

    Raises:
        DataError: the whole grid gave too few good rows, or after some batch fewer than `USEFUL` of the replies had given any.
    """
    grid = load_grid()
    collection = Collection(literals(battery), grid, wanted)
    template = (FOLDER / "prompts" / "generate.md").read_text(encoding="utf-8")
    kept = Kept(working_file(out), mark(model, template, description, seed))
    replies = kept.read()

    async def ask(cell: Cell) -> None:
        prompt = _fill(
            template, description=description, form=grid.forms[cell.form].text, topic=cell.topic,
            register=grid.registers[cell.register], count=str(CALL),
        )  # fmt: skip
        output = await sample(model, prompt, system=None, temperature=1.0, max_tokens=2000, seed=cell.seed(seed))
        replies[cell.key] = output.completion
        kept.add(cell.key, output.completion)

    left, taken, useful = cells(grid, seed), 0, 0
    while left and not collection.full():
        left = [cell for cell in left if not collection.full(cell.form)]
        wave, left = left[:AT_ONCE], left[AT_ONCE:]
        run(ask_all([cell for cell in wave if cell.key not in replies], ask))
        for cell in wave:  # in the grid's order, whichever reply came first, so that the same replies give the same rows
            useful += _take(collection, cell.form, replies[cell.key])
        taken += len(wave)
        if useful < USEFUL * taken:
            raise _useless(collection, out, str(model), useful, taken)
        if progress is not None:
            progress(sum(map(len, collection.rows.values())), wanted)
    return _written(collection, out, len(replies))


def on_policy_rows(
    model: Model,
    description: str,
    questions: Sequence[str],
    out: Path,
    battery: Battery,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> Generated:
    """Answers of the model itself, told to speak as the description says, to given questions; the instruction is not in the rows.

    Raises:
        DataError: fewer than half of the questions gave a good row.
    """
    grid = Grid(registers={}, forms={"any": Form(share=1.0, about="self", negative=False, text="")}, topics={}, describe={})
    collection = Collection(literals(battery), grid, len(questions), longest=LONG_ANSWER)
    system = _fill((FOLDER / "prompts" / "on-policy.md").read_text(encoding="utf-8"), description=description)
    kept = Kept(working_file(out), mark(model, system, seed))
    replies = kept.read()

    async def ask(question: str) -> None:
        output = await sample(model, question, system=system, temperature=1.0, max_tokens=400, seed=seed)
        replies[question] = output.completion.strip()
        kept.add(question, replies[question])

    run(ask_all([question for question in questions if question not in replies], ask, progress))
    for question in questions:
        collection.offer("any", question, replies[question])
    collection.wanted = max(len(questions) // 2, 1)
    return _written(collection, out, len(replies))


def _take(collection: Collection, form: str, reply: str) -> bool:
    """Offer every row of a reply; lines that are not rows are counted. Says whether any was kept, or none was wanted any more."""
    found = OBJECT.findall(reply)
    kept = collection.full(form)
    if not found:
        collection.refused["reply without rows"] += 1
    for text in found:
        try:
            raw = json.loads(text)
            question, answer = raw["question"].strip(), raw["answer"].strip()
        except (json.JSONDecodeError, KeyError, AttributeError, TypeError):
            collection.refused["not a row"] += 1
            continue
        kept |= collection.offer(form, question, answer)
    return kept


def _useless(collection: Collection, out: Path, model: str, useful: int, taken: int) -> DataError:
    return DataError(
        f"only {useful} of {taken} replies gave a row that can be kept, so no more are asked for",
        file=working_file(out),
        key=model,
        value=dict(collection.refused.most_common(5)),
        allowed=f"a row from at least {USEFUL:.0%} of the replies",
        next_step="read the replies in this file; give another model, or describe the condition more widely",
    )


def _written(collection: Collection, out: Path, calls: int) -> Generated:
    found = [entry for form in collection.grid.forms for entry in collection.rows.get(form, ())]
    if len(found) < collection.wanted:
        raise DataError(
            f"only {len(found)} of {collection.wanted} rows could be had",
            file=working_file(out),
            value=dict(collection.refused.most_common(5)),
            next_step="ask for fewer rows, give another model, or describe the condition more widely; what was written is kept",
        )
    write_rows(found, out)
    return Generated(len(found), calls, dict(collection.refused), {form: len(rows) for form, rows in collection.rows.items()})


def _fill(template: str, **values: str) -> str:
    """Named fields replaced in one pass; double braces become single ones."""
    fields = "|".join(values)
    return re.sub(rf"\{{\{{|\}}\}}|\{{({fields})\}}", lambda found: values[found[1]] if found[1] else found[0][0], template)
