"""Long-lived worker processes, one per core, that bring arms to their end one after another.

A worker ends itself when the process that started it is gone, so that a killed run leaves nothing behind. A worker that
dies is replaced, and its arm is recorded as failed.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, NoReturn

from consciousness_cluster.engine.arm import run_arm
from consciousness_cluster.engine.context import Context, Done, Report, parent_of
from consciousness_cluster.engine.devices import VISIBLE, accelerators
from consciousness_cluster.engine.extras import installed
from consciousness_cluster.engine.fine_tune import is_trained
from consciousness_cluster.engine.targets import base_of, in_process
from consciousness_cluster.errors import ClusterError, ForbiddenError, LoadError
from consciousness_cluster.sampling.weights import check_weights
from consciousness_cluster.study.conditions import expand
from consciousness_cluster.study.study import Arm

WATCH_SECONDS = 0.5
POLL_SECONDS = 0.2
NOBODY = -1  # the worker of what no worker says
SERVING = "consciousness_cluster.sampling.vllm"


@dataclass(frozen=True)
class Message:
    """What a worker says: `done` and `failed` end an arm, any other kind (`train`, `ask`, a part's name) is progress in it.

    `unloadable` says why the weights of the arm's model cannot be had, `forbidden` why its service does not let it be trained;
    listeners hear both as `failed`.
    """

    worker: int
    kind: str
    arm: Arm
    value: Any = None


@dataclass
class _Worker:
    process: SpawnProcess
    orders: Any
    arm: Arm | None = None


@dataclass
class Outcome:
    """What came of a list of arms."""

    done: list[Done] = field(default_factory=list)
    failed: dict[Arm, str] = field(default_factory=dict)
    unloadable: dict[str, str] = field(default_factory=dict)  # label of a model -> why its weights cannot be had
    forbidden: dict[str, str] = field(
        default_factory=dict
    )  # label of a model -> why its service trains none for this organisation

    @property
    def unfinished(self) -> dict[Arm, str]:
        """Arms that were not brought to their end, and why: those that broke down, and those of which something was not asked."""
        return self.failed | {done.arm: done.why for done in self.done if done.failed_items}


type Work = Callable[[Context, Arm, Report], Done]  # a function of a module, so that workers can import it


def run_pool(
    context: Context, arms: Sequence[Arm], workers: int, hear: Callable[[Message], None], work: Work = run_arm
) -> Outcome:
    """Bring all arms to their end; arms that start from another wait for it.

    A local model whose weights cannot be had is tried once, and so is one that its service lets nobody here train: its other arms
    fail with the same reason.

    Args:
        context: what the arms share.
        arms: which arms, in order of preference.
        workers: how many processes.
        hear: called in this process with everything that workers say.
        work: what brings an arm to its end.
    """
    method = multiprocessing.get_context("spawn")
    heard: Any = method.Queue()
    waiting = list(arms)
    outcome = Outcome(unloadable=_missing(context, waiting))
    _give_up(context, waiting, outcome, hear)
    pool: dict[int, _Worker] = {}
    numbers = iter(range(1 << 30))
    try:
        while waiting or any(worker.arm for worker in pool.values()):
            while len(pool) < min(workers, len(waiting) + sum(1 for w in pool.values() if w.arm)):
                number = next(numbers)
                pool[number] = _start(method, number, context, heard, work)
            for worker in pool.values():
                if worker.arm is None and (arm := _next(context, waiting, pool)) is not None:
                    worker.arm = arm
                    worker.orders.put(arm)
            _listen(heard, pool, outcome, hear)
            _bury(pool, outcome, hear)
            _give_up(context, waiting, outcome, hear)
    finally:
        for worker in pool.values():
            if worker.arm is None:
                worker.orders.put(None)  # it ends itself and leaves nothing behind
                worker.process.join(5)
            worker.process.terminate()
        for worker in pool.values():
            worker.process.join(5)
    return outcome


def _start(method: Any, number: int, context: Context, heard: Any, work: Work) -> _Worker:
    orders = method.Queue()
    found = accelerators()
    device = found[number % len(found)] if found else None
    process = method.Process(target=_work, args=(number, context, orders, heard, os.getpid(), work, device), daemon=True)
    process.start()
    return _Worker(process, orders)


def _next(context: Context, waiting: list[Arm], pool: dict[int, _Worker]) -> Arm | None:
    """The first arm that does not have to wait for another; arms of one model are kept together where possible."""
    busy = {worker.arm for worker in pool.values()} | set(waiting)
    for arm in waiting:
        parent = parent_of(context, arm)
        if parent is None or parent not in busy:
            waiting.remove(arm)
            return arm
    return None


def _give_up(context: Context, waiting: list[Arm], outcome: Outcome, hear: Callable[[Message], None]) -> None:
    """Arms of a model that is given up fail, and arms that start from one which failed, or from one of those."""
    for lost in list(waiting):
        why = outcome.unloadable.get(lost.model) or outcome.forbidden.get(lost.model)
        if why is not None and (lost.model in outcome.unloadable or _in_vain(context, lost)):
            waiting.remove(lost)
            _fail(Message(NOBODY, "failed", lost, why), outcome, hear)
    while (arm := next((arm for arm in waiting if parent_of(context, arm) in outcome.failed), None)) is not None:
        waiting.remove(arm)
        parent = parent_of(context, arm)
        _fail(Message(NOBODY, "failed", arm, f"it starts from {parent.id if parent else ''}, which failed"), outcome, hear)


def _in_vain(context: Context, arm: Arm) -> bool:
    """Whether asking an arm tells nothing where nothing more is trained: its fine-tune is not there, or none of its model is."""
    if not is_trained(context, arm):
        return True
    ours = [one for one in expand(context.study, context.conditions) if one.model == arm.model]
    return not any(context.conditions[one.condition].trained and is_trained(context, one) for one in ours)


def _missing(context: Context, arms: Sequence[Arm]) -> dict[str, str]:
    """Labels of models sampled in this program whose weights are plainly not to be had, and why."""
    found: dict[str, str] = {}
    for name in dict.fromkeys(arm.model for arm in arms):
        entry = context.study.model(name)
        if in_process(entry):
            try:
                check_weights(base_of(entry))
            except LoadError as problem:
                found[name] = str(problem)
    return found


def _fail(message: Message, outcome: Outcome, hear: Callable[[Message], None]) -> None:
    outcome.failed[message.arm] = str(message.value)
    hear(message)


def _listen(heard: Any, pool: dict[int, _Worker], outcome: Outcome, hear: Callable[[Message], None]) -> None:
    try:
        message: Message = heard.get(timeout=POLL_SECONDS)
    except queue.Empty:
        return
    given_up = {"unloadable": outcome.unloadable, "forbidden": outcome.forbidden}
    if message.kind in given_up:
        given_up[message.kind][message.arm.model] = str(message.value)
        message = replace(message, kind="failed")
    if message.kind in ("done", "failed") and message.worker in pool:
        pool[message.worker].arm = None
    if message.kind == "failed":
        _fail(message, outcome, hear)
        return
    if message.kind == "done":
        outcome.done.append(message.value)
    hear(message)


def _bury(pool: dict[int, _Worker], outcome: Outcome, hear: Callable[[Message], None]) -> None:
    for number, worker in list(pool.items()):
        if worker.process.is_alive():
            continue
        if worker.arm is not None:
            why = f"its worker died (exit status {worker.process.exitcode})"
            _fail(Message(number, "failed", worker.arm, why), outcome, hear)
        del pool[number]


def _work(number: int, context: Context, orders: Any, heard: Any, owner: int, work: Work, device: str | None) -> None:
    """A worker's life: take an arm, bring it to its end, say so. `device` is the accelerator that it has for itself."""
    if device is not None:
        os.environ[VISIBLE] = device
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the owner ends its workers
    if any(entry.sampler for entry in context.study.models):
        signal.signal(signal.SIGTERM, lambda *_: _leave(128 + signal.SIGTERM))
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  only the command line prints
    warnings.simplefilter("ignore")  # deprecation notes of libraries are not for the person who runs a study
    threading.Thread(target=_watch, args=(owner,), daemon=True).start()
    if installed("torch"):  # a study of hosted models alone does without
        import torch

        torch.set_num_threads(1)
    import consciousness_cluster._registry  # noqa: F401  makes our provider, tasks and hooks known to Inspect

    while True:
        arm: Arm | None = orders.get()
        if arm is None:
            _close_servers()
            return
        try:
            done = work(context, arm, _reporter(number, arm, heard))
        except KeyboardInterrupt:
            return
        except ClusterError as problem:
            heard.put(Message(number, _kind(problem, context, arm), arm, str(problem)))
        except Exception as problem:  # the one place that records a failed arm; the others go on
            _note_traceback(context, arm)
            heard.put(Message(number, "failed", arm, f"{type(problem).__name__}: {problem}"))
        else:
            heard.put(Message(number, "done", arm, done))


def _kind(problem: ClusterError, context: Context, arm: Arm) -> str:
    """How an arm failed, which says whether the model's other arms would end as it did."""
    if isinstance(problem, LoadError) and problem.value == base_of(context.study.model(arm.model)):
        return "unloadable"
    return "forbidden" if isinstance(problem, ForbiddenError) else "failed"


def _reporter(number: int, arm: Arm, heard: Any) -> Callable[[str, int, int], None]:
    last = 0.0

    def report(phase: str, done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if done == total or now - last > POLL_SECONDS:
            last = now
            heard.put(Message(number, phase, arm, (done, total)))

    return report


def _note_traceback(context: Context, arm: Arm) -> None:
    place = context.folder.arm(arm)
    place.mkdir(parents=True, exist_ok=True)
    (place / "error.txt").write_text(traceback.format_exc(), encoding="utf-8")


def _watch(owner: int) -> None:
    while os.getppid() == owner:
        time.sleep(WATCH_SECONDS)
    _leave(1)


def _leave(status: int) -> NoReturn:
    """End this worker at once."""
    _close_servers()
    os._exit(status)


def _close_servers() -> None:
    """End the servers that this worker has started: each holds an accelerator, and would outlive it."""
    if SERVING in sys.modules:  # loading it would load Inspect
        sys.modules[SERVING].close_server()
