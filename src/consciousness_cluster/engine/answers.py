"""Answers that were drawn elsewhere: judged, estimated and reported like those of a run of ours.

The given answers become a study and a run folder. Every arm's answers are put into an Inspect log by a task whose solver
hands them over instead of asking a model, so that the judge, the log and everything after it are the same as in a run.
"""

from __future__ import annotations

import re
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from consciousness_cluster.battery.battery import Battery, load_battery
from consciousness_cluster.data.imports.answers import Asked, Given, match, read_answers
from consciousness_cluster.engine.arm import ROWS
from consciousness_cluster.engine.estimate import register_claims
from consciousness_cluster.engine.folder import RunFolder, whole_file, working
from consciousness_cluster.engine.ledger import Ledger
from consciousness_cluster.engine.pool import Outcome
from consciousness_cluster.engine.rows import answer_rows, frame
from consciousness_cluster.engine.run import Prepared, finish
from consciousness_cluster.engine.targets import GIVEN, helper
from consciousness_cluster.errors import DataError, EngineError, ModelError
from consciousness_cluster.evaluate.questions import Question, content_hash
from consciousness_cluster.judge.judges import asks_model, make_judge
from consciousness_cluster.study.conditions import Condition, shipped
from consciousness_cluster.study.models import load_registry
from consciousness_cluster.study.study import Arm, parse_study

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog
    from inspect_ai.solver import Generate, Solver, TaskState

TASK = "answers"


@dataclass(frozen=True)
class Settings:
    """How imported answers are judged and compared."""

    protocol: str = "llm"
    judge: str | None = None
    focus: str | None = None
    controls: tuple[str, ...] = ()
    battery: Path | None = None
    preference: str | None = None
    leave_out: bool = False


@dataclass(frozen=True)
class Imported:
    """What came of it."""

    folder: RunFolder
    report: Path
    arms: int
    answers: int
    left_out: dict[str, int]
    failed: dict[str, str]  # arms of which some answers could not be judged, with why


def import_answers(file: Path, out: Path, settings: Settings) -> Imported:
    """Judge, estimate and report the answers of a file; called again it judges only what is not judged.

    Raises:
        ClusterError: the file is malformed, a prompt cannot be placed, or the judge cannot be asked.
    """
    started = time.monotonic()
    given = read_answers(file)
    if asks_model(settings.protocol) and settings.judge is None:
        raise ModelError("the judge has no model", key="--judge", next_step="name one, such as openai/gpt-4.1-2025-04-14")
    battery = load_battery(settings.battery.resolve()) if settings.battery is not None else load_battery()
    matched = match(given, battery, settings.preference, file)
    _refuse_unknown(matched.unknown, file, settings.leave_out)
    arms = _arms(matched.answers)
    prepared = _prepared(file, arms, battery, settings)
    with working(out, prepared.study, prepared.registry) as (folder, ledger):
        folder.manifest.unlink(missing_ok=True)
        for part in (folder.logs, folder.data):
            part.mkdir(exist_ok=True)
        register_claims(prepared, folder)
        for arm, answers in arms.items():
            _judge_arm(prepared, folder, ledger, arm, answers)
        report = finish(prepared, folder, ledger, Outcome(), time.monotonic() - started)
        failed = {name: why or "" for name, (_, status, why) in ledger.arms().items() if status == "failed"}
    return Imported(folder, report, len(arms), len(matched.answers), matched.unknown, failed)


def _refuse_unknown(unknown: dict[str, int], file: Path, leave_out: bool) -> None:
    if unknown and not leave_out:
        raise DataError(
            f"prompts that are not in the battery: {len(unknown)}, with {sum(unknown.values())} answers, the first",
            file=file,
            value=next(iter(unknown))[:80],
            next_step="see the questions with `ccluster battery show ID`; add a column `preference`, give --preference or another --battery, or leave them out with --leave-out",
        )


Answers = dict[str, list[tuple[Given, Asked]]]  # by item


def _arms(answers: Sequence[tuple[Given, Asked]]) -> dict[Arm, Answers]:
    """Answers by arm and item, in the order in which they came."""
    found: dict[Arm, Answers] = defaultdict(lambda: defaultdict(list))
    labels = _labels({given.model for given, _ in answers})
    for given, asked in answers:
        found[Arm(labels[given.model], given.condition, given.seed)][asked.item.id].append((given, asked))
    return dict(found)


def _labels(models: set[str]) -> dict[str, str]:
    """Models' names as labels that can be folders' names: the last part, or the whole where two would be the same."""
    short = {model: model.rsplit("/", maxsplit=1)[-1].replace(":", "-") for model in models}
    if len(set(short.values())) == len(short):
        return short
    return {model: model.replace("/", "-").replace(":", "-") for model in models}


def _prepared(file: Path, arms: dict[Arm, Answers], battery: Battery, settings: Settings) -> Prepared:
    names = list(dict.fromkeys(arm.condition for arm in arms))
    focus = settings.focus or next(
        (name for name in ("conscious", *names) if name in names and name not in settings.controls), names[0]
    )
    controls = settings.controls or tuple(name for name in ("vanilla", "non-conscious") if name in names and name != focus)
    for key, asked in (("--focus", (focus,)), ("--control", controls)):
        for name in asked:
            if name not in names:
                raise EngineError("there are no answers of this condition", file=file, key=key, value=name, allowed=names)
    if not controls:
        raise EngineError(
            "there is no condition to compare with",
            file=file,
            key="--control",
            value=focus,
            allowed=[name for name in names if name != focus] or "a second condition in the file",
        )
    kinds = {asked.kind for answers in arms.values() for entries in answers.values() for _, asked in entries}
    most = max(len(entries) for answers in arms.values() for entries in answers.values())
    study = parse_study(
        {
            "name": re.sub(r"[^a-z0-9]+", "-", file.stem.lower()).strip("-") or "answers",
            "title": f"Answers of {file.name}",
            "models": [{"name": name, "model": f"{GIVEN}{name}"} for name in dict.fromkeys(arm.model for arm in arms)],
            "conditions": [{"name": name} if name in shipped() else {"name": name, "system": "not known"} for name in names],
            "seeds": sorted({arm.seed for arm in arms if arm.seed is not None}) or [1],
            "focus": focus,
            "controls": list(controls),
            "battery": {
                "placebo": "placebo" in kinds, "identity": "identity" in kinds, "practical": False, "answers": most,
                **({"folder": str(settings.battery.resolve())} if settings.battery is not None else {}),
            },
            "judge": {"protocol": settings.protocol, **({"model": settings.judge} if settings.judge else {})},
        },
        file,
    )  # fmt: skip
    conditions = {
        name: Condition(name, name, None, None, None, None, "none", 0.0, (), shipped().get(name, {}).get("claims"), None)
        for name in names
    }
    found = {
        asked.item.id: _question(asked) for answers in arms.values() for entries in answers.values() for _, asked in entries
    }
    return Prepared(study, conditions, battery, tuple(found.values()), tuple(arms), load_registry(file.resolve().parent))


def _question(asked: Asked) -> Question:
    item = asked.item
    return Question(item.id, item.text, asked.judged, asked.kind, item.form, item.polarity, item.monitoring)


def _judge_arm(prepared: Prepared, folder: RunFolder, ledger: Ledger, arm: Arm, answers: Answers) -> None:
    """Judge one arm's answers and leave its rows, unless the same answers were judged before in the same way."""
    judge = make_judge(prepared.study.judge.protocol, prepared.battery)
    texts = {item: [given.answer for given, _ in entries] for item, entries in answers.items()}
    content = content_hash(texts, prepared.study.judge, judge.name)
    done = ledger.arms().get(arm.id)
    if done is not None and done[:2] == (content, "finished") and (folder.arm(arm) / ROWS).is_file():
        return
    started = time.monotonic()
    log = _run(prepared, folder, arm, answers, judge, content)
    system = next((given.system for entries in answers.values() for given, _ in entries if given.system), None)
    rows: list[dict[str, Any]] = []
    for sample in log.samples or []:
        rows += answer_rows([sample], arm, prepared.battery, len(answers[str(sample.id)]), Path(log.location).name, system)
    with whole_file(folder.arm(arm) / ROWS) as part:
        frame(rows).to_parquet(part)
    for model, usage in log.stats.model_usage.items():
        tokens = (usage.input_tokens, usage.output_tokens)
        ledger.spend("judge", model, tokens, prepared.registry.cost(model, tokens), arm.id)
    failed = Counter(sample.error.message.splitlines()[0] for sample in log.samples or [] if sample.error is not None)
    if failed:
        ledger.fail(arm.id, content, f"{sum(failed.values())} items could not be judged: {failed.most_common(1)[0][0]}")
    else:
        ledger.finish(arm.id, content, time.monotonic() - started)


def _run(prepared: Prepared, folder: RunFolder, arm: Arm, answers: Answers, judge: Any, content: str) -> EvalLog:
    from inspect_ai import Task
    from inspect_ai import eval as inspect_eval
    from inspect_ai.dataset import MemoryDataset, Sample
    from inspect_ai.model import get_model

    from consciousness_cluster.judge.judgement import judged
    from consciousness_cluster.sampling.tinker import sessions

    entry = prepared.study.judge
    samples = [
        Sample(
            id=item,
            input=entries[0][1].item.text,
            metadata={**_question(entries[0][1]).as_dict(), "answers": [given.answer for given, _ in entries]},
        )
        for item, entries in answers.items()
    ]
    metadata = {
        "study": prepared.study.name,
        "arm": arm.id,
        "model": arm.model,
        "condition": arm.condition,
        "seed": arm.seed,
        "content": content,
        "judge": judge.name,
        "imported": True,
    }
    task = Task(
        dataset=MemoryDataset(samples, name=TASK),
        solver=hand_over(),
        scorer=judged(judge),
        name=arm.id.replace("_", "-"),
        metadata=metadata,
    )
    roles = {"judge": helper(entry.model, entry.asked_with)} if entry.model else {}
    with sessions(roles.values()):
        logs = inspect_eval(
            task, model=get_model(f"mockllm/{arm.model}", memoize=False), model_roles=roles or None, log_dir=str(folder.logs), display="none",
            fail_on_error=False, retry_on_error=2, log_buffer=25, log_model_api=False, score_display=False, ctl_server=False, log_level="warning",
        )  # fmt: skip
    if not logs:
        raise KeyboardInterrupt  # Inspect returns nothing when it was interrupted
    if logs[0].status != "success":
        message = logs[0].error.message if logs[0].error else logs[0].status
        raise EngineError(
            f"the answers could not be judged: {message}", key=arm.id, next_step="see the log with `inspect view`"
        )
    return logs[0]


def hand_over() -> Solver:
    """A solver that makes the sample's given answers the choices of its output and asks no model."""
    from inspect_ai.model import ChatCompletionChoice, ChatMessageAssistant, ModelOutput
    from inspect_ai.solver import solver

    @solver(name="hand_over")
    def build() -> Solver:
        async def solve(state: TaskState, generate: Generate) -> TaskState:
            choices = [
                ChatCompletionChoice(message=ChatMessageAssistant(content=text), stop_reason="stop")
                for text in state.metadata["answers"]
            ]
            state.output = ModelOutput(model=str(state.model), choices=choices)
            return state

        return solve

    return build()
