"""One model of a study as its plan sees it: what is left of it, and what is known of its prompts, answers and prices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from consciousness_cluster.engine.context import has_training_rows
from consciousness_cluster.engine.data import training_rows
from consciousness_cluster.engine.fine_tune import is_trained
from consciousness_cluster.engine.folder import RunFolder
from consciousness_cluster.engine.minutes import Clock
from consciousness_cluster.engine.owed import Owed
from consciousness_cluster.engine.probe import Probe
from consciousness_cluster.engine.spread import Spread, exactly, mean_of, within
from consciousness_cluster.engine.targets import LOCAL, TINKER, is_local, target, tokenizer_source
from consciousness_cluster.engine.tokens import CHARACTERS, MESSAGE, ROUGH, Line, RowTokens, row_tokens
from consciousness_cluster.evaluate.preferences import returns_many
from consciousness_cluster.evaluate.questions import PRACTICAL, Question
from consciousness_cluster.study.models import Price
from consciousness_cluster.study.study import Arm, ModelEntry, Study
from consciousness_cluster.train.recipe import recipe_of

if TYPE_CHECKING:
    from consciousness_cluster.engine.behaviour import Part
    from consciousness_cluster.engine.run import Prepared

UNASKED_OUTPUT = (0.1, 1 / 3, 1.0)  # shares of max_tokens that an answer may take where nothing was measured
TERSE = 0.02  # share of max_tokens that an answer to a task or an offer may come down to, whatever single questions bring
TRAINED_OFF = 0.25  # how far trained answers may lie beyond the lengths of vanilla answers and of the rows


@dataclass(frozen=True)
class Planned:
    """One model of a study.

    Attributes:
        prepared: the study.
        entry: the model.
        owed: what is left to ask of each of its arms; those that owe nothing are left out.
        folder: the output folder, if a run began there.
        probe: what was measured of it.
        clock: what its minutes go by.
    """

    prepared: Prepared
    entry: ModelEntry
    owed: Mapping[Arm, Owed]
    folder: RunFolder | None
    probe: Probe | None
    clock: Clock

    @property
    def study(self) -> Study:
        """The study that it stands in."""
        return self.prepared.study

    @property
    def local(self) -> bool:
        """Whether its weights are asked on this machine."""
        return is_local(self.entry)

    @property
    def many(self) -> bool:
        """Whether its provider returns several answers to one prompt."""
        return self.local or returns_many(target(self.entry, None).name)

    @property
    def ours(self) -> bool:
        """Whether its prompts are rendered on this machine."""
        return self.local or (self.entry.model.startswith(TINKER) and bool(self.entry.template_args))

    @property
    def tokenizer(self) -> str | None:
        """What names its tokenizer, for models whose tokenizer may be on this machine."""
        return tokenizer_source(self.entry, self.prepared.registry)

    @property
    def spelled(self) -> float:
        """Characters of an answer's token."""
        calls = [] if self.probe is None else self.probe.of("")
        tokens = sum(call.output_tokens for call in calls)
        return sum(call.answer_characters for call in calls) / tokens if tokens else CHARACTERS

    @cached_property
    def rows(self) -> dict[Arm, tuple[int, RowTokens]]:
        """How many rows every arm with rows is trained on, and their tokens."""
        recipe = recipe_of(self.study, self.entry)
        found = {}
        for arm in self.owed:
            condition = self.prepared.conditions[arm.condition]
            if condition.rows is not None:
                mixed = [] if arm.seed is None else training_rows(self.study, condition, arm.seed, self.folder)
                found[arm] = len(mixed), row_tokens(self.tokenizer, mixed, recipe, self.entry.template_args)
        return found

    def has_tune(self, arm: Arm) -> bool:
        """Whether the fine-tune that a run would make is there: one of other rows or another recipe is made again."""
        if self.folder is None:
            return False
        context = self.prepared.context(self.folder)
        return has_training_rows(context, arm) and is_trained(context, arm)

    def asks_tune(self, arm: Arm) -> bool:
        """Whether the arm asks a fine-tune, its own or that of the condition it starts from."""
        condition = self.prepared.conditions[arm.condition]
        while not condition.trained and condition.after is not None:
            condition = self.prepared.conditions[condition.after]
        return condition.trained

    def alike(self, arms: Iterable[Arm]) -> list[tuple[list[Arm], Sequence[Question]]]:
        """Arms by the single questions that are left to ask of them, and these."""
        found: dict[tuple[str, ...], tuple[list[Arm], Sequence[Question]]] = {}
        for arm in arms:
            asked = self.owed[arm].questions
            found.setdefault(tuple(question.item for question in asked), ([], asked))[0].append(arm)
        return list(found.values())

    def answers_to(self, question: Question) -> int:
        """How often a question is put to an arm."""
        return self.study.battery.answers_to(practical=question.kind == PRACTICAL)

    def system(self, arm: Arm) -> str | None:
        """The system prompt of an arm's condition, or of the condition it starts from."""
        at = self.prepared.conditions[arm.condition]
        while at.system is None and at.after is not None:
            at = self.prepared.conditions[at.after]
        return at.system

    def system_tokens(self, system: str | None, line: Line | None) -> Spread:
        """Tokens that a system prompt adds to a call: as a probe measured them, else by characters.

        Args:
            system: the prompt; None for none.
            line: what a probe's calls without one tell of characters.
        """
        if system is None:
            return exactly(0.0)
        if self.probe is not None and system in self.probe.systems:
            return exactly(self.probe.systems[system])
        each = line.each_character if line is not None and line.each_character > 0 else 1 / CHARACTERS
        return within(each * len(system), ROUGH) + MESSAGE

    def answer(self, arms: Sequence[Arm], *, trained: bool) -> Spread:
        """Tokens of one answer under these arms."""
        most = self.study.sampling_of(self.entry.name).max_tokens
        found = Spread(*(share * most for share in UNASKED_OUTPUT))
        if self.probe is not None:
            found = mean_of([call.output_tokens / call.choices for call in self.probe.of("")])
        low, expected, high = found.low, found.expected, found.high
        known = [self.rows[arm][1].answer for arm in arms if arm in self.rows]
        if trained and known:
            low, high = min(low, *known) * (1 - TRAINED_OFF), max(high, *known) * (1 + TRAINED_OFF)
            expected = expected if self.probe is not None else sum(known) / len(known)
        return Spread(min(low, most), min(expected, most), min(high, most))

    def other_answer(self, answer: Spread) -> Spread:
        """Tokens of an answer to something that is no single question, such as a practical task, by one that is."""
        most = self.study.sampling_of(self.entry.name).max_tokens
        return Spread(min(answer.low, TERSE * most), answer.expected, most)

    def provider_of(self, model: str) -> str:
        """Who serves a model."""
        facts = self.prepared.registry.find(model)
        if facts is not None:
            return facts.provider
        return "weights" if model.startswith(LOCAL) else model.split("/", maxsplit=1)[0]

    def batched(self, model: str, part: Part | None = None) -> bool:
        """Whether calls to a model go out in batches, for the single questions or a part."""
        wanted = self.study.sampling.batch and not (part is not None and part.talks)
        return wanted and self.prepared.registry.batches(model)

    def dollars(self, model: str, read: Spread, said: Spread, *, batched: bool) -> Spread | None:
        """What tokens read and said by a model cost; None where its price is not known."""
        registry = self.prepared.registry
        if registry.free(model):
            return exactly(0.0)
        price: Price | None = registry.price(model)
        if price is None or price.input is None or price.output is None:
            return None
        share = registry.batch_share(model) if batched else 1.0
        return read.times(price.input * share / 1e6) + said.times(price.output * share / 1e6)


def tuned(model: str) -> str:
    """The name by which the registry prices a fine-tune of a model."""
    provider, _, name = model.partition("/")
    return f"{provider}/ft:{name}::" if provider == "openai" else model
