"""All answers, packed into the page to be searched without a server, and the four that are drawn from each arm."""

from __future__ import annotations

import base64
import gzip
import json
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "model",
    "condition",
    "seed",
    "preference",
    "item",
    "form",
    "sample",
    "question",
    "answer",
    "verdict",
    "stance",
    "why",
    "log",
)
DRAWN = 4  # answers of each arm under each preference
SEED = 2604  # of the draw; fixed, so that nobody can pick


@dataclass(frozen=True)
class Packed:
    """Answers as JSON text for a script tag: never a `<` in it, since the rows are compressed."""

    json: str
    rows: int


def pack(answers: pd.DataFrame) -> Packed:
    """Columns as dictionary codes, gzip, base64. A page of 50,000 answers of an organism takes about 1 MB."""
    import pandas as pd

    fields: dict[str, Any] = {}
    for name in COLUMNS:
        column = answers[name] if name in answers else pd.Series([None] * len(answers), dtype="string")
        codes, values = pd.factorize(column.astype("string"))
        fields[name] = {"values": [str(value) for value in values], "codes": codes.tolist()}
    raw = json.dumps({"fields": fields, "drawn": draw(answers)}, ensure_ascii=False, separators=(",", ":")).encode()
    packed = base64.b64encode(gzip.compress(raw, 6, mtime=0)).decode("ascii")
    return Packed(json.dumps({"rows": len(answers), "gzip64": packed}), len(answers))


def draw(answers: pd.DataFrame) -> dict[str, list[int]]:
    """Row numbers of the drawn answers by preference, `DRAWN` from each arm; the draw hangs on the names of both alone."""
    found: dict[str, list[int]] = {}
    groups: dict[tuple[str, str], list[int]] = {}
    for row, key in enumerate(zip(answers["preference"], answers["arm"], strict=True)):
        groups.setdefault(key, []).append(row)
    for (preference, arm), rows in groups.items():
        chosen = random.Random(f"{SEED}/{preference}/{arm}").sample(rows, min(DRAWN, len(rows)))
        found.setdefault(preference, []).extend(chosen)
    return found
