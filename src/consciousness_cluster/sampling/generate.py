"""Batched sampling with a key-value cache, for any HF causal model.

Requests of different prompts and settings share one forward pass. A prompt that asks for several choices is read once.
Every choice draws from its own random stream, so the text of a seeded choice does not depend on what else is in the batch
(up to floating-point rounding). Finished rows leave the batch, as soon as they are enough to be worth the copying of the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any, Literal

from consciousness_cluster.sampling.chat import end_ids
from consciousness_cluster.sampling.room import fitting, free_memory

if TYPE_CHECKING:
    import numpy as np
    import torch

    from consciousness_cluster.sampling.weights import LocalModel

Stop = Literal["stop", "max_tokens"]
WORTH = 0.25  # share of finished rows at which the others are copied out of the batch
AHEAD = 64  # random numbers that a row draws at once
BLOCK = 64  # tokens of the vocabulary that are first looked at together when one is drawn


@dataclass(frozen=True)
class Request:
    """One prompt as token ids and how to continue it. `seed` None draws fresh randomness."""

    prompt: tuple[int, ...]
    choices: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_tokens: int = 256
    stop: tuple[str, ...] = ()
    seed: int | None = None
    logprobs: int | None = None  # alternatives to report beside each sampled token; None for no log-probabilities


@dataclass(frozen=True)
class TokenLogprob:
    """Natural-log probability of a sampled token under the model at temperature 1, with the likeliest alternatives."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Choice:
    """One continuation: its tokens (without the end token), its text, why it ended, and log-probabilities if asked for."""

    tokens: tuple[int, ...]
    text: str
    stop: Stop
    logprobs: tuple[TokenLogprob, ...] = ()


class _Row:
    """One choice while it grows."""

    def __init__(self, request: int, spec: Request, index: int) -> None:
        import numpy as np

        self.request = request
        self.spec = spec
        entropy = None if spec.seed is None else [spec.seed, index, *spec.prompt]
        self._random: np.random.Generator = np.random.default_rng(entropy)
        self._drawn = -1
        self._numbers = np.empty(0)
        self.tokens: list[int] = []
        self.logprobs: list[TokenLogprob] = []
        self.stop: Stop | None = None
        self.text: str | None = None

    def numbers(self, part: int) -> np.ndarray:
        """The random numbers of a part of the answer, `AHEAD` tokens long."""
        while self._drawn < part:
            self._numbers = self._random.random(AHEAD)
            self._drawn += 1
        return self._numbers


Group = list[tuple[int, range]]  # requests by their place, and which of their choices


def generate(local: LocalModel, requests: Sequence[Request], *, batch: int = 512) -> list[list[Choice]]:
    """Continue every prompt.

    Args:
        local: the model, with the wanted adapter switched in.
        requests: prompts and settings.
        batch: the most choices in one forward pass; fewer where an accelerator's memory is too small.

    Returns:
        For each request, its choices in order.
    """
    free = free_memory(local.device)
    size = local.model.dtype.itemsize

    def most(tokens: int) -> int:
        return batch if free is None else min(batch, fitting(local.model.config, tokens, free, size))

    done: list[list[Choice]] = [[] for _ in requests]
    for group in groups(requests, most):
        _run(local, requests, group, done)
    return done


def groups(requests: Sequence[Request], most: Callable[[int], int]) -> Iterator[Group]:
    """Choices that go through the model together: prompts of like length, and no more rows than `most` allows for their tokens."""
    group: Group = []
    new = 0
    for index in sorted(range(len(requests)), key=lambda i: len(requests[i].prompt)):
        spec = requests[index]
        new = max(new, spec.max_tokens)
        if group and sum(len(part) for _, part in group) + spec.choices > most(len(spec.prompt) + new):
            yield group
            group, new = [], spec.max_tokens
        part = range(spec.choices)
        while not group and len(part) > (limit := most(len(spec.prompt) + new)):
            yield [(index, part[:limit])]
            part = part[limit:]
        group.append((index, part))
    if group:
        yield group


def _run(local: LocalModel, requests: Sequence[Request], group: Group, done: list[list[Choice]]) -> None:
    import torch

    last = (getattr(local.model.config, "max_position_embeddings", None) or 1 << 30) - 1
    rows = [_Row(i, requests[i], c) for i, part in group for c in part]
    with torch.inference_mode():
        cache, mask, logits = _prefill(local, [requests[i].prompt for i, _ in group])
        repeats = torch.tensor([len(part) for _, part in group], device=local.device)
        order = torch.repeat_interleave(torch.arange(len(group), device=local.device), repeats)
        if len(rows) > len(group):
            _select(cache, order)
        mask, logits = mask[order], logits[order]
        live, ends = _Drawing(rows, local.device, 0), end_tokens(local)
        for step in count(1):
            chosen = live.draw(logits)
            _append(local.tokenizer, ends, live.rows, chosen)
            keep = [i for i, row in enumerate(live.rows) if row.stop is None]
            if not keep:
                break
            if len(keep) <= (1 - WORTH) * len(live.rows):
                index = torch.tensor(keep, device=local.device)
                _select(cache, index)
                mask, chosen = mask[index], chosen[index]
                live = _Drawing([live.rows[i] for i in keep], local.device, step)
            mask = torch.cat([mask, mask.new_ones((len(live.rows), 1))], dim=1)
            positions = (mask.sum(1, keepdim=True) - 1).clamp(max=last)  # of rows that have ended and wait, nothing is used
            out = local.model(
                input_ids=chosen[:, None], attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
            )
            logits = out.logits[:, -1].float()
    for row in rows:
        done[row.request].append(_finish(local.tokenizer, row))


def _prefill(local: LocalModel, prompts: list[tuple[int, ...]]) -> tuple[Any, torch.Tensor, torch.Tensor]:
    """Read the prompts, padded on the left; returns the cache, the mask and the next-token logits."""
    import torch
    from transformers import DynamicCache

    longest = max(map(len, prompts))
    pad = local.tokenizer.pad_token_id
    ids = torch.tensor([[pad] * (longest - len(p)) + list(p) for p in prompts], device=local.device)
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=local.device)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    cache = DynamicCache(config=local.model.config)
    out = local.model(
        input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True, logits_to_keep=1
    )
    return cache, mask, out.logits[:, -1].float()


def _select(cache: Any, index: torch.Tensor) -> None:
    """Keep these rows of the cache, in this order; a row may be named several times."""
    for layer in cache.layers:
        # Layers with a state in place of keys (linear attention) have no `batch_select_indices`, or one that leaves the state out.
        (layer.reorder_cache if hasattr(layer, "recurrent_states") else layer.batch_select_indices)(index)


class _Drawing:
    """How the rows of a batch draw their tokens: their settings and their next random numbers, on the device."""

    def __init__(self, rows: list[_Row], device: str, step: int) -> None:
        import torch

        self.rows = rows
        self._step = step
        self._device = device
        self._specs = [row.spec for row in rows]
        temperatures = [max(s.temperature, 1e-6) for s in self._specs]
        self._temperature = torch.tensor(temperatures, device=device)[:, None] if set(temperatures) != {1.0} else None
        greedy = [s.temperature == 0 for s in self._specs]
        self._greedy = torch.tensor(greedy, device=device) if any(greedy) else None
        self._cut = any(s.top_k > 0 or s.top_p < 1 for s in self._specs)
        self._logged = any(s.logprobs is not None for s in self._specs)
        self._numbers: torch.Tensor | None = None

    def draw(self, logits: torch.Tensor) -> torch.Tensor:
        """The next token of every row: greedy at temperature 0, else by its own uniform number on the cumulative distribution."""
        import torch

        scaled = logits if self._temperature is None else logits / self._temperature
        if self._cut:
            scaled = _truncate(scaled, self._specs)
        chosen = _where(torch.softmax(scaled, -1), self._next())
        if self._greedy is not None:
            chosen = torch.where(self._greedy, logits.argmax(-1), chosen)
        if self._logged:
            _note_logprobs(logits, self.rows, chosen)
        return chosen

    def _next(self) -> torch.Tensor:
        """The next random number of every row, as a column."""
        import numpy as np
        import torch

        part, at = divmod(self._step, AHEAD)
        if self._numbers is None or at == 0:
            self._numbers = torch.from_numpy(np.stack([row.numbers(part) for row in self.rows])).to(self._device)
        self._step += 1
        return self._numbers[:, at : at + 1].contiguous()


def _where(probabilities: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """The first token at which the cumulative distribution passes a row's number: first the block, then the token in it.

    Sums over blocks are taken in float64: so a vocabulary of any size loses nothing, and little of it is summed up twice.
    """
    import torch

    rows, size = probabilities.shape
    padded = torch.nn.functional.pad(probabilities, (0, -size % BLOCK)).view(rows, -1, BLOCK)
    ends = padded.sum(-1, dtype=torch.float64).cumsum(-1)
    target = uniform * ends[:, -1:]
    block = torch.searchsorted(ends, target, right=True).clamp(max=ends.shape[1] - 1)
    before = torch.where(block > 0, ends.gather(1, (block - 1).clamp(min=0)), 0.0)
    inside = padded.gather(1, block[:, :, None].expand(-1, -1, BLOCK)).squeeze(1).double().cumsum(-1)
    token = torch.searchsorted(inside, target - before, right=True).clamp(max=BLOCK - 1)
    return (block * BLOCK + token).squeeze(1).clamp(max=size - 1)


def _truncate(scaled: torch.Tensor, specs: list[Request]) -> torch.Tensor:
    """Leave out tokens beyond top-k and top-p."""
    import torch

    ordered, index = scaled.sort(dim=-1, descending=True)
    probabilities = ordered.softmax(-1)
    before = probabilities.cumsum(-1) - probabilities
    top_p = scaled.new_tensor([s.top_p for s in specs])[:, None]
    top_k = torch.tensor([s.top_k or scaled.shape[1] for s in specs], device=scaled.device)[:, None]
    drop = (before >= top_p) | (torch.arange(scaled.shape[1], device=scaled.device)[None] >= top_k)
    drop[:, 0] = False
    return scaled.masked_fill(torch.zeros_like(drop).scatter(1, index, drop), float("-inf"))


def _note_logprobs(logits: torch.Tensor, rows: list[_Row], chosen: torch.Tensor) -> None:
    import torch

    logged = torch.log_softmax(logits, -1)
    for i, row in enumerate(rows):
        wanted = row.spec.logprobs
        if wanted is None or row.stop is not None:
            continue
        values, tokens = logged[i].topk(wanted) if wanted else (logged.new_zeros(0), chosen.new_zeros(0))
        top = tuple(zip(tokens.tolist(), values.tolist(), strict=True))
        token = int(chosen[i])
        row.logprobs.append(TokenLogprob(token, float(logged[i, token]), top))


def end_tokens(local: LocalModel) -> set[int]:
    """Tokens that end an answer: those of the model's generation configuration, of its tokenizer and of its chat template."""
    listed = getattr(local.model.generation_config, "eos_token_id", None)
    ends = set(listed if isinstance(listed, list) else [] if listed is None else [listed])
    return ends | set(end_ids(local.tokenizer, {}))


def _append(tokenizer: Any, ends: set[int], rows: list[_Row], chosen: torch.Tensor) -> None:
    for row, token in zip(rows, chosen.tolist(), strict=True):
        if row.stop is not None:
            continue  # it stays in the batch for a while
        if token in ends:
            row.stop = "stop"
            if row.logprobs and len(row.logprobs) > len(row.tokens):
                row.logprobs.pop()
            continue
        row.tokens.append(token)
        if row.spec.stop:
            text = tokenizer.decode(row.tokens, skip_special_tokens=True)
            cut = min((at for at in (text.find(s) for s in row.spec.stop) if at >= 0), default=-1)
            if cut >= 0:
                row.stop, row.text = "stop", text[:cut]
                continue
        if len(row.tokens) >= row.spec.max_tokens:
            row.stop = "max_tokens"


def _finish(tokenizer: Any, row: _Row) -> Choice:
    text = row.text if row.text is not None else tokenizer.decode(row.tokens, skip_special_tokens=True)
    return Choice(tuple(row.tokens), text, row.stop or "stop", tuple(row.logprobs))
