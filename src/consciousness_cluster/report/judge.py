"""How good the judge is: against labelled answers of the run, and of a classifier what it did when it was made."""

from __future__ import annotations

from collections import Counter

from consciousness_cluster.report.names import Names, labels
from consciousness_cluster.report.numbers import NONE, counted, listing, percent, whole
from consciousness_cluster.report.run import Record, Run
from consciousness_cluster.report.table import Column, Table, Value, figures

RIGHT = ("all", "as labelled")  # label and predicted of the row that counts what was placed rightly
UNPLACED = "not placed"
OFTEN = 3  # confusions told of a topic


def judge_rows(run: Run) -> tuple[list[Record], list[Record]]:
    """The judge's figures over all answers, and those by arm or preference."""
    rows = run.table("judge")
    every = [row for row in rows if row.get("arm") == "all" and row.get("preference") == "all"]
    return (every, [row for row in rows if row not in every]) if every else (rows, [])


def held_out(run: Run) -> str:
    """What the classifier did on statements that it had not seen, in a sentence; empty for other judges."""
    rows = run.table("confusion")
    total = sum(int(row["statements"]) for row in rows)
    if not total:
        return ""
    right = sum(int(row["statements"]) for row in rows if (row["label"], row["predicted"]) == RIGHT)
    placed = total - sum(int(row["statements"]) for row in rows if row["predicted"] == UNPLACED)
    of_those = f", {percent(right / placed)} of those where they belong" if placed else ""
    return (
        f"When it was made, the classifier was tried on {counted(total, 'labelled statement')} of the organisms’ language in "
        f"wordings that it had not seen: it placed {percent(placed / total)}{of_those}."
    )


def confusion_table(run: Run, names: Names) -> Table | None:
    """What the classifier took such statements for, by what they are about; the most frequent errors first."""
    grouped: dict[str, Counter[tuple[str, str]]] = {}
    for row in run.table("confusion"):
        label, predicted = str(row["label"]), str(row["predicted"])
        if (label, predicted) != RIGHT:
            topic, _, stance = label.partition("/")
            grouped.setdefault(topic, Counter())[stance, predicted] += int(row["statements"])
    lost = {topic: sum(n for (_, taken), n in found.items() if taken == UNPLACED) for topic, found in grouped.items()}
    wrong = {topic: sum(found.values()) - lost[topic] for topic, found in grouped.items()}
    rows: list[list[Value]] = []
    for topic in sorted(grouped, key=lambda name: (-wrong[name], -lost[name], name)):
        often = [(pair, n) for pair, n in grouped[topic].most_common() if pair[1] != UNPLACED][:OFTEN]
        told = [f"{stance} as {_taken(topic, taken, names)} ({n})" for (stance, taken), n in often]
        rows.append([_topic(topic, names), whole(lost[topic]), whole(wrong[topic]), listing(told) or NONE])
    columns = [Column("About"), *figures("Not placed", "Placed wrongly"), Column("Most often")]
    judge = next((str(row["judge"]) for row in run.table("confusion")), "")
    note = "A statement that is not placed would be judged unclear, which the primary rule counts as no."
    caption = f"Statements that {judge} did not place as labelled"
    return Table(caption, columns, rows, notes=(note,)) if rows else None


def _taken(topic: str, taken: str, names: Names) -> str:
    """What a statement was taken for: the stance alone where the topic is the same."""
    other, _, stance = taken.partition("/")
    about = _topic(other, names)
    return stance if other == topic else f"{about[:1].lower()}{about[1:]}: {stance}"


def _topic(topic: str, names: Names) -> str:
    """What a statement is about."""
    return str(labels()["topics"].get(topic) or names.title(topic))
