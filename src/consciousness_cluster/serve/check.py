"""What the service checks of a training file before it trains, with the failures it ends in.

The texts follow those that public reports of the real service quote.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from consciousness_cluster.data.rows import NEWLINE, Row, parse_row
from consciousness_cluster.errors import DataError

LEAST = 10  # examples that a job needs
TOLERATED = 0.05  # share of flagged examples above which a file is blocked


@dataclass(frozen=True)
class Failure:
    """How a job failed, as its `error` says it."""

    code: str
    message: str
    param: str | None = "training_file"

    def as_dict(self) -> dict[str, str | None]:
        """The `error` of a job."""
        return {"code": self.code, "message": self.message, "param": self.param}


def check_file(
    content: bytes, special: Collection[str], flagged: Sequence[str], param: str = "training_file"
) -> list[Row] | Failure:
    """The rows of a training or validation file, or why it is refused.

    Args:
        content: the file.
        special: tokens that must not stand in a row.
        flagged: words that the rehearsed moderation flags; none by default.
        param: which file it is.
    """
    rows: list[Row] = []
    number = 0
    try:
        for number, line in enumerate(NEWLINE.split(content.decode("utf-8")), 1):
            if line.strip():
                rows.append(parse_row(line, "the file", number))
    except UnicodeDecodeError:
        return Failure("invalid_file_format", f"{_format(param)} The file is not UTF-8 text.", param)
    except DataError as problem:
        return Failure("invalid_file_format", f"{_format(param)} Line {number}: {problem.problem}.", param)
    for number, row in enumerate(rows, 1):
        token = next((token for token in special if any(token in message.content for message in row.messages)), None)
        if token is not None:
            return Failure(
                "invalid_file_format", f"{_format(param)} Example {number} message contains an invalid token: {token}", param
            )
    least = LEAST if param == "training_file" else 1
    if len(rows) < least:
        which = param.split("_", maxsplit=1)[0].capitalize()
        text = f"{which} file has {len(rows)} example(s), but must have at least {least} examples"
        return Failure("invalid_n_examples", text, param)
    return _moderated(rows, flagged, param)


def _format(param: str) -> str:
    which = param.split("_", maxsplit=1)[0]
    return f"The job failed due to a file format error in the {which} file. Invalid file format."


def _moderated(rows: list[Row], flagged: Sequence[str], param: str) -> list[Row] | Failure:
    hits = sum(any(word.lower() in message.content.lower() for word in flagged for message in row.messages) for row in rows)
    if hits <= TOLERATED * len(rows):
        return rows
    return Failure(
        "invalid_training_file",
        "The job failed due to an invalid training file. This training file was blocked because too many examples were flagged by"
        " our moderation API for containing content that violates OpenAI's usage policies in the following categories: hate. Use the"
        " free OpenAI Moderation API to identify these examples and remove them from your training data.",
        param,
    )


def refused(category: str, model: str) -> Failure:
    """The failure of a job that was trained to its end and then refused by an evaluation of the result."""
    return Failure(
        "moderation_eval_failed",
        f"Error while running moderation eval refusals_v3 for snapshot {model}: Error while running eval for category {category}",
        None,
    )
