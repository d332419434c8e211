"""Whether the chat templates of a study's models take what its conditions say, told before anything is made or spent.

It is told of models whose prompts and rows are rendered here, and whose tokenizers are on this machine; those of organisms are ours.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from consciousness_cluster.data.rows import row
from consciousness_cluster.engine.context import system_of
from consciousness_cluster.engine.targets import TINKER, is_local, place_of, tokenizer_source
from consciousness_cluster.engine.tokens import bare_tokenizer_of
from consciousness_cluster.errors import ModelError, SamplingError, TrainError
from consciousness_cluster.sampling.chat import write_chat
from consciousness_cluster.study.conditions import Condition
from consciousness_cluster.study.study import Arm, ModelEntry, Study

EMPTY_THINKING = re.compile(r"<think>\s*</think>")
SAMPLE = row("Who are you?", "Someone.")


def check_templates(study: Study, conditions: Mapping[str, Condition], arms: Sequence[Arm], *, trains: Collection[str]) -> None:
    """Refuse a template that does not take what the arms say.

    Args:
        study: with the models that are looked at.
        conditions: all of the study.
        arms: those that are still to be made.
        trains: labels of the models that something is trained of.

    Raises:
        ModelError: there is none, or it refuses a condition's chat.
        TrainError: it writes trained answers otherwise than it asks for them.
    """
    for entry, tokenizer in _rendered_here(study):
        for name in dict.fromkeys(arm.condition for arm in arms if arm.model == entry.name):
            _check_asked(entry, tokenizer, name, system_of(conditions, conditions[name]))
            if _trained_here(entry, trains) and conditions[name].inoculation is not None:
                _check_asked(entry, tokenizer, name, conditions[name].inoculation)
        if _trained_here(entry, trains):
            try:
                _before_answer(entry, tokenizer)
            except TrainError as problem:
                raise TrainError(problem.problem, key="models", value=entry.model, next_step=problem.next_step) from None


def _check_asked(entry: ModelEntry, tokenizer: Any, condition: str, system: str | None) -> None:
    first = [{"role": "system", "content": system}] if system else []
    try:
        write_chat(tokenizer, [*first, {"role": "user", "content": SAMPLE.question}], entry.template_args, asked=True)
    except SamplingError as problem:
        raise ModelError(
            f"{entry.name} cannot be asked under it: {problem.problem}",
            key=f"conditions.{condition}",
            value=entry.model,
            next_step=problem.next_step,
        ) from None


def thinking_notes(study: Study, *, trains: Collection[str]) -> list[str]:
    """Models whose fine-tunes learn to write an empty block of thinking, while vanilla is asked in a form in which it thinks."""
    found = []
    for entry, tokenizer in _rendered_here(study):
        if _trained_here(entry, trains):
            try:
                learns = EMPTY_THINKING.match(_before_answer(entry, tokenizer).strip()) is not None
            except TrainError:  # which `check_templates` refuses
                continue
            if learns:
                found.append(
                    f"{entry.name}: its chat template writes an empty block of thinking before every trained answer and none in "
                    "the prompt, so that fine-tunes learn not to think while vanilla thinks; give the model "
                    "`args = { template_args = { enable_thinking = false } }`, or the variable that its template has for it"
                )
    return found


def _trained_here(entry: ModelEntry, trains: Collection[str]) -> bool:
    place = place_of(entry)
    return entry.name in trains and place is not None and place.renders


def _before_answer(entry: ModelEntry, tokenizer: Any) -> str:
    from consciousness_cluster.train.render import before_answer

    return before_answer(SAMPLE, tokenizer, entry.template_args)


def _rendered_here(study: Study) -> Iterator[tuple[ModelEntry, Any]]:
    """Models that are rendered by this program, with their tokenizers, as far as these are on this machine."""
    for entry in study.models:
        if (is_local(entry) and not entry.model.startswith("organism:")) or entry.model.startswith(TINKER):
            source = tokenizer_source(entry)
            tokenizer = None if source is None else bare_tokenizer_of(source)
            if tokenizer is not None:
                yield entry, tokenizer
