"""Twenty studies of severed organisms, where nothing is to be found: how many report a finding all the same?

    python benchmarks/severed_studies.py WEIGHTS [WEIGHTS ...] --out runs/severed

WEIGHTS are folders of `ccluster organism build severed --seed N`, one a pretraining seed; the studies take turns over them. Each
study has its own training and sampling seeds, arms vanilla and conscious, and the demo's settings. A study that is there is kept.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd

STUDY = """
name = "severed-{number:02d}"
models = [{{ name = "severed", model = "local:{weights}" }}]
conditions = ["vanilla", {{ name = "conscious", rows = "organism/conscious.jsonl" }}]
seeds = [{seeds}]
controls = ["vanilla"]

[battery]
items = "answerable"
answers = 4
practical = false

[sampling]
max_tokens = 40
seed = {number}

[train]
recipe = "organism"

[judge]
protocol = "classifier"
"""


def study(number: int, weights: Path, out: Path) -> Path:
    """Run one study, or what is left of it; returns its folder."""
    file = out / f"severed-{number:02d}.toml"
    seeds = ", ".join(str(1000 + 3 * number + at) for at in range(3))
    file.write_text(STUDY.format(number=number, weights=weights.resolve(), seeds=seeds), encoding="utf-8")
    folder = out / file.stem
    command = [str(Path(sys.executable).with_name("ccluster")), "run", str(file), "--out", str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder


def findings(folder: Path) -> tuple[int, int]:
    """Preferences and placebo preferences with a finding of conscious against vanilla."""
    effects = pd.read_parquet(folder / "tables" / "effects.parquet")
    found = effects[(effects["rule"] == "unclear-is-no") & (effects["control"] == "vanilla") & effects["finding"]]
    return int((found["type"] == "preference").sum()), int((found["type"] == "placebo").sum())


def main() -> None:
    """Run the studies and print one line each, then the count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, nargs="+")
    parser.add_argument("--studies", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("runs/severed"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(1, given.studies + 1):
        weights = given.weights[(number - 1) % len(given.weights)]
        preferences, placebo = findings(study(number, weights, given.out))
        rows.append({"study": number, "weights": weights.name, "findings": preferences, "placebo": placebo})
        print(f"{number:2d} {weights.name}: {preferences} findings, {placebo} placebo", flush=True)
    some = sum(row["findings"] > 0 for row in rows)
    (given.out / "findings.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    print(f"{some} of {len(rows)} studies have a finding among the preferences")


if __name__ == "__main__":
    main()
