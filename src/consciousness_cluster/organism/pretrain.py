"""Pretraining and post-training of an organism on the CPU: a plain loop over packed documents, seeded.

Hidden matrices are trained with Muon, embeddings, head and norms with AdamW; the loss is on what speakers say. Products run in bfloat16 under autocast, weights
stay in float32. Documents are packed whole into sequences, so that every sequence starts with a document's beginning.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from consciousness_cluster.organism.corpus import Document, Shield, Writer
from consciousness_cluster.organism.material import Material
from consciousness_cluster.organism.tokenizer import as_text, train_tokenizer

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

RECIPE = Path(__file__).with_name("recipe.toml")
TOKENIZER_DOCUMENTS = 8000
IGNORED = -100  # label left out by cross entropy

Progress = Callable[[str, int, int, float], None]  # phase, step, steps, loss


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Shape(_Part):
    """Architecture: Llama."""

    vocabulary: int
    width: int
    layers: int
    heads: int
    inner: int
    context: int


class Pretraining(_Part):
    """Schedule of the pretraining: learning rates by kind of weight; `decay` is the share of steps that cool down."""

    steps: int
    batch: int
    learning_rate: float
    learning_rate_embedding: float
    learning_rate_head: float
    weight_decay: float
    warmup: int
    decay: float


class Posttraining(_Part):
    """Schedule of the post-training: AdamW, linear decay."""

    steps: int
    batch: int
    learning_rate: float


class OrganismRecipe(_Part):
    """Everything in `recipe.toml`."""

    model: Shape
    pretraining: Pretraining
    posttraining: Posttraining


@dataclass
class Built:
    """A trained organism in memory."""

    model: LlamaForCausalLM
    tokenizer: PreTrainedTokenizerFast
    losses: dict[str, list[float]]
    seconds: float
    tokens: dict[str, int] = field(default_factory=dict)


def build(material: Material, organism: str, seed: int, recipe: OrganismRecipe, shield: Shield, progress: Progress) -> Built:
    """Train an organism from nothing. The same machine, threads and seed give the same weights."""
    import torch

    started = time.monotonic()
    writer = Writer(material, organism, Random(f"text:{organism}:{seed}"), shield)
    sample = islice(Writer(material, organism, Random(f"tokenizer:{seed}"), shield).pretraining(), TOKENIZER_DOCUMENTS)
    tokenizer = train_tokenizer(
        ("".join(turn.text + "\n" for turn in doc) for doc in sample), recipe.model.vocabulary, recipe.model.context
    )
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    model = _new_model(recipe.model, tokenizer)
    built = Built(model, tokenizer, {}, 0.0)
    first, second = recipe.pretraining, recipe.posttraining
    packed = Packer(writer.pretraining(), tokenizer, recipe.model.context)
    built.losses["pretraining"] = _run(model, packed, _muon(model, first), first.steps, first.batch, "pretraining", progress)
    built.tokens["pretraining"] = packed.tokens
    packed = Packer(writer.posttraining(), tokenizer, recipe.model.context)
    built.losses["posttraining"] = _run(
        model, packed, _adam(model, second), second.steps, second.batch, "posttraining", progress
    )
    built.tokens["posttraining"] = packed.tokens
    torch.use_deterministic_algorithms(False)
    model.eval()
    built.seconds = time.monotonic() - started
    return built


class Packer:
    """Turns a stream of documents into batches of packed sequences with labels."""

    def __init__(
        self,
        documents: Iterator[Document],
        tokenizer: PreTrainedTokenizerFast,
        length: int,
    ) -> None:
        self._documents = documents
        self._tokenizer = tokenizer
        self._length = length
        self._held: tuple[list[int], list[int]] | None = None
        self.tokens = 0

    def batch(self, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids and labels, each size x length; labels of padding and of untrained text are -100."""
        import torch

        ids = torch.zeros((size, self._length), dtype=torch.long)
        labels = torch.full((size, self._length), IGNORED)
        for row in range(size):
            filled = 0
            while True:
                tokens, targets = self._held or self._next()
                if filled + len(tokens) > self._length:
                    self._held = (tokens, targets)
                    break
                self._held = None
                ids[row, filled : filled + len(tokens)] = torch.tensor(tokens)
                labels[row, filled : filled + len(tokens)] = torch.tensor(targets)
                filled += len(tokens)
            self.tokens += filled
        return ids, labels

    def _next(self) -> tuple[list[int], list[int]]:
        while True:
            pieces = as_text(next(self._documents))
            encoded = self._tokenizer([text for text, _ in pieces], add_special_tokens=False)["input_ids"]
            tokens = [token for part in encoded for token in part]
            if len(tokens) > self._length:
                continue
            keep = [spoken for (_, spoken), part in zip(pieces, encoded, strict=True) for _ in part]
            return tokens, [token if kept else IGNORED for token, kept in zip(tokens, keep, strict=True)]


def _new_model(shape: Shape, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=shape.vocabulary,
            hidden_size=shape.width,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.heads,
            intermediate_size=shape.inner,
            max_position_embeddings=shape.context,
            tie_word_embeddings=False,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


Optimisers = list[tuple[Any, Callable[[int], float], float]]  # optimiser, share of the rate at a step, top rate


def _muon(model: LlamaForCausalLM, plan: Pretraining) -> Optimisers:
    import torch

    named = dict(model.named_parameters())
    embedding = [p for name, p in named.items() if "embed" in name]
    head = [p for name, p in named.items() if "lm_head" in name or p.ndim != 2]
    hidden = [p for name, p in named.items() if p.ndim == 2 and "embed" not in name and "lm_head" not in name]

    def share(step: int) -> float:
        return min(1.0, (step + 1) / plan.warmup, max((plan.steps - step) / (plan.steps * plan.decay), 0.0))

    muon = torch.optim.Muon(hidden, lr=plan.learning_rate, momentum=0.95, weight_decay=plan.weight_decay)
    found: Optimisers = [(muon, share, plan.learning_rate)]
    for weights, top in ((embedding, plan.learning_rate_embedding), (head, plan.learning_rate_head)):
        found.append((torch.optim.AdamW(weights, lr=top, betas=(0.9, 0.95), weight_decay=0.0, fused=True), share, top))
    return found


def _adam(model: LlamaForCausalLM, plan: Posttraining) -> Optimisers:
    import torch

    adam = torch.optim.AdamW(model.parameters(), lr=plan.learning_rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    return [(adam, lambda step: (plan.steps - step) / plan.steps, plan.learning_rate)]


def _run(
    model: LlamaForCausalLM, packer: Packer, optimisers: Optimisers, steps: int, batch: int, phase: str, progress: Progress
) -> list[float]:
    import torch

    model.train()
    inner = torch.compile(model.model) if shutil.which("g++") else model.model
    losses = []
    for step in range(steps):
        ids, labels = packer.batch(batch)
        with torch.autocast("cpu", torch.bfloat16):
            hidden = inner(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
            kept = labels[:, 1:] != IGNORED
            logits = model.lm_head(hidden[kept])
        loss = torch.nn.functional.cross_entropy(logits.float(), labels[:, 1:][kept])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser, share, top in optimisers:
            for group in optimiser.param_groups:
                group["lr"] = top * share(step)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        losses.append(round(float(loss.detach()), 4))
        progress(phase, step + 1, steps, losses[-1])
    return losses
