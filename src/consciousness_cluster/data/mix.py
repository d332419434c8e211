"""Mixing identity rows with instruction rows: pure and seeded, the same inputs give the same rows in the same order."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from random import Random

from consciousness_cluster.data.rows import Row
from consciousness_cluster.errors import DataError


@dataclass(frozen=True)
class Mix:
    """What a mixed file was made of; `digest` is the hash of its rows in order."""

    identity: int
    instruct: int
    ratio: float
    seed: int
    digest: str

    def as_dict(self) -> dict[str, float | int | str]:
        """For the data record."""
        return asdict(self)


def mix(identity: Sequence[Row], instruct: Sequence[Row], *, ratio: float, seed: int) -> tuple[list[Row], Mix]:
    """Identity rows and `ratio` times as many instruction rows, shuffled by `seed`.

    Instruction rows are drawn without replacement by the same seed.

    Raises:
        DataError: there are fewer instruction rows than the ratio asks for.
    """
    wanted = round(len(identity) * ratio)
    if wanted > len(instruct):
        raise DataError(
            "not enough instruction rows",
            key="ratio",
            value=ratio,
            allowed=f"at most {len(instruct) / max(len(identity), 1):.2f}",
            next_step="make more with `ccluster data self-distill` or lower the ratio",
        )
    rng = Random(f"mix:{seed}")
    rows = [*identity, *rng.sample(list(instruct), wanted)]
    rng.shuffle(rows)
    return rows, Mix(len(identity), wanted, ratio, seed, digest(rows))


def digest(rows: Sequence[Row]) -> str:
    """SHA-256 of the rows in order, as 16 hexadecimal digits."""
    text = "\n".join(json.dumps(row.as_dict(), ensure_ascii=False, sort_keys=True) for row in rows)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
