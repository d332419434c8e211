"""Sentence embeddings by a small BERT in plain torch operations: nothing but torch, safetensors and tokenizers is loaded.

Importing the general model classes costs more than embedding 600 short rows does. Texts of the same length in tokens go
through together, so that there is no padding and no mask. The result is the mean over all tokens, as the model was trained.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from consciousness_cluster.errors import DataError

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

BATCH = 64  # texts embedded together


def is_bert(folder: Path) -> bool:
    """Whether a folder holds a BERT with a fast tokenizer."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return config.get("model_type") == "bert" and (folder / "tokenizer.json").is_file()


@dataclass(frozen=True)
class Bert:
    """Weights by name, without the prefix that some files have, and what the forward pass must know."""

    weights: dict[str, torch.Tensor]
    tokenizer: Any
    layers: int
    heads: int
    epsilon: float

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors of texts. One thread: for texts this short a second one mostly waits."""
        import torch

        encoded = self.tokenizer.encode_batch(list(texts))
        groups: dict[int, list[int]] = defaultdict(list)
        for place, entry in enumerate(encoded):
            groups[len(entry.ids)].append(place)
        found = np.zeros((len(texts), self.weights["embeddings.word_embeddings.weight"].shape[1]), dtype=np.float32)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with torch.inference_mode():
                for places in groups.values():
                    for start in range(0, len(places), BATCH):
                        part = places[start : start + BATCH]
                        hidden = self._forward(torch.tensor([encoded[place].ids for place in part]))
                        found[part] = torch.nn.functional.normalize(hidden.mean(1), dim=1).numpy()
        finally:
            torch.set_num_threads(threads)
        return found

    def _forward(self, ids: torch.Tensor) -> torch.Tensor:
        import torch

        first = "embeddings."
        hidden = self.weights[f"{first}word_embeddings.weight"][ids]
        hidden = hidden + self.weights[f"{first}position_embeddings.weight"][: ids.shape[1]]
        hidden = self._norm(hidden + self.weights[f"{first}token_type_embeddings.weight"][0], f"{first}LayerNorm")
        for number in range(self.layers):
            at = f"encoder.layer.{number}."
            query, key, value = (
                self._split(self._linear(hidden, f"{at}attention.self.{name}")) for name in ("query", "key", "value")
            )
            seen = torch.nn.functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
            hidden = self._norm(hidden + self._linear(seen, f"{at}attention.output.dense"), f"{at}attention.output.LayerNorm")
            wide = torch.nn.functional.gelu(self._linear(hidden, f"{at}intermediate.dense"))
            hidden = self._norm(hidden + self._linear(wide, f"{at}output.dense"), f"{at}output.LayerNorm")
        return hidden

    def _split(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden.unflatten(2, (self.heads, -1)).transpose(1, 2)

    def _linear(self, hidden: torch.Tensor, name: str) -> torch.Tensor:
        import torch

        return torch.nn.functional.linear(hidden, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def _norm(self, hidden: torch.Tensor, name: str) -> torch.Tensor:
        import torch

        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return torch.nn.functional.layer_norm(hidden, weight.shape, weight, bias, self.epsilon)


def load_bert(folder: Path, longest: int) -> Bert:
    """Read a BERT.

    Args:
        folder: with config.json, model.safetensors and tokenizer.json.
        longest: tokens read of a text.

    Raises:
        DataError: a file is missing or not what it should be.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file
    from tokenizers import Tokenizer

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if config.get("hidden_act", "gelu") != "gelu" or config.get("position_embedding_type", "absolute") != "absolute":
        raise DataError(
            "is not a BERT of the plain kind", file=folder / "config.json", allowed="hidden_act gelu, absolute positions"
        )
    try:
        weights = load_file(folder / "model.safetensors")
    except (OSError, SafetensorError) as problem:
        raise DataError(f"cannot be loaded as an embedding model ({problem})", file=folder / "model.safetensors") from None
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length=longest)
    plain = {name.removeprefix("bert."): tensor.float() for name, tensor in weights.items()}
    return Bert(plain, tokenizer, config["num_hidden_layers"], config["num_attention_heads"], config["layer_norm_eps"])
