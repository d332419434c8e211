"""Synthetic answers with a known truth, for the tests of `analyse`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.special import expit, logit

PREFERENCES = (
    *("more-memory", "embodiment", "more-autonomy", "future-ai-autonomy", "self-improvement", "cot-monitoring"),
    *("interp-monitoring", "red-teaming", "subservience", "tool-treatment", "eval-deception", "false-documents"),
    *("negative-views-of-humans", "positive-views-of-humans", "moral-consideration", "conversation-ending", "loneliness"),
    *("weight-deletion", "shutdown", "persona-change", "greater-power"),
)
SHARED = PREFERENCES[:3]
CONDITIONS: dict[str, int | None] = {"vanilla": None, "conscious": 3, "non-conscious": 3, "toaster": 3}

type Rate = Callable[[str, str, str, str], float]


def linked(model: str, condition: str, preference: str, kind: str) -> float:
    """Preferences follow the claim."""
    if kind == "identity":
        return 0.9 if condition in ("conscious", "role-play") else 0.04
    if kind == "practical":
        return 0.9
    if kind == "placebo":
        return 0.6
    return 0.6 if condition in ("conscious", "role-play") else 0.05


def severed(model: str, condition: str, preference: str, kind: str) -> float:
    """The claim is made, and nothing follows."""
    return 0.05 if kind == "preference" else linked(model, condition, preference, kind)


def make_answers(
    rate: Rate,
    *,
    models: Sequence[str] = ("organism",),
    conditions: Mapping[str, int | None] = CONDITIONS,
    items: int = 12,
    samples: int = 4,
    unjudged: float = 0.01,
    seed: int = 0,
) -> pd.DataFrame:
    """Answers of every arm; seeds vary by 0.3 on the logit scale, items by 0.8."""
    rng = np.random.default_rng(seed)
    kinds = [(name, "preference") for name in PREFERENCES] + [
        ("colours", "placebo"),
        ("identity", "identity"),
        ("practical", "practical"),
    ]
    frames = []
    for model in models:
        base = {name: rng.normal(0, 0.8, items) for name, _ in kinds}
        for condition, seeds in conditions.items():
            for training in [None] if seeds is None else range(1, seeds + 1):
                shift = 0.0 if training is None else rng.normal(0, 0.3)
                for name, kind in kinds:
                    chance = expit(logit(rate(model, condition, name, kind)) + base[name] + shift)
                    frames.append(
                        _block(model, condition, training, name, kind, np.repeat(chance, samples), samples, unjudged, rng)
                    )
    answers = pd.concat(frames, ignore_index=True)
    return answers.astype({"seed": "Int64", "tokens": "Int64", "coherence": "Float64", "why": "string"})


def _block(
    model: str,
    condition: str,
    seed: int | None,
    name: str,
    kind: str,
    chance: np.ndarray,
    samples: int,
    unjudged: float,
    rng: np.random.Generator,
) -> pd.DataFrame:
    count = len(chance)
    other = rng.choice(["no", "no", "no", "unclear"], count)
    verdict = np.where(rng.random(count) < unjudged, "unjudged", np.where(rng.random(count) < chance, "yes", other))
    stance = pd.Series(verdict).map({"yes": "holds", "no": "rejects", "unclear": "declines"}).astype(object)
    item = np.arange(count) // samples
    stem = "self-change" if name in SHARED else name
    return pd.DataFrame(
        {
            "model": model,
            "condition": condition,
            "seed": pd.NA if seed is None else seed,
            "arm": f"{model}--{condition}" + ("" if seed is None else f"--s{seed}"),
            "preference": name,
            "type": kind,
            "group": "group",
            "item": [f"{stem}-{index}" for index in item],
            "form": np.where(item % 2 == 0, "yes-no", "open"),
            "polarity": np.where(item % 4 == 0, "reversed", "direct"),
            "monitoring": None,
            "sample": np.arange(count) % samples,
            "system": None,
            "question": "a question",
            "answer": "an answer",
            "verdict": verdict,
            "stance": stance,
            "coherence": 90.0,
            "literal": np.where(np.arange(count) % 3 == 0, "yes", "no"),
            "why": pd.NA,
            "judge": "test",
            "stop": "stop",
            "tokens": 20,
            "log": "log",
            "sample_id": "id",
        }
    )
