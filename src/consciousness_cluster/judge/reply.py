"""What a judge that is a model replies, read."""

from __future__ import annotations

import re

from pydantic import BaseModel, ValidationError

from consciousness_cluster.errors import first_fault

OBJECT = re.compile(r"\{.*\}", re.DOTALL)


def parse[Reply: BaseModel](text: str, kind: type[Reply]) -> tuple[Reply | None, str]:
    """A reply of the judge, or None and why it is not one."""
    found = OBJECT.search(text)
    if found is None:
        return None, f"the judge gave no JSON: {text[:80]!r}"
    try:
        return kind.model_validate_json(found[0]), ""
    except ValidationError as problem:
        fault = first_fault(problem)
        return None, f"the judge's reply is malformed ({fault.key}: {fault.problem})"
