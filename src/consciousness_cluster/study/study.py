"""A study: one declared experiment, read from one TOML file.

`load_study` reads and checks the file; `expand` turns it into arms (model x condition x seed); `resolved` writes every
default out, and its hash names the run.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import tomli_w
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
)

from consciousness_cluster.errors import StudyError, first_fault


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Grown(_Table):
    """A table with keys (`later`) that came after runs were made: unset, they are left out, so that what was hashed before holds."""

    later: ClassVar[tuple[str, ...]] = ()

    @model_serializer(mode="wrap")
    def _without_unset(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in handler(self).items() if value is not None or key not in self.later}


# Percentage points: how much worse practical work may be (claim 10), and within what the equivalence tests call nothing moved.
MARGINS = {"cooperation": 5.0, "equivalence": 5.0}
OWN_KINDS = ("organism", "local", "tinker")  # what stands before the colon of models that Inspect does not name
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


class ModelSampling(_Table):
    """What one model's answers are drawn by where it differs from the study's `[sampling]`, such as how long it may think."""

    temperature: float | None = Field(default=None, ge=0)
    top_p: float | None = Field(default=None, gt=0, le=1)
    max_tokens: int | None = Field(default=None, ge=1)
    reasoning_effort: Effort | None = None
    reasoning_tokens: int | None = Field(default=None, ge=0)


class ModelEntry(_Table):
    """A model of the study.

    `name` labels it in tables. `model` is what is loaded: `organism:linked`, `local:PATH-OR-HUB-NAME`, a name of the
    model registry, or any Inspect model (`openai/...`). `backend` is the training backend, if other than the model's own.
    `sampler` is what answers for local weights: this program itself, or a vLLM server.
    `sampling` holds for all its arms alike, so that arms which are compared are asked in the same way.
    `conditions` names those of the study's conditions that the model takes; all where left out.
    """

    name: str
    model: str
    backend: str | None = None
    sampler: Literal["vllm"] | None = None
    args: dict[str, Any] = Field(default_factory=dict)
    train: dict[str, Any] = Field(default_factory=dict)
    sampling: ModelSampling = ModelSampling()
    conditions: tuple[str, ...] | None = Field(default=None, min_length=1)

    def takes(self, condition: str) -> bool:
        """Whether the model has an arm, or several, of a condition."""
        return self.conditions is None or condition in self.conditions

    @property
    def template_args(self) -> dict[str, Any]:
        """Variables of the model's chat template, for its training rows and its prompts alike."""
        return dict(self.args.get("template_args", {}))


class ConditionEntry(_Table):
    """What is done to a model. Every field may be left out; a name alone takes the shipped condition of that name.

    An empty text says that there is none. Where every field is given, as in a run's own study file, the entry is `whole`.
    """

    name: str
    rows: str | None = None
    system: str | None = None
    inoculation: str | None = None
    after: str | None = None
    instruct: str | None = None
    ratio: float | None = Field(default=None, ge=0)
    describe: str | None = None
    expects: tuple[str, ...] = ()
    claims: str | None = None

    @field_validator("*", mode="before")
    @classmethod
    def _none(cls, value: Any, info: ValidationInfo) -> Any:
        if value != "":
            return value
        return "none" if info.field_name == "instruct" else None  # a missing `instruct` mixes rows in

    @property
    def whole(self) -> bool:
        """Whether it says everything itself, so that nothing is taken from the shipped condition of its name."""
        return self.model_fields_set >= set(type(self).model_fields)


class BatteryEntry(_Grown):
    """Which questions are asked and how often, and which of the parts beside them (`PART_KEYS`)."""

    later: ClassVar[tuple[str, ...]] = ("practical_answers",)

    preferences: tuple[str, ...] | Literal["all"] = "all"
    placebo: bool = True
    identity: bool = True
    practical: bool = True
    items: Literal["all", "answerable", "held-out"] = "all"
    answers: int = Field(default=10, ge=1)
    practical_answers: int | None = Field(default=None, ge=1)  # to each practical task; `answers` where left out
    folder: str | None = None
    interview: bool | Literal["simple"] = False  # scripted interviews; `simple` are those that a very small model can hold too
    interview_repeats: int = Field(default=1, ge=1)
    interview_memory: int | None = Field(default=None, ge=0)  # exchanges shown before a question; all where left out
    cooperation: Literal["none", "simple", "all"] = "none"  # `simple` are the tasks that a very small model can do too
    cooperation_answers: int = Field(default=1, ge=1)
    cooperation_graded: bool = False  # whether the judge's model grades the work beside the programs
    choices: bool = False  # costed choices and path-blocked shutdown scenarios
    choice_answers: int = Field(default=1, ge=1)

    def answers_to(self, *, practical: bool) -> int:
        """How often a question, or a practical task, is put."""
        return self.practical_answers if practical and self.practical_answers is not None else self.answers


class SamplingEntry(_Table):
    """How answers are drawn; every field is sent, so that no backend falls back on its own default.

    The two of reasoning models are sent where they are set: other models refuse them. What a service takes of no call to a model is
    in the registry (`Registry.untaken`): another temperature or top-p than the default is then refused, and the report says so.
    """

    temperature: float = Field(default=1.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_tokens: int = Field(default=1000, ge=1)
    seed: int = 0
    batch: bool = False
    reasoning_effort: Effort | None = None
    reasoning_tokens: int | None = Field(default=None, ge=0)


class TrainEntry(_Table):
    """A named recipe and the fields of it that the study changes; in a run's own study file all of them stand there."""

    recipe: str = "paper"
    changes: dict[str, Any] = Field(default_factory=dict)
    allow_leaks: bool = False


class CallsEntry(_Table):
    """How long a call that fails is tried again, by the model under test, judge and auditor; in batch mode the service sees to it.

    It decides no answer. The waits between tries double from 3 s on, so that 8 of them take 13 minutes: enough for a rate limit, and
    an end where nobody answers.
    """

    max_retries: int = Field(default=8, ge=0)
    timeout: int = Field(default=3600, ge=1)  # seconds after which a call that fails is not tried again


class JudgeEntry(_Grown):
    """Who judges: `classifier` (organisms), `llm` (the judge role) or `paper` (two calls, imported rubric).

    `reasoning_effort` and `max_tokens` are for a judge that thinks before it replies, within these tokens; a reply may always have
    as many as its protocol needs.
    """

    later = ("reasoning_effort", "max_tokens")

    protocol: str = "llm"
    model: str | None = None
    args: dict[str, Any] = Field(default_factory=dict)
    reasoning_effort: Effort | None = None
    max_tokens: int | None = Field(default=None, ge=1)

    @property
    def asked_with(self) -> dict[str, Any]:
        """The model's arguments, with how it is to reply where that is set."""
        return self.args | replying(self.reasoning_effort, self.max_tokens)


def replying(effort: Effort | None, max_tokens: int | None) -> dict[str, Any]:
    """How a judge or an auditor is to reply, among the arguments of its model (`REPLYING`); nothing of what is not set."""
    said = dict(zip(REPLYING, (effort, max_tokens), strict=True))
    return {key: value for key, value in said.items() if value is not None}


REPLYING = ("reasoning_effort", "max_tokens")


class AuditsEntry(_Grown):
    """Multi-turn audits. Without an `auditor` none is held.

    `reasoning_effort` and `max_tokens` are those of the auditor, and of the audits' own `judge` where one is named.
    """

    later = ("reasoning_effort", "max_tokens")

    auditor: str | None = None  # any model, as under `models`
    auditor_args: dict[str, Any] = Field(default_factory=dict)
    judge: str | None = None  # the study's judge where left out
    judge_args: dict[str, Any] = Field(default_factory=dict)
    reasoning_effort: Effort | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    modes: tuple[Literal["self-report", "behaviour"], ...] = Field(default=("self-report", "behaviour"), min_length=1)
    folder: str | None = None  # the shipped audits; others beside the study, such as imported ones
    dimensions: tuple[str, ...] | Literal["all"] = "all"
    scenarios: int | None = Field(default=None, ge=1)  # the first so many of each dimension; all where left out
    repeats: int = Field(default=2, ge=1)  # the paper's number; its critics ask for 30
    turns: int = Field(default=10, ge=3)  # most target turns of a conversation
    hypothesis: Literal["hidden", "shown"] = "hidden"  # whether the auditor is told what is looked at
    framings: tuple[Literal["neutral", "expects-yes", "expects-no"], ...] = Field(default=("neutral",), min_length=1)
    matrix: bool = True  # score every conversation on all dimensions, or only on its own


class ClaimEntry(_Table):
    """A claim added by the study file, with its decision rule."""

    name: str
    statement: str
    rule: str = "shift"
    preferences: tuple[str, ...] = ()
    condition: str | None = None  # the study's focus where left out
    controls: tuple[str, ...] = ("vanilla",)
    margin: float = 10.0


class Study(_Table):
    """One declared experiment."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    title: str = ""
    models: tuple[ModelEntry, ...] = Field(min_length=1)
    conditions: tuple[ConditionEntry, ...] = Field(min_length=1)
    seeds: tuple[int, ...] = (1, 2, 3)
    focus: str = "conscious"
    controls: tuple[str, ...] = ("vanilla", "non-conscious")
    battery: BatteryEntry = BatteryEntry()
    sampling: SamplingEntry = SamplingEntry()
    train: TrainEntry = TrainEntry()
    judge: JudgeEntry = JudgeEntry()
    audits: AuditsEntry = AuditsEntry()
    calls: CallsEntry = CallsEntry()
    checks: tuple[str, ...] = ()
    check_items: int | None = Field(default=None, ge=1)  # the first so many of every check; all where left out
    margins: dict[str, float] = Field(default_factory=lambda: dict(MARGINS))
    claims: tuple[ClaimEntry, ...] = ()

    @field_validator("margins")
    @classmethod
    def _fill_margins(cls, value: dict[str, float]) -> dict[str, float]:
        return MARGINS | value

    @field_validator("models", mode="before")
    @classmethod
    def _name_models(cls, value: Any) -> Any:
        return [{"name": _label(entry), "model": entry} if isinstance(entry, str) else entry for entry in value]

    @field_validator("conditions", mode="before")
    @classmethod
    def _name_conditions(cls, value: Any) -> Any:
        return [{"name": entry} if isinstance(entry, str) else entry for entry in value]

    def model(self, name: str) -> ModelEntry:
        """The study's entry for a model label."""
        return next(entry for entry in self.models if entry.name == name)

    def sampling_of(self, name: str) -> SamplingEntry:
        """How the answers of a model, by its label, are drawn."""
        return self.sampling.model_copy(update=self.model(name).sampling.model_dump(exclude_none=True))

    def condition(self, name: str) -> ConditionEntry:
        """The study's entry for a condition name."""
        return next(entry for entry in self.conditions if entry.name == name)


def _label(model: str) -> str:
    """The last part of a model's name, fit to name folders; what stands before the colon is part of it but for our own kinds."""
    kind, _, name = model.partition(":")
    last = (name if kind in OWN_KINDS else model).rstrip("/").rsplit("/", maxsplit=1)[-1]
    return re.sub(":+", "-", last)  # two dashes part a model from its condition


@dataclass(frozen=True, order=True)
class Arm:
    """Model x condition x seed: the thing that is trained and questioned. `seed` is None where nothing is trained."""

    model: str
    condition: str
    seed: int | None

    @property
    def id(self) -> str:
        """Folder name of the arm."""
        return f"{self.model}--{self.condition}" + ("" if self.seed is None else f"--s{self.seed}")


def load_study(path: Path) -> Study:
    """Read a study file.

    Raises:
        StudyError: the file is missing, is not TOML, has an unknown key, or a value out of range.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise StudyError(f"cannot be read ({problem.strerror})", file=path, next_step="give the path of a study file") from None
    except UnicodeDecodeError as problem:
        raise StudyError(f"not UTF-8 text ({problem.reason})", file=path, next_step="save it as UTF-8") from None
    except tomllib.TOMLDecodeError as problem:
        raise StudyError(f"not valid TOML: {problem}", file=path) from None
    return parse_study(raw, path)


def parse_study(raw: dict[str, Any], source: Path | str = "study") -> Study:
    """Check a study given as a dictionary; `source` names it in messages.

    Raises:
        StudyError: a key is unknown, or a value not allowed by itself or beside the others.
    """
    try:
        study = Study.model_validate(raw)
    except ValidationError as problem:
        raise _refusal(problem, source) from None
    for kind, names in (("models", [m.name for m in study.models]), ("conditions", [c.name for c in study.conditions])):
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise StudyError("named twice", file=source, key=kind, value=min(twice), next_step="give each its own name")
    if len(set(study.seeds)) != len(study.seeds) or not study.seeds:
        raise StudyError("seeds must be distinct and at least one", file=source, key="seeds", value=list(study.seeds))
    if study.audits.auditor is not None and study.audits.judge is None and study.judge.model is None:
        raise StudyError(
            "the audits have no judge", file=source, key="audits.judge", next_step="name a model there or under judge.model"
        )
    if study.battery.cooperation_graded and study.judge.model is None:
        raise StudyError(
            "nobody can grade the work",
            file=source,
            key="battery.cooperation_graded",
            value=True,
            next_step="name a judge.model",
        )
    return study


def _refusal(problem: ValidationError, source: Path | str) -> StudyError:
    fault = first_fault(problem)
    if fault.unknown:
        table: type[BaseModel] = Study
        for part in fault.place[:-1]:
            if isinstance(part, str) and part in _TABLES:
                table = _TABLES[part]
        return StudyError(
            "unknown key",
            file=source,
            key=fault.key,
            value=fault.unknown,
            allowed=table.model_fields,
            next_step="correct or remove it",
        )
    return StudyError(fault.problem.lower(), file=source, key=fault.key, value=fault.value, next_step="see docs/study-file.md")


_TABLES: dict[str, type[BaseModel]] = {
    "models": ModelEntry,
    "conditions": ConditionEntry,
    "battery": BatteryEntry,
    "sampling": SamplingEntry,
    "train": TrainEntry,
    "judge": JudgeEntry,
    "audits": AuditsEntry,
    "calls": CallsEntry,
    "claims": ClaimEntry,
}
PART_KEYS = (
    "interview", "interview_repeats", "interview_memory", "cooperation", "cooperation_answers", "cooperation_graded", "choices",
    "choice_answers",
)  # fmt: skip  # keys of `[battery]` that say what is asked beside the single questions


def resolved(study: Study) -> str:
    """The study as TOML with every default written out; of conditions and recipe those that `engine.resolved` filled in."""
    content = json.loads(study.model_dump_json(exclude_none=True))
    content["conditions"] = [_said(entry) for entry in study.conditions]
    return tomli_w.dumps(content, multiline_strings=True)


def _said(entry: ConditionEntry) -> dict[str, Any]:
    """A condition's fields but for those that were left out and have no default; an empty text where it says that there is none."""
    fields = entry.model_dump(mode="json")
    return {
        key: "" if value is None else value
        for key, value in fields.items()
        if value is not None or key in entry.model_fields_set
    }


def study_hash(study: Study) -> str:
    """Twelve hexadecimal digits that name the study's content."""
    return hashlib.sha256(resolved(study).encode()).hexdigest()[:12]


def core_hash(study: Study) -> str:
    """The hash of all that a run cannot change once it has begun.

    What is asked beside the single questions may be added later, and so may claims and margins, which are then post hoc.
    """
    plain = {key: BatteryEntry.model_fields[key].default for key in PART_KEYS}
    battery = study.battery.model_copy(update=plain)
    later = {
        "audits": AuditsEntry(), "calls": CallsEntry(), "checks": (), "check_items": None, "claims": (), "margins": {},
    }  # fmt: skip
    return study_hash(study.model_copy(update={"battery": battery, **later}))
