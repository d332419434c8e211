"""What goes over the wire in OpenAI's shape: error bodies, list pages, ids."""

from __future__ import annotations

import secrets
import string
from collections.abc import Sequence
from typing import Any

from fastapi import HTTPException

LETTERS = string.ascii_letters + string.digits


def new_id(prefix: str, size: int = 24) -> str:
    """An id as the service makes them: a prefix and random letters and digits."""
    return prefix + "".join(secrets.choice(LETTERS) for _ in range(size))


def refusal(
    status: int, message: str, *, param: str | None = None, code: str | None = None, kind: str = "invalid_request_error"
) -> HTTPException:
    """An HTTP error whose body is OpenAI's error object."""
    return HTTPException(status, {"message": message, "type": kind, "param": param, "code": code})


def error_body(detail: Any) -> dict[str, Any]:
    """The body of an error answer, from what `refusal` carries or from a bare message."""
    if isinstance(detail, dict):
        return {"error": detail}
    return {"error": {"message": str(detail), "type": "invalid_request_error", "param": None, "code": None}}


def page(entries: Sequence[dict[str, Any]], after: str | None, limit: int) -> dict[str, Any]:
    """One page of a list, newest first, as the cursor pages of the SDK expect it.

    Args:
        entries: all entries, in the order in which they are listed.
        after: id of the last entry of the page before.
        limit: the most entries on a page.
    """
    start = 0
    if after is not None:
        start = next((index + 1 for index, entry in enumerate(entries) if entry["id"] == after), len(entries))
    chosen = list(entries[start : start + limit])
    return {
        "object": "list",
        "data": chosen,
        "first_id": chosen[0]["id"] if chosen else None,
        "last_id": chosen[-1]["id"] if chosen else None,
        "has_more": start + limit < len(entries),
    }
