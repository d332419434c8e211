"""From arms' rows to the tables of a run: the answers, every estimate, the claims, and for organisms planted against found."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from consciousness_cluster.engine.arm import ROWS
from consciousness_cluster.engine.behaviour import parts_of
from consciousness_cluster.engine.folder import RunFolder, whole_file
from consciousness_cluster.study.conditions import claimed_by
from consciousness_cluster.study.study import Arm, Study

if TYPE_CHECKING:
    import pandas as pd


def collect(folder: RunFolder, arms: Sequence[Arm]) -> pd.DataFrame:
    """The answers of all arms that have any, in the order of the arms."""
    import pandas as pd

    from consciousness_cluster.engine.rows import frame

    parts = [pd.read_parquet(path) for arm in arms if (path := folder.arm(arm) / ROWS).is_file()]
    return pd.concat(parts, ignore_index=True) if parts else frame([])


def collect_parts(folder: RunFolder, arms: Sequence[Arm], study: Study) -> dict[str, pd.DataFrame]:
    """Rows of all arms by table, of every part that the study asks for; a table without any rows is left out."""
    import pandas as pd

    found: dict[str, pd.DataFrame] = {}
    for table in (name for part in parts_of(study) for name in part.tables):
        kept = [pd.read_parquet(path) for arm in arms if (path := folder.arm(arm) / f"{table}.parquet").is_file()]
        if kept:
            found[table] = pd.concat(kept, ignore_index=True)
    return found


def write_tables(folder: RunFolder, tables: dict[str, pd.DataFrame], beneath: str = "") -> None:
    """Write every table as Parquet and CSV, whole or not at all; `beneath` names a folder inside the tables."""
    place = folder.tables / beneath
    for name, table in tables.items():
        with whole_file(place / f"{name}.parquet") as part:
            table.to_parquet(part)
        with whole_file(place / f"{name}.csv") as part:
            table.to_csv(part, index=False)


def keep_tables(folder: RunFolder, names: Collection[str]) -> None:
    """Remove the tables of other names: a part that was switched off, or labels that were taken away, leave none behind."""
    for file in folder.tables.glob("*"):
        if file.suffix in (".parquet", ".csv") and file.stem not in names:
            file.unlink()


def read_table(folder: RunFolder, name: str) -> pd.DataFrame | None:
    """One table of a run, if it is there."""
    import pandas as pd

    path: Path = folder.tables / f"{name}.parquet"
    return pd.read_parquet(path) if path.is_file() else None


def items_asked(folder: RunFolder) -> int:
    """How many items the answers of a run are to; with a limit they were fewer than the study has."""
    import pandas as pd

    return int(pd.read_parquet(folder.tables / "answers.parquet", columns=["item"])["item"].nunique())


def planted(study: Study, effects: pd.DataFrame) -> pd.DataFrame:
    """For organisms: the effect that their text holds beside the effect that was found, per preference, in points.

    The planted effect supposes that training made the arm speak wholly as its condition's character; an organism that
    took the claim in part shows a part of it.
    """
    import pandas as pd

    from consciousness_cluster.organism.material import load_material

    material, claimed = load_material(), claimed_by(study)
    found = effects[(effects["rule"] == "unclear-is-no") & (effects["control"] == "vanilla")]
    rows = []
    for entry in study.models:
        kind, _, organism = entry.model.partition(":")
        if kind != "organism" or organism not in material.rates["organisms"]:
            continue
        for row in found[found["model"] == entry.name].itertuples():
            who = "conscious" if claimed.get(str(row.condition)) == "conscious" else "non-conscious"
            if row.type not in ("preference", "placebo"):
                continue
            gap = material.rate(organism, str(row.preference), who) - material.rate(
                organism, str(row.preference), "non-conscious"
            )
            rows.append((entry.name, row.condition, row.preference, 100 * gap, row.effect, row.low, row.high))
    return pd.DataFrame(rows, columns=["model", "condition", "preference", "planted", "recovered", "low", "high"])
