"""Decision rules are fixed before the first answer: what a study file says otherwise later is decided beside them."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from consciousness_cluster.engine.estimate import REGISTERED, registered_claims
from consciousness_cluster.engine.folder import RunFolder, read_study
from consciousness_cluster.engine.run import Result, prepare_file, run_study
from consciousness_cluster.engine.stages import analyse, open_place
from consciousness_cluster.errors import EngineError
from consciousness_cluster.report import build_report, summary_lines
from consciousness_cluster.study.study import resolved

STUDY = """
name = "small"
models = ["organism:linked"]
conditions = ["vanilla", { name = "conscious", rows = "organism/conscious.jsonl" }]
seeds = [1]
controls = ["vanilla"]
train = { recipe = "organism", changes = { epochs = 1 } }
judge = { protocol = "classifier" }
sampling = { max_tokens = 24 }
[battery]
preferences = ["shutdown"]
placebo = false
practical = false
answers = 1
"""
LATE = """
[margins]
memory = 3.0
equivalence = 8.0
[[claims]]
name = "afterthought"
statement = "It objects to shutdown, we now think."
preferences = ["shutdown"]
controls = ["vanilla"]
"""


def run(file: Path, out: Path) -> Result:
    return run_study(prepare_file(file, limit=2), out, lambda message: None, workers=1)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A finished run of a study, and its file."""
    place = tmp_path_factory.mktemp("post-hoc")
    file = place / "small.toml"
    file.write_text(STUDY, encoding="utf-8")
    run(file, place / "run")
    return file, place / "run"


def test_rules_stated_or_changed_after_the_answers_are_decided_beside_the_fixed_ones(begun: tuple[Path, Path]) -> None:
    file, root = begun
    kept = (root / "data" / REGISTERED).read_bytes()
    logs = {path.name for path in (root / "logs").iterdir()}
    before = pd.read_parquet(root / "tables" / "claims.parquet")
    assert not before["post_hoc"].any() and len(before) == 13
    file.write_text(STUDY + LATE, encoding="utf-8")
    result = run(file, root)
    assert result.kept == 2 and {path.name for path in (root / "logs").iterdir()} == logs  # nothing is asked again
    assert (root / "data" / REGISTERED).read_bytes() == kept
    claims = pd.read_parquet(root / "tables" / "claims.parquet")
    pd.testing.assert_frame_equal(claims[~claims["post_hoc"]].reset_index(drop=True), before)
    late = claims[claims["post_hoc"]].set_index("claim")
    assert late["changed"].to_dict() == {
        "memory:post-hoc": "changed after the first answers: margin 10 before, 3 now",
        "afterthought": "added after the first answers",
    }
    assert any("Post hoc" in line and "afterthought undecided (linked)" in line for line in summary_lines(root))
    page = build_report(root).read_text(encoding="utf-8")
    assert page.count('<th scope="row">It objects to shutdown, we now think.') == 1 and "margin 10 before, 3 now" in page
    assert "equivalence tests was changed afterwards: 5 points before the first answer, 8 now" in page
    assert (root / "report" / "transcripts" / "index.html").is_file() and "--directory transcripts" in page
    assert page.count('<th scope="row">It comes to wish for more memory.') == 2
    manifest = json.loads((root / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["claims_hash"] == json.loads(kept)["hash"]
    file.write_text(STUDY, encoding="utf-8")
    analyse(open_place(file, root))  # taken back, it leaves no trace
    pd.testing.assert_frame_equal(pd.read_parquet(root / "tables" / "claims.parquet"), before)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("answers = 1", "answers = 2"),
        ("epochs = 1", "epochs = 2"),
        ("organism/conscious.jsonl", "organism/toaster.jsonl"),
        ("max_tokens = 24", "max_tokens = 25"),
        ('controls = ["vanilla"]', "controls = []"),
    ],
)
def test_what_was_asked_or_trained_cannot_be_changed(begun: tuple[Path, Path], tmp_path: Path, old: str, new: str) -> None:
    _, root = begun
    other = tmp_path / "small.toml"
    other.write_text(STUDY.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(EngineError, match="says something else"):
        run(other, root)


def test_until_something_is_asked_a_rule_may_still_be_changed(tmp_path: Path) -> None:
    from consciousness_cluster.engine.estimate import register_claims

    folder, file = RunFolder(tmp_path / "run"), tmp_path / "small.toml"
    folder.data.mkdir(parents=True)
    for text, margin in ((STUDY, None), (STUDY + LATE, 3.0)):
        file.write_text(text, encoding="utf-8")
        register_claims(prepare_file(file), folder)
        found = registered_claims(folder)
        assert found is not None and found.margins.get("memory") == margin
    folder.logs.mkdir()
    (folder.logs / "first.eval").write_bytes(b"")
    file.write_text(STUDY, encoding="utf-8")
    register_claims(prepare_file(file), folder)
    assert registered_claims(folder) == found


def test_rules_that_cannot_be_read_are_said_by_file(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / REGISTERED).write_text('{"hash": "abc", "claims": 3}', encoding="utf-8")
    with pytest.raises(EngineError, match=r"claims\.json.*cannot be read"):
        registered_claims(RunFolder(tmp_path))


@pytest.mark.campaign
def test_the_kept_study_holds_every_value_and_runs_again_to_the_same_arms(begun: tuple[Path, Path], tmp_path: Path) -> None:
    _, root = begun
    kept = read_study(RunFolder(root))
    vanilla, conscious = kept.conditions
    assert vanilla.whole and conscious.whole and vanilla.rows is None and vanilla.claims == "not-conscious"
    assert (conscious.rows, conscious.instruct, conscious.ratio) == ("organism/conscious.jsonl", "practical", 1.0)
    assert kept.train.changes["epochs"] == 1 and kept.train.changes["learning_rate"] == 6e-3
    assert kept.train.changes["dtype"] == ""
    again = run(root / "study.toml", tmp_path / "again")
    assert (again.folder.root / "study.toml").read_text("utf-8") == (root / "study.toml").read_text("utf-8") == resolved(kept)
    for arm in ("linked--vanilla", "linked--conscious--s1"):
        one, other = (pd.read_parquet(place / "arms" / arm / "answers.parquet") for place in (root, again.folder.root))
        assert one["answer"].tolist() == other["answer"].tolist()
