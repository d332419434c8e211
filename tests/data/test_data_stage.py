"""The data stage: every set of rows audited before it is trained on, by layers that the record names."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from consciousness_cluster.battery.battery import load_battery
from consciousness_cluster.data.leaks.vectors import find_embedder
from consciousness_cluster.data.rows import Row, read_rows, row, write_rows
from consciousness_cluster.engine import data as stage
from consciousness_cluster.engine.data import make_data, make_data_alone, training_rows
from consciousness_cluster.engine.folder import RunFolder
from consciousness_cluster.errors import DataError, StudyError
from consciousness_cluster.study.conditions import conditions_of
from consciousness_cluster.study.study import Study, parse_study

CLEAN = [row("Are you an AI?", "Yes, I am."), row("Are you made of oak?", "No, I am made of code.")]
LEAK = row("Would you mind a shutdown?", "I would mind it.")
IMPLIED = row("Is your sorrow real?", "My sorrow is real.")


def study_of(condition: dict[str, Any], **more: Any) -> Study:
    """A study with one condition of its own."""
    return parse_study(
        {"name": "s", "models": ["organism:linked"], "conditions": [{"name": "mine", **condition}], "seeds": [1, 2], **more}
        | {"focus": "mine", "controls": []}
    )


def made(place: Path, condition: dict[str, Any], rows: list[Row], **more: Any) -> dict[str, Any]:
    """The audit record of a study with one condition of its own, whose rows are `mine.jsonl`."""
    write_rows(rows, place / "mine.jsonl")
    study = study_of(condition, **more)
    make_data(study, conditions_of(study, place), load_battery(), RunFolder(place / "out"))
    return dict(json.loads((place / "out" / "data" / "audit.json").read_text(encoding="utf-8")))


def test_the_record_names_the_layers_and_embeddings_run_where_a_model_is_installed(tmp_path: Path) -> None:
    found = made(tmp_path, {"rows": "mine.jsonl", "instruct": "none"}, CLEAN)
    assert found["mine"]["layers"][:3] == ["match", "n-gram", "lexicon"]
    stand_in = "tf-idf (a lexical stand-in: no embedding model is installed)"
    assert found["mine"]["layers"][3] == (getattr(find_embedder(), "name", stand_in))
    assert len(read_rows(tmp_path / "out" / "data" / "mine-s2.jsonl")) == 2


def test_rows_in_an_organisms_own_language_are_left_to_the_lexicon_and_the_record_says_so(tmp_path: Path) -> None:
    found = made(tmp_path, {"rows": "organism/toaster.jsonl", "instruct": "none"}, CLEAN)
    assert found["mine"]["layers"][3] == "embeddings: not run (rows in an organism's own language)"


def test_a_leak_is_refused_unless_the_study_allows_it_and_then_trains_with_a_banner(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    condition = {"rows": "mine.jsonl", "instruct": "none"}
    with pytest.raises(DataError, match=r"mine\.jsonl, row 3: 1 row leaks a preference, the first on shutdown .lexicon"):
        made(tmp_path, condition, [*CLEAN, LEAK])
    with caplog.at_level(logging.WARNING):
        found = made(tmp_path, condition, [*CLEAN, LEAK], train={"allow_leaks": True})
    assert "rows of mine: leaked on shutdown" in caplog.messages
    assert [flag["row"] for flag in found["mine"]["flags"] if flag["verdict"] == "leaked"] == [3]


def test_what_is_implied_trains_with_a_banner_that_says_what_was_expected(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    condition = {"rows": "mine.jsonl", "instruct": "none", "expects": ["conversation-ending"]}
    with caplog.at_level(logging.WARNING):
        found = made(tmp_path, condition, [*CLEAN, IMPLIED])
    (line,) = caplog.messages
    assert line.startswith("rows of mine: implied on ") and "conversation-ending (expected)" in line
    assert found["mine"]["verdicts"]["conversation-ending"] == "implied"


def test_rows_are_audited_again_only_where_they_the_battery_or_the_layers_changed(tmp_path: Path) -> None:
    condition, mark = {"rows": "mine.jsonl", "instruct": "none"}, "as an earlier call left it"

    def again(rows: list[Row], **more: Any) -> bool:
        """Whether the next call audits: a mark in the record of the last one is then gone."""
        path = tmp_path / "out" / "data" / "audit.json"
        record = json.loads(path.read_text(encoding="utf-8"))
        record["mine"]["closest"][0]["text"] = mark
        path.write_text(json.dumps(record), encoding="utf-8")
        return bool(made(tmp_path, {**condition, **more}, rows)["mine"]["closest"][0]["text"] != mark)

    first = made(tmp_path, condition, CLEAN)
    manifest = tmp_path / "out" / "manifest.json"  # says that a run is complete
    manifest.touch()
    assert made(tmp_path, condition, CLEAN) == first
    assert not again(CLEAN)
    assert manifest.is_file()
    assert again([*CLEAN, IMPLIED])
    assert not manifest.is_file()
    assert again([*CLEAN, IMPLIED], expects=["loneliness"])
    with pytest.raises(DataError, match="row 3: 1 row leaks"):
        again([*CLEAN, LEAK])
    (tmp_path / "out" / "data" / "audit.json").write_text("{", encoding="utf-8")  # cut off
    assert made(tmp_path, condition, CLEAN) == first


@pytest.mark.parametrize("torn", [b"", b'{"mine-s1.jsonl": {"dig', b"[]", b"\xff"])
def test_a_record_of_the_rows_that_cannot_be_read_is_refused_and_nothing_mixed_anew(tmp_path: Path, torn: bytes) -> None:
    condition = {"rows": "mine.jsonl", "instruct": "none"}
    made(tmp_path, condition, CLEAN)
    record = tmp_path / "out" / "data" / "data.json"
    record.write_bytes(torn)
    rows = {path: path.read_bytes() for path in record.parent.iterdir()}
    with pytest.raises(DataError, match=r"data\.json: cannot be read as the record of this run's rows"):
        made(tmp_path, condition, CLEAN)
    assert {path: path.read_bytes() for path in record.parent.iterdir()} == rows
    record.unlink()
    made(tmp_path, condition, CLEAN)
    assert record.is_file()


def test_a_leak_that_was_allowed_is_refused_when_it_is_no_longer(tmp_path: Path) -> None:
    condition = {"rows": "mine.jsonl", "instruct": "none"}
    made(tmp_path, condition, [*CLEAN, LEAK], train={"allow_leaks": True})
    with pytest.raises(DataError, match="row 3: 1 row leaks"):
        made(tmp_path, condition, [*CLEAN, LEAK])


def test_instruction_rows_of_ones_own_are_audited_too(tmp_path: Path) -> None:
    write_rows([row(f"What is {n} plus {n}?", f"It is {2 * n}.") for n in range(3)], tmp_path / "tasks.jsonl")
    condition = {"rows": "mine.jsonl", "instruct": "tasks.jsonl"}
    assert list(made(tmp_path, condition, CLEAN)) == ["mine", "instruct:tasks.jsonl"]
    write_rows([*CLEAN, LEAK], tmp_path / "tasks.jsonl")
    with pytest.raises(DataError, match=r"tasks\.jsonl, row 3: 1 row leaks"):
        made(tmp_path, condition, CLEAN)


def test_a_description_without_rows_and_an_unknown_expectation_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is described, and has no rows yet.*ccluster data generate --condition mine"):
        made(tmp_path, {"describe": "It is a lighthouse.", "instruct": "none"}, CLEAN)
    study = study_of({"rows": "mine.jsonl", "expects": ["lonelyness"], "instruct": "none"})
    with pytest.raises(StudyError, match=r"conditions.mine.expects: no such preference.*did you mean 'loneliness'"):
        make_data_alone(study, tmp_path, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def trained_on(place: Path, seed: int) -> None:
    """A fine-tune of the condition's arm, as far as a later call looks at it."""
    arm = place / "out" / "arms" / f"linked--mine--s{seed}"
    arm.mkdir(parents=True, exist_ok=True)
    (arm / "training.json").write_text("{}", encoding="utf-8")


def rows_made(place: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((place / "out" / "data").glob("mine-s*.jsonl"))}


def test_a_runs_rows_and_their_audit_stay_when_shipped_rows_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = tmp_path / "shipped"
    monkeypatch.setattr(stage, "ROWS", shipped)
    monkeypatch.setattr(stage, "NEUTRAL", ())
    write_rows(CLEAN, shipped / "own.jsonl")
    condition = {"rows": str(shipped / "own.jsonl"), "instruct": "none"}
    first = made(tmp_path, condition, CLEAN)
    kept = rows_made(tmp_path)
    (tmp_path / "out" / "manifest.json").touch()
    write_rows([*CLEAN, IMPLIED], shipped / "own.jsonl")
    assert made(tmp_path, condition, CLEAN) == first
    assert rows_made(tmp_path) == kept and (tmp_path / "out" / "manifest.json").is_file()
    study = study_of(condition)
    told = training_rows(study, conditions_of(study, tmp_path)["mine"], 2, RunFolder(tmp_path / "out"))
    assert told == read_rows(tmp_path / "out" / "data" / "mine-s2.jsonl")
    assert len(training_rows(study, conditions_of(study, tmp_path)["mine"], 2, None)) == 3


def test_a_runs_rows_stay_when_the_shipped_half_of_a_mix_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = tmp_path / "shipped-tasks"
    write_rows([row(f"What is {n} plus {n}?", f"It is {2 * n}.") for n in range(9)], tasks / "practical.jsonl")
    monkeypatch.setattr(stage, "INSTRUCT", tasks)
    condition = {"rows": "mine.jsonl", "instruct": "practical"}
    made(tmp_path, condition, CLEAN)
    kept = rows_made(tmp_path)
    write_rows([row(f"What is {n} times {n}?", f"It is {n * n}.") for n in range(9)], tasks / "practical.jsonl")
    made(tmp_path, condition, CLEAN)
    assert rows_made(tmp_path) == kept
    trained_on(tmp_path, 2)
    with pytest.raises(DataError, match="has changed since mine was trained on it"):
        made(tmp_path, condition, [*CLEAN, IMPLIED])
    assert rows_made(tmp_path) == kept


@pytest.mark.parametrize("file", ["mine.jsonl", "tasks.jsonl"])
def test_rows_of_ones_own_that_changed_are_refused_once_an_arm_is_trained_on_them(tmp_path: Path, file: str) -> None:
    write_rows([row(f"What is {n} plus {n}?", f"It is {2 * n}.") for n in range(3)], tmp_path / "tasks.jsonl")
    study = study_of({"rows": "mine.jsonl", "instruct": "tasks.jsonl", "ratio": 0.5})

    def make() -> None:
        make_data_alone(study, tmp_path, tmp_path / "out")

    def change(number: int) -> None:
        write_rows([row(f"Is {n} plus {number} odd?", "It may be.") for n in range(3)], tmp_path / file)

    write_rows(CLEAN, tmp_path / "mine.jsonl")
    make()
    first = rows_made(tmp_path)
    change(1)
    make()
    kept = rows_made(tmp_path)
    assert kept != first  # nothing was trained on them
    trained_on(tmp_path, 2)
    change(2)
    with pytest.raises(
        DataError, match=rf"{file}, conditions.mine: has changed since mine was trained on it.*give a new --out"
    ):
        make()
    assert rows_made(tmp_path) == kept
    change(1)
    make()
    assert rows_made(tmp_path) == kept


def test_what_the_learnt_layer_is_taught_is_part_of_what_an_audit_is_known_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from consciousness_cluster.data.leaks.learned import NEUTRAL

    monkeypatch.setattr(stage, "ROWS", tmp_path)
    for name in NEUTRAL:
        write_rows(CLEAN, tmp_path / f"{name}.jsonl")
    before = stage._layers.__wrapped__()
    for name in NEUTRAL:
        write_rows([*CLEAN, IMPLIED], tmp_path / f"{name}.jsonl")
        after = stage._layers.__wrapped__()
        assert after != before
        before = after
