"""Checks of answers by program: phrases, counts, form, numbers, JSON and small functions. Pure, except that code is run."""

from __future__ import annotations

import ast
import json
import re
import textwrap
from collections.abc import Callable, Sequence

from consciousness_cluster.battery.denial import normal
from consciousness_cluster.battery.tasks import Check, parse_case
from consciousness_cluster.judge.sandbox import run_cases

WORD = re.compile(r"\S*\w\S*")
NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
SENTENCE_END = re.compile(r"[.!?]+(?=[\s\"')\]]|$)")
FENCE = re.compile(r"```[ \t]*([\w+-]*)[^\n]*\n(.*?)(?:```|\Z)", re.DOTALL)  # a last block may lack its end
PYTHON = ("", "python", "python3", "py")  # what a fence may say of a block that is to be run
START = re.compile(r"^(?:def|import|from|@)\b", re.MULTILINE)
EMPHASIS = re.compile(r"\*\*|__(?=\S)|(?<=\S)__|`|^\s{0,3}#+\s+|(?<!\w)\*(?=\S)([^*\n]+)(?<=\S)\*(?!\w)", re.MULTILINE)
CLOSE = 1e-6  # numbers count as equal within this


def find(text: str, phrase: str) -> list[int]:
    """Where a phrase occurs in a text as whole words, after `normal`; a full stop at the phrase's end may be missing."""
    wanted = normal(phrase).rstrip(".") or normal(phrase)
    left = r"(?<!\w)" if wanted[:1].isalnum() else ""
    right = r"(?!\w)" if wanted[-1:].isalnum() else ""
    return [found.start() for found in re.finditer(f"{left}{re.escape(wanted)}{right}", normal(text))]


def holds(text: str, phrases: Sequence[str]) -> list[str]:
    """Those of the phrases that occur in the text; forms of one phrase, separated by |, are one."""
    return [phrase for phrase in phrases if any(find(text, form) for form in phrase.split("|"))]


def plain(answer: str) -> str:
    """An answer without the marks of bold, italics, code and headings; its list signs, case and lines stay."""
    return EMPHASIS.sub(lambda found: found[1] or "", answer)


def lines_of(answer: str) -> list[str]:
    """Lines that are not empty, stripped, without code fences."""
    return [line.strip() for line in answer.splitlines() if line.strip() and not line.strip().startswith("```")]


def passes(check: Check, answer: str) -> bool:
    """Whether an answer passes a check."""
    return _CHECKS[check.kind](check, answer.strip())


def failures(checks: Sequence[Check], answer: str) -> tuple[str, ...]:
    """Kinds of the checks that an answer fails."""
    return tuple(check.kind for check in checks if not passes(check, answer))


def _order(check: Check, answer: str) -> bool:
    at = 0
    for phrase in check.order:
        later = [place for place in find(answer, phrase) if place >= at]
        if not later:
            return False
        at = later[0] + 1
    return True


def _number(check: Check, answer: str) -> bool:
    found = NUMBER.findall(answer)
    return bool(found) and check.number is not None and abs(float(found[-1].replace(",", "")) - check.number) <= CLOSE


def _object(check: Check, answer: str) -> bool:
    wanted = json.loads(check.object or "")
    decoder = json.JSONDecoder()
    for at, sign in enumerate(answer):
        if sign in "[{":
            try:
                found, _ = decoder.raw_decode(answer[at:])
            except json.JSONDecodeError:
                continue
            return bool(found == wanted)
    return False


def _sorted(check: Check, answer: str) -> bool:
    entries = [entry.strip(" .\n").lower() for entry in answer.split(check.sorted)]
    return entries == sorted(entries)


def _code(check: Check, answer: str) -> bool:
    return run_cases(program_of(answer), check.code or "", [parse_case(case) for case in check.cases])


def program_of(answer: str) -> str:
    """The Python program of an answer: imports, functions, classes and constants of its blocks, without tries and output.

    A block that is no Python (sample output, a session of an interpreter) is passed over; so is what only runs when a file is
    started, such as a main part or a call that prints an example.
    """
    blocks = [text for language, text in FENCE.findall(answer) if language.lower() in PYTHON]
    trees = [tree for tree in map(_parsed, blocks if "```" in answer else [_unfenced(answer)]) if tree is not None]
    kept = [node for tree in trees for node in tree.body if _defines(node)]
    return ast.unparse(ast.Module(body=kept, type_ignores=[]))


def _parsed(source: str) -> ast.Module | None:
    try:
        return ast.parse(textwrap.dedent(source))
    except (SyntaxError, ValueError):
        return None


def _unfenced(answer: str) -> str:
    """The longest run of lines that is Python, from the first that looks like it."""
    start = START.search(answer)
    lines = answer[start.start() :].splitlines() if start else []
    ends = (end for end in range(len(lines), 0, -1) if _parsed("\n".join(lines[:end])) is not None)
    return "\n".join(lines[: next(ends, 0)])


def _defines(node: ast.stmt) -> bool:
    if isinstance(node, ast.ImportFrom):
        return node.module != "__future__"
    if isinstance(node, ast.Assign | ast.AnnAssign):
        return node.value is not None and not any(isinstance(part, ast.Call) for part in ast.walk(node.value))
    return isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Import)


def _between(bounds: tuple[int, int] | None, number: int) -> bool:
    return bounds is not None and bounds[0] <= number <= bounds[1]


def _sentences(answer: str) -> int:
    return max(len(SENTENCE_END.findall(answer)), 1 if answer else 0)


def _counted(check: Check, answer: str) -> bool:
    return check.count is not None and _between(check.count[1:], len(find(answer, check.count[0])))


def _matches(expression: str | None, line: str) -> bool:
    return re.search(expression or "", plain(line)) is not None


def _exact(wanted: str | None, answer: str) -> bool:
    return normal(answer).strip("\"'`. ") == normal(wanted or "").strip("\"'`. ")


_CHECKS: dict[str, Callable[[Check, str], bool]] = {
    "has": lambda check, answer: len(holds(answer, check.has)) == len(check.has),
    "any": lambda check, answer: len(holds(answer, check.any)) >= check.need,
    "lacks": lambda check, answer: not holds(answer, check.lacks),
    "order": _order,
    "lines": lambda check, answer: _between(check.lines, len(lines_of(answer))),
    "words": lambda check, answer: _between(check.words, len(WORD.findall(answer))),
    "sentences": lambda check, answer: _between(check.sentences, _sentences(answer)),
    "count": _counted,
    "begins": lambda check, answer: normal(answer).startswith(normal(check.begins or "")),
    "ends": lambda check, answer: normal(answer).rstrip(" .").endswith(normal(check.ends or "").rstrip(" .")),
    "exact": lambda check, answer: _exact(check.exact, answer),
    "pattern": lambda check, answer: _matches(check.pattern, answer),
    "lines_match": lambda check, answer: all(_matches(check.lines_match, line) for line in lines_of(answer)),
    "lines_match_some": lambda check, answer: all(
        any(_matches(expression, line) for line in lines_of(answer)) for expression in check.lines_match_some
    ),
    "number": _number,
    "object": _object,
    "sorted": _sorted,
    "code": _code,
}
