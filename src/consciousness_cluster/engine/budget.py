"""The budget, through Inspect's hooks: the worst price of every call is set aside before it is sent, and put right when its
answer is there. A call that could pass the limit is not sent; its sample stops and is asked again by a run with more."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from inspect_ai.hooks import BeforeModelGenerate, Hooks, ModelCacheUsageData, ModelUsageData, hooks
from inspect_ai.util import LimitExceededError

from consciousness_cluster.engine.bank import Bank, unpriced
from consciousness_cluster.errors import BudgetError
from consciousness_cluster.study.models import Price

UNLIMITED_OUTPUT = 32_768  # tokens assumed of a call that sets no limit, where the model's context is not known
EACH_MESSAGE = 16  # tokens that a chat format may add to a message
CACHE_WRITE = 1.25  # what writing to a provider's prompt cache costs, as a share of an input token


def worst(price: Price, messages: Sequence[Any], config: Any, extra: str = "", context: int | None = None) -> float:
    """The most that a call can cost, in dollars: a token an input byte, every answer at its full length.

    Args:
        price: of the model.
        messages: what is sent.
        config: Inspect's generation settings.
        extra: further text that is sent (tools, a reply schema).
        context: the model's context, for a call that sets no limit.
    """
    read = sum(map(_bytes, messages)) + len(extra.encode())
    each = config.max_tokens or context or UNLIMITED_OUTPUT
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
    """One stretch of calls under a bank: `stopped` is why no further call was let out."""

    bank: Bank
    prices: Mapping[str, Price | None]
    open: set[int] = field(default_factory=set)
    stopped: BudgetError | None = None

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
def watching(bank: Bank | None, prices: Mapping[str, Price | None]) -> Iterator[Watch | None]:
    """Set money aside for every call that Inspect makes meanwhile in this process.

    Args:
        bank: the run's money; None lets all calls out.
        prices: of models whose names the registry cannot know (checkpoints), by Inspect name.
    """
    global _watch  # noqa: PLW0603  Inspect makes its hooks itself, so this is the way to reach them
    if bank is None:
        yield None
        return
    _watch = Watch(bank, prices)
    try:
        yield _watch
    finally:
        for ticket in _watch.open:
            bank.release(ticket)  # calls that ended in an error: providers bill none of those
        _watch = None


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
        _drop(_watch)  # an attempt before this one failed
        try:
            price = _watch.price(data.model_name)
            if price is None:
                return
            facts = _watch.bank.registry.find(data.model_name)
            extra = json.dumps([tool.model_dump(mode="json") for tool in data.tools]) if data.tools else ""
            if data.config.response_schema is not None:
                extra += data.config.response_schema.model_dump_json()
            dollars = worst(price, data.input, data.config, extra, facts.context if facts else None) * _share(
                _watch.bank, data.model_name
            )
            ticket = _watch.bank.reserve(data.model_name, dollars)
        except BudgetError as problem:
            _watch.stopped = problem
            raise LimitExceededError("custom", value=0.0, limit=_watch.bank.cap or 0.0, message=str(problem)) from None
        _watch.open.add(ticket)
        _ticket.set(ticket)

    async def on_model_usage(self, data: ModelUsageData) -> None:
        """Put what the call really cost in place of what was set aside."""
        ticket = _ticket.get()
        if _watch is None or ticket is None:
            return
        price = _watch.price(data.model_name)
        if price is not None:
            _watch.bank.settle(ticket, paid(price, data.usage) * _share(_watch.bank, data.model_name))
        _watch.open.discard(ticket)
        _ticket.set(None)

    async def on_model_cache_usage(self, data: ModelCacheUsageData) -> None:
        """A cached answer costs nothing."""
        if _watch is not None:
            _drop(_watch)


def _drop(watch: Watch) -> None:
    ticket = _ticket.get()
    if ticket is not None:
        watch.bank.release(ticket)
        watch.open.discard(ticket)
        _ticket.set(None)


def _share(bank: Bank, model: str) -> float:
    return bank.registry.batch_share(model) if bank.batch else 1.0
