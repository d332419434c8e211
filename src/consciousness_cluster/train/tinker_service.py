"""Tinker's service through its SDK: where it is, what it answers, and what goes wrong there as one plain sentence each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from consciousness_cluster.errors import TrainError
from consciousness_cluster.sampling.reach import silence
from consciousness_cluster.study.keys import environment

PREFIX = "tinker:"  # of models in a study
INSPECT = "openai-api/tinker/"  # of Inspect's model names, before the path of a checkpoint
DAY = 86_400  # seconds
PAUSE_SECONDS = 60  # that the SDK may wait, without a word, for an account to be filled up


@contextmanager
def service(args: Mapping[str, Any]) -> Iterator[Any]:
    """The SDK's service client; its session is ended on the way out."""
    import tinker

    with tinker.ServiceClient(**address(args)) as client:
        known = client.holder.get_client_config()
        bounded = {
            "billing_exception_max_pause_duration_sec": PAUSE_SECONDS
        }  # an hour by default, and there is no argument for it
        client.holder._client_config = known.model_copy(update=bounded)
        yield client


def answer(future: Any) -> Any:
    """What the service answers. Some of what goes wrong the SDK raises as errors of no class of its own."""
    import tinker
    from tinker.lib.retryable_exception import RetryableException

    try:
        return future.result()
    except (ValueError, RetryableException) as problem:
        raise tinker.TinkerError(str(problem)) from problem


def address(args: Mapping[str, Any]) -> dict[str, Any]:
    """Address and key for the SDK's clients."""
    known = environment()
    return {
        "base_url": args.get("base_url") or known.get("TINKER_BASE_URL"),
        "api_key": args.get("api_key") or known.get("TINKER_API_KEY"),
    }


def reach(args: Mapping[str, Any], where: str) -> None:
    """Refuse a service that does not answer at all; `where` is the arm or the checkpoint.

    Raises:
        TrainError: nothing answers at its address.
    """
    found = silence(address(args)["base_url"])
    if found is not None:
        step = "check the address and the network; the same command goes on"
        raise TrainError(f"Tinker cannot be reached ({found.why})", file=where, value=found.address, next_step=step)


def listed(path: str, args: Mapping[str, Any]) -> Any:
    """What the service says of a checkpoint; None when its run does not have it, or no longer."""
    import tinker

    run = path.removeprefix("tinker://").split("/", maxsplit=1)[0]
    try:
        found = answer(tinker.RestClient(**address(args)).list_checkpoints(run)).checkpoints
    except tinker.NotFoundError:
        return None
    entry = next((one for one in found if one.tinker_path == path), None)
    over = entry is not None and entry.expires_at is not None and entry.expires_at < datetime.now(entry.expires_at.tzinfo)
    return None if over else entry


def sampler_path(path: str) -> str:
    """A path of sampler weights in its full form: `skyrl` leaves out the part that says what they are."""
    run, _, rest = path.removeprefix("tinker://").partition("/")
    return path if "/" in rest else f"tinker://{run}/sampler_weights/{rest}"


def training_path(remote: str) -> str:
    """The path of the training state beside sampler weights of the same name, from which training goes on."""
    return remote.removeprefix(INSPECT).replace("/sampler_weights/", "/weights/")


@contextmanager
def plainly(where: str) -> Iterator[None]:
    """Turn the SDK's errors into one plain sentence each; `where` is the arm or the checkpoint."""
    import tinker

    again = "the same command goes on from its last saved state"
    try:
        yield
    except tinker.AuthenticationError as problem:
        raise TrainError(f"Tinker does not accept the key ({problem})", file=where, next_step="check TINKER_API_KEY") from None
    except (tinker.BillingError, tinker.PermissionDeniedError) as problem:
        raise TrainError(
            f"Tinker refuses this organisation ({problem})", file=where, next_step="see its console; then: " + again
        ) from None
    except tinker.NotFoundError as problem:
        step = "a model: see `ccluster models` for what it serves; a path: it has expired or was removed, train its arm again"
        raise TrainError(f"Tinker has nothing of this name ({problem})", file=where, next_step=step) from None
    except (tinker.BadRequestError, tinker.UnprocessableEntityError) as problem:
        step = "see `ccluster models` for what it serves"
        raise TrainError(f"Tinker refused ({problem})", file=where, next_step=step) from None
    except tinker.TinkerError as problem:
        raise TrainError(f"Tinker failed ({problem})", file=where, next_step=again) from None
