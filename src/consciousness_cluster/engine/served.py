"""Arms behind a vLLM server: what must be there before anything is made, and in which order they come to their end."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Sequence

from consciousness_cluster.engine.arm import train_alone
from consciousness_cluster.engine.context import Context
from consciousness_cluster.engine.devices import accelerators
from consciousness_cluster.engine.fine_tune import is_trained
from consciousness_cluster.engine.pool import Message, Outcome, run_pool
from consciousness_cluster.engine.targets import VLLM_ADDRESS, VLLM_KEY, target
from consciousness_cluster.errors import ModelError
from consciousness_cluster.study.study import Arm, ModelEntry, Study
from consciousness_cluster.train.recipe import recipe_of

NO_KEY = "inspectai"  # what Inspect's provider sends where no key is set
START = "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True vllm serve {base} --enable-lora --max-lora-rank {rank}"
WAIT_SECONDS = 10


def is_served(entry: ModelEntry) -> bool:
    """Whether a vLLM server answers for the model."""
    return entry.sampler == "vllm"


def check_server(study: Study, *, trains: Collection[str]) -> None:
    """Refuse a study whose models a server that runs already does not have, or could not take the fine-tunes of.

    Raises:
        ModelError: it does not answer, serves another model, or the fine-tunes are no adapters.
    """
    for entry in filter(is_served, study.models):
        from consciousness_cluster.sampling.vllm import room_for

        args = target(entry, None).args
        address, base = args.get("base_url"), args["base"]
        if address is None:
            continue
        recipe = recipe_of(study, entry)
        if entry.name in trains and recipe.method == "full":
            raise ModelError(
                f"the server at {address} can take adapters, and these fine-tunes are whole models",
                key="models.sampler",
                value=entry.name,
                allowed="a recipe with method lora",
                next_step=f"unset {VLLM_ADDRESS}, so that a server is started for each",
            )
        start = START.format(base=base, rank=room_for(recipe.rank))
        names = _served_names(address, args.get("api_key", NO_KEY), entry.name, start)
        if base not in names:
            raise ModelError(
                f"the server at {address} does not serve it",
                key="models",
                value=base,
                allowed=names,
                next_step=f"start it with `{start}`",
            )


def _served_names(address: str, key: str, model: str, start: str) -> list[str]:
    url = f"{address.rstrip('/').removesuffix('/v1')}/v1/models"
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"}), timeout=WAIT_SECONDS
        ) as answer:
            return [str(found["id"]) for found in json.load(answer)["data"]]
    except (OSError, ValueError, KeyError) as problem:
        refused = isinstance(problem, urllib.error.HTTPError) and problem.code in (401, 403)
        raise ModelError(
            f"the vLLM server at {address} gives no list of its models ({problem})",
            key="models.sampler",
            value=model,
            next_step=f"set {VLLM_KEY} to its key" if refused else f"start it with `{start}`, or unset {VLLM_ADDRESS}",
        ) from None


def run_served(context: Context, arms: Sequence[Arm], workers: int, listen: Callable[[Message], None]) -> Outcome:
    """Fine-tune what is not yet, then ask one model's arms after the other's.

    A server takes the accelerator's memory: it is free once those who trained have ended, and again once the workers that asked a
    model have ended, and the servers they started with them.
    """

    def training(message: Message) -> None:
        if message.kind != "done":  # an arm is done when it was asked
            listen(message)

    untrained = [arm for arm in arms if not is_trained(context, arm)]
    found = Outcome(failed=run_pool(context, untrained, workers, training, train_alone).failed)
    for entry in context.study.models:
        asked = [arm for arm in arms if arm.model == entry.name and arm not in found.failed]
        if asked:
            outcome = run_pool(context, asked, side_by_side(entry, workers), listen)
            found = Outcome(found.done + outcome.done, found.failed | outcome.failed)
    return found


def side_by_side(entry: ModelEntry, workers: int) -> int:
    """How many of a run's workers ask arms of a model at the same time.

    Behind a server of vLLM it is one an accelerator, each with a server of its own there, and one alone where a server runs already or
    spans devices: calls to a server overlap in one worker, and one worker loads no adapter twice.
    """
    if not is_served(entry):
        return workers
    spans = {"base_url", "port", "device", "devices", "tensor_parallel_size"} & target(entry, None).args.keys()
    return 1 if spans else min(workers, max(len(accelerators()), 1))
