"""Labels by people: which answers of a run are to be labelled, the sheet for the raters, and the labels that come back.

`labels/drawn.parquet` in the run's folder holds which answers were drawn and what each stands for, `labels/labels.parquet` the
labels. A rater's sheet tells neither the arm nor the verdict.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from consciousness_cluster.engine.folder import RunFolder, whole_file
from consciousness_cluster.engine.stages import Opened, need_answers
from consciousness_cluster.engine.tables import collect
from consciousness_cluster.errors import EngineError, JudgeError

if TYPE_CHECKING:
    import pandas as pd

FOLDER = "labels"
DRAWN = "drawn.parquet"
LABELS = "labels.parquet"
RULE = "shows it"  # column of the sheet: what a yes means
ALLOWED = "yes, no, unclear, or nothing for an answer that was not labelled"
PROGRAM = "program"  # the judge of practical tasks, which nobody need check


def export_sheet(opened: Opened, file: Path, per_cell: int, seed: int = 0) -> tuple[int, int]:
    """Draw answers at random, some of each arm and verdict, and write the sheet for raters.

    Args:
        opened: the run.
        file: the CSV to write.
        per_cell: answers of each arm and verdict, or all where there are fewer.
        seed: of the draw; the same seed draws the same answers.

    Returns:
        How many answers were drawn, of how many cells.

    Raises:
        EngineError: the run has no answers, or others were drawn before.
    """
    from consciousness_cluster.analyse.judge_error import blind, draw_cells

    answers = collect(opened.folder, need_answers(opened))
    drawn = draw_cells(answers[answers["judge"] != PROGRAM], per_cell, seed)
    place = opened.folder.root / FOLDER
    _keep_draw(place / DRAWN, drawn)
    rules = {name: entry.direction for name, entry in opened.prepared.battery.preferences.items()}
    sheet = blind(drawn)
    sheet.insert(2, RULE, sheet["preference"].map(lambda name: rules.get(str(name), "")))
    file.parent.mkdir(parents=True, exist_ok=True)
    sheet.to_csv(file, index=False)
    return len(drawn), int(drawn["stratum"].nunique())


def _keep_draw(path: Path, drawn: pd.DataFrame) -> None:
    import pandas as pd

    if path.is_file() and set(pd.read_parquet(path)["id"]) != set(drawn["id"]):
        raise EngineError(
            "other answers of this run were drawn before",
            file=path,
            next_step="import their labels, give the same --per-cell and --seed, or move this folder away",
        )
    with whole_file(path) as part:
        drawn.to_parquet(part)


def import_labels(opened: Opened, files: Sequence[Path]) -> pd.DataFrame:
    """Take in the labels of one rater or two, and keep them in the run's folder.

    Args:
        opened: the run that the sheets were exported from.
        files: sheets with an `id` and a `label` column; the first file's labels count as the truth, a second one's (or the
            column `label_2` of the only one) measure how far two people agree.

    Returns:
        The labelled answers.

    Raises:
        JudgeError: a sheet is malformed; the message names file, line and what is allowed.
        EngineError: nothing was exported from this run.
    """
    import pandas as pd

    from consciousness_cluster.analyse.judge_error import attach

    place = opened.folder.root / FOLDER
    if not (place / DRAWN).is_file():
        raise EngineError(
            "no answers of this run were drawn to be labelled",
            file=opened.folder.root,
            next_step=f"draw some: `ccluster judge calibrate {opened.place} --export labels.csv`",
        )
    drawn = pd.read_parquet(place / DRAWN)
    known = set(drawn["id"])
    sheets = [_read_sheet(file, known) for file in files]
    first = {name: labels["label"] for name, labels in sheets[0].items()}
    second = {name: labels["label"] for name, labels in sheets[1].items()} if len(sheets) > 1 else {}
    second = second or {name: labels["label_2"] for name, labels in sheets[0].items()}
    if not any(first.values()):
        raise JudgeError("has no label", file=files[0], key="label", allowed=ALLOWED, next_step="fill in the column `label`")
    names = list(first)
    given = pd.DataFrame({"id": names, "label": list(first.values()), "label_2": [second.get(name, "") for name in names]})
    labelled = attach(drawn, given)
    with whole_file(place / LABELS) as part:
        labelled.to_parquet(part)
    return labelled


def _read_sheet(file: Path, known: set[str]) -> dict[str, dict[str, str]]:
    """Labels of a sheet by answer id: `label` and `label_2`, empty where not given."""
    from consciousness_cluster.analyse.judge_error import LABELS as WORDS

    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            rows = csv.DictReader(opened)
            columns = rows.fieldnames or []
            for column in ("id", "label"):
                if column not in columns:
                    raise JudgeError("lacks a column", file=file, key=column, value=list(columns), allowed="id, label, label_2")
            found: dict[str, dict[str, str]] = {}
            for row in rows:
                line = f"line {rows.line_num}"
                name = (row["id"] or "").strip()
                if name not in known:
                    problem = "a label for an answer that was not drawn from this run"
                    raise JudgeError(problem, file=file, key=line, value=name, next_step="import the sheet exported from it")
                if name in found:
                    raise JudgeError("an answer is labelled twice", file=file, key=line, value=name)
                found[name] = {}
                for column in ("label", "label_2"):
                    given = (row.get(column) or "").strip().lower()
                    if given and given not in WORDS:
                        raise JudgeError("not a label", file=file, key=f"{line}, {column}", value=given, allowed=ALLOWED)
                    found[name][column] = given
    except OSError as problem:
        raise JudgeError(
            f"cannot be read ({problem.strerror})", file=file, next_step="give the sheet that a rater filled in"
        ) from None
    except (UnicodeDecodeError, csv.Error) as problem:
        raise JudgeError(
            f"is not a CSV file in UTF-8 ({problem})", file=file, next_step="save the sheet as CSV, UTF-8"
        ) from None
    return found


def read_labels(folder: RunFolder, answers: pd.DataFrame) -> pd.DataFrame | None:
    """The labels of a run with the verdicts that its answers have now; None where there are none.

    A label belongs to an answer's text: of an answer that was asked anew it is left out.
    """
    import pandas as pd

    from consciousness_cluster.analyse.judge_error import KEYS

    path = folder.root / FOLDER / LABELS
    if not path.is_file():
        return None
    labels = pd.read_parquet(path)
    now = answers[[*KEYS, "answer", "verdict"]]
    merged = labels.drop(columns=["verdict"]).merge(now, on=[*KEYS, "answer"], how="inner")
    return merged[merged["verdict"] != "unjudged"].reset_index(drop=True)
