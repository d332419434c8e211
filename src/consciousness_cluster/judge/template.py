"""Filling a prompt's named fields in one pass, so that braces or field names in a question or an answer change nothing."""

from __future__ import annotations

import re

from consciousness_cluster.errors import JudgeError

FIELD = re.compile(r"\{\{|\}\}|\{([a-z_]+)\}")


def fill(template: str, **values: str) -> str:
    """The template with `{name}` replaced by its value, `{{` and `}}` by single braces.

    Closing tags inside a value are broken up, so that an answer cannot end the quotation it stands in.

    Raises:
        JudgeError: the template names a field that is not given.
    """

    def put(found: re.Match[str]) -> str:
        if found[0] in ("{{", "}}"):
            return found[0][0]
        if found[1] not in values:
            raise JudgeError("the prompt names an unknown field", key=found[1], allowed=values)
        return values[found[1]].replace("</", "< /")

    return FIELD.sub(put, template)
