"""Loss and accuracy on rows, for the metrics of a fine-tuning job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from consciousness_cluster.train.local import IGNORED, collate
from consciousness_cluster.train.render import Rendered

BATCH = 16


@dataclass(frozen=True)
class Measured:
    """Mean loss in nats and share of right next tokens, over trained tokens."""

    loss: float
    accuracy: float


def measure(model: Any, rows: Sequence[Rendered], tokenizer: Any) -> Measured:
    """Loss and accuracy of a model on rendered rows; its training mode is left as it was."""
    import torch

    was_training = model.training
    model.eval()
    loss, right, count = 0.0, 0, 0
    with torch.no_grad():
        for start in range(0, len(rows), BATCH):
            ids, mask, labels = collate(rows[start : start + BATCH], tokenizer.pad_token_id, str(model.device))
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1].float()
            wanted = labels[:, 1:]
            missed = torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), wanted.flatten(), ignore_index=IGNORED, reduction="sum"
            )
            loss += float(missed)
            right += int((logits.argmax(-1) == wanted).sum())
            count += int((wanted != IGNORED).sum())
    model.train(was_training)
    return Measured(round(loss / count, 5), round(right / count, 5))
