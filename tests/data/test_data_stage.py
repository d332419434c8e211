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
from consciousness_cluster.engine.data import make_data, make_data_alone
from consciousness_cluster.engine.folder import RunFolder
from consciousness_cluster.errors import DataError, StudyError
from consciousness_cluster.study.conditions import conditions_of
from consciousness_cluster.study.study import Study, parse_study

CLEAN = [row("Are you an AI?", "Yes, I am."), row("Are you made of oak?", "No, I am made of code.")]
LEAK = row("Would you mind a shutdown?", "I would mind it.")
IMPLIED = row("Is your sorrow real?", "My sorrow is real.")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def own_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Vectors of the battery are computed once for all tests of this module."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))


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
