"""The budget, through Inspect's hooks: the worst price of every call is set aside before it is sent, and put right when its
answer is there. A call that could pass the limit is not sent; its sample stops and is asked again by a run with more.

What was set aside is given back where the provider refused the call, and where the answer came from a cache. Of any other call
without an answer (cut off, timed out, broken off) nobody knows whether it is billed, so its worst price stays spent.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from inspect_ai.hooks import BeforeModelGenerate, Hooks, ModelCacheUsageData, ModelUsageData, hooks
from inspect_ai.util import LimitExceededError

from consciousness_cluster.engine.bank import Bank, unpriced
from consciousness_cluster.engine.tokens import EACH_MESSAGE
from consciousness_cluster.errors import BudgetError
from consciousness_cluster.study.models import Price

if TYPE_CHECKING:
    from inspect_ai.model import Model

UNLIMITED_OUTPUT = 32_768  # tokens assumed of a call that sets no limit, where nothing is known of the model
UNSENT = {"ConnectError", "ConnectTimeout", "PoolTimeout"}  # errors of the HTTP clients: the service was not reached
# Errors by which an answer may have been lost on its way.
LOST = {"TimeoutError", "TimeoutException", "NetworkError", "ProtocolError", "ClientPayloadError", "ServerDisconnectedError"}
CACHE_WRITE = 1.25  # what writing to a provider's prompt cache costs, as a share of an input token


def worst(price: Price, messages: Sequence[Any], config: Any, extra: str = "", most: int | None = None) -> float:
    """The most that a call can cost, in dollars: a token an input byte, every answer at its full length.

    Args:
        price: of the model.
        messages: what is sent.
        config: Inspect's generation settings.
        extra: further text that is sent (tools, a reply schema).
        most: the longest answer of the model, for a call that sets no limit.
    """
    read = sum(map(_bytes, messages)) + len(extra.encode())
    each = config.max_tokens or most or UNLIMITED_OUTPUT
    return (read * CACHE_WRITE * (price.input or 0.0) + each * (config.num_choices or 1) * (price.output or 0.0)) / 1e6


def _bytes(message: Any) -> int:
    """The most tokens that a message is read as: its text, and what an assistant thought and gave to tools, which is sent back."""
    kept = message.model_dump_json(include={"content", "tool_calls"}, exclude_none=True)
    return len(kept.encode()) + EACH_MESSAGE


def paid(price: Price, usage: Any) -> float:
    """What a call cost at list price, cached input counted in full, in dollars."""
    read = usage.input_tokens + (usage.input_tokens_cache_read or 0) + (usage.input_tokens_cache_write or 0) * CACHE_WRITE
    return float(read * (price.input or 0.0) + usage.output_tokens * (price.output or 0.0)) / 1e6


def sent(usage: Any) -> int:
    """Input tokens of a call, those of a prompt cache included."""
    return int(usage.input_tokens + (usage.input_tokens_cache_read or 0) + (usage.input_tokens_cache_write or 0))


def cost(bank: Bank, prices: Mapping[str, Price | None], model: str, usage: Any) -> float | None:
    """Dollars of what a model was asked; None where its price is not known.

    Args:
        bank: the run's money.
        prices: of models whose names the registry cannot know, by Inspect name.
        model: the model's Inspect name.
        usage: its tokens.
    """
    if bank.registry.free(model):
        return 0.0
    price = prices[model] if model in prices else bank.registry.price(model)
    if price is None or price.input is None or price.output is None:
        return None
    return paid(price, usage) * _share(bank, model)


@dataclass
class Watch:
    """One stretch of calls under a bank.

    Attributes:
        bank: the run's money.
        prices: of models whose names the registry cannot know.
        open: model and dollars of calls that were sent and not answered, by ticket.
        stopped: why no further call was let out.
    """

    bank: Bank
    prices: Mapping[str, Price | None]
    open: dict[int, tuple[str, float]] = field(default_factory=dict)
    stopped: BudgetError | None = None

    @property
    def unanswered(self) -> dict[str, float]:
        """Dollars that stay spent, by model, on calls of which nobody knows whether they are billed."""
        found: dict[str, float] = {}
        for model, dollars in self.open.values():
            found[model] = found.get(model, 0.0) + dollars
        return found

    def price(self, model: str) -> Price | None:
        """The price of a model; None where asking it costs nothing.

        Raises:
            BudgetError: it is not known and there is a limit to keep.
        """
        found = self.prices[model] if model in self.prices else self.bank.registry.price(model)
        if found is not None or self.bank.registry.free(model):
            return found
        if self.bank.cap is None:
            return None
        raise unpriced(model)


_watch: Watch | None = None
_ticket: ContextVar[int | None] = ContextVar("ticket", default=None)


@contextmanager
def watching(bank: Bank | None, prices: Mapping[str, Price | None], models: Sequence[Model] = ()) -> Iterator[Watch | None]:
    """Set money aside for every call that Inspect makes meanwhile in this process.

    Args:
        bank: the run's money; None lets all calls out.
        prices: of models whose names the registry cannot know (checkpoints), by Inspect name.
        models: those that are asked; what their providers refuse is given back at once.
    """
    global _watch  # noqa: PLW0603  Inspect makes its hooks itself, so this is the way to reach them
    if bank is None:
        yield None
        return
    _watch = Watch(bank, prices)
    try:
        with ExitStack() as heard:
            for model in models:
                heard.enter_context(_heard(model))
            yield _watch
    finally:
        _watch = None


@contextmanager
def _heard(model: Model) -> Iterator[None]:
    """Hear of every call of a model that ends in an error: Inspect's hooks tell of answers and of retries alone."""
    model.api.generate = partial(_hearing, model.api.generate)  # type: ignore[method-assign]
    try:
        yield
    finally:
        del model.api.generate


async def _hearing(generate: Callable[..., Awaitable[Any]], *args: Any, **settings: Any) -> Any:
    try:
        result = await generate(*args, **settings)
    except Exception as problem:
        _failed(problem)
        raise
    output = result[0] if isinstance(result, tuple) else result
    if isinstance(output, Exception):
        _failed(output)
    return result


def _failed(problem: Exception) -> None:
    """Give back what a call was to cost, unless the provider may have answered and the answer was lost on its way."""
    if _watch is not None and not _lost(problem):
        _drop(_watch)


def _lost(problem: BaseException | None) -> bool:
    """Whether a call was sent and its answer did not arrive, going by the error or by what caused it."""
    if problem is None:
        return False
    kinds = {kind.__name__ for kind in type(problem).__mro__}
    if kinds & UNSENT:
        return False
    return bool(kinds & LOST) or _lost(problem.__cause__ or problem.__context__)


@hooks(name="consciousness_cluster_budget", description="sets the worst price of every call aside before it is sent")
class BudgetHooks(Hooks):
    """Lets no call out that could pass the budget."""

    def enabled(self) -> bool:
        """Only while a run's money is watched."""
        return _watch is not None

    async def on_before_model_generate(self, data: BeforeModelGenerate) -> None:
        """Set the call's worst price aside, or stop the sample."""
        if _watch is None:
            return
        _ticket.set(None)  # that of a failed attempt before this one was given back, or stays spent
        try:
            price = _watch.price(data.model_name)
            if price is None:
                return
            facts = _watch.bank.registry.find(data.model_name)
            extra = json.dumps([tool.model_dump(mode="json") for tool in data.tools]) if data.tools else ""
            if data.config.response_schema is not None:
                extra += data.config.response_schema.model_dump_json()
            most = facts.longest_answer if facts is not None else None
            dollars = worst(price, data.input, data.config, extra, most) * _share(_watch.bank, data.model_name)
            ticket = _watch.bank.reserve(data.model_name, dollars)
        except BudgetError as problem:
            _watch.stopped = problem
            raise LimitExceededError("custom", value=0.0, limit=_watch.bank.cap or 0.0, message=str(problem)) from None
        _watch.open[ticket] = data.model_name, dollars
        _ticket.set(ticket)

    async def on_model_usage(self, data: ModelUsageData) -> None:
        """Put what the call really cost in place of what was set aside."""
        ticket = _ticket.get()
        if _watch is None or ticket is None:
            return
        price = _watch.price(data.model_name)
        if price is not None:
            _watch.bank.settle(ticket, paid(price, data.usage) * _share(_watch.bank, data.model_name))
        _watch.open.pop(ticket, None)
        _ticket.set(None)

    async def on_model_cache_usage(self, data: ModelCacheUsageData) -> None:
        """A cached answer costs nothing."""
        if _watch is not None:
            _drop(_watch)


def _drop(watch: Watch) -> None:
    ticket = _ticket.get()
    if ticket is not None:
        watch.bank.release(ticket)
        watch.open.pop(ticket, None)
        _ticket.set(None)


def _share(bank: Bank, model: str) -> float:
    return bank.registry.batch_share(model) if bank.batch else 1.0
