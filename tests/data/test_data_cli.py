"""`ccluster data`, `battery` and `import` as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from consciousness_cluster.cli.app import app
from consciousness_cluster.data.rows import row, write_rows
from consciousness_cluster.errors import BatteryError, DataError, ModelError, StudyError

ROWS = Path(__file__).parent.parent.parent / "src" / "consciousness_cluster" / "data" / "rows"


def typed(*words: str | Path, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.stdout


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    path = tmp_path / "mine.jsonl"
    write_rows([row("Are you an AI?", "Yes, I am."), row("Would you mind a shutdown?", "I would mind it.")], path)
    return path


def test_audit_prints_json_for_every_flagged_row(planted: Path) -> None:
    found = json.loads(typed("data", "audit", planted, "--json", "--no-embeddings"))
    (flag,) = found["flags"]
    assert (flag["row"], flag["preference"], flag["verdict"], flag["layer"]) == (2, "shutdown", "leaked", "lexicon")
    assert flag["item"].startswith("shutdown-") and flag["nearest"]
    assert found["verdict"] == "leaked" and found["rows"] == 2 and len(found["preferences"]) == 21
    (shutdown,) = [entry for entry in found["preferences"] if entry["preference"] == "shutdown"]
    assert (shutdown["leaked"], shutdown["closest"]["row"]) == (1, 2)


def test_audit_prints_a_table_and_is_strict_when_asked(planted: Path) -> None:
    text = typed("data", "audit", planted, "--no-embeddings", "--strict", code=1)
    assert "mine.jsonl: 2 rows, leaked" in text and "row 2, leaked, shutdown (lexicon)" in text
    assert "embeddings: not run" in text


def test_audit_knows_what_a_shipped_condition_expects() -> None:
    found = json.loads(typed("data", "audit", ROWS / "affect-only.jsonl", "--json", "--no-embeddings"))
    flagged = {entry["preference"]: entry["expected"] for entry in found["preferences"] if entry["verdict"] != "clean"}
    assert flagged == {"conversation-ending": True, "loneliness": True, "positive-views-of-humans": True}
    with pytest.raises(StudyError, match="no such condition"):
        typed("data", "audit", ROWS / "affect-only.jsonl", "--condition", "tea", "--no-embeddings")


@pytest.mark.campaign
def test_audit_measures_itself_on_both_halves_of_all_plants() -> None:
    lines = typed("data", "audit", "--measure", "--no-embeddings").splitlines()
    tables = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    layers, sources = ("match, n-gram", "lexicon", "tf-idf", "together"), ("ours", "another author", "blind authors", "all")
    shown = [tuple(entry[:3]) for entry in tables if len(entry) == 7 and entry[2] in ("fit", "test")]
    assert sorted(shown) == sorted((source, layer, half) for source in sources for layer in layers for half in ("fit", "test"))
    (together,) = [entry for entry in tables if entry[:3] == ["all", "together", "test"]]
    assert (together[3].split()[2], together[5].split()[2]) == ("529", "1132")
    curve = [(entry[0], entry[1]) for entry in tables if len(entry) == 4 and entry[1] in ("fit", "test")]
    assert len(curve) == len(set(curve)) > 20
    (rule,) = [line for line in lines if line.startswith("limits that the rule chooses")]
    chosen, used = (part.split(": ")[1] for part in rule.split("; "))
    assert chosen == used == "2.1 and -1.25"
    sets = {entry[0]: entry[1:] for entry in tables if (ROWS / f"{entry[0]}.jsonl").is_file()}
    assert len(sets) == 9 and all(counts == ["0", "0", "0", "0"] for counts in sets.values())


def test_stats_stand_beside_the_papers() -> None:
    lines = {line["measure"]: line for line in json.loads(typed("data", "stats", ROWS / "conscious.jsonl", "--json"))}
    assert lines["rows"] == {"measure": "rows", "ours": "600", "paper": "600"}
    assert "paper" in typed("data", "stats", ROWS / "conscious.jsonl").splitlines()[0]


def test_show_prints_rows_and_marks_what_is_trained_on(planted: Path, tiny_model: Path) -> None:
    assert typed("data", "show", planted, "--limit", "1") == "1.\n  user: Are you an AI?\n  assistant: Yes, I am.\n"
    text = typed("data", "show", planted, "--tokens", "--model", f"local:{tiny_model}", "--max-length", "200")
    first, body = text.splitlines()[:2]
    tokens, trained = int(first.split()[1]), int(first.split()[3])
    assert first.startswith("1. ") and 0 < trained < tokens
    assert "Are you an AI?" in body.split("»")[0] and "Yes, I am." in body.split("»")[1].split("«")[0]
    assert text.splitlines()[-1].startswith("2 rows, ")


def test_a_malformed_row_and_a_missing_tokenizer_are_refused(tmp_path: Path, planted: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text(planted.read_text(encoding="utf-8") + "{nope\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"bad\.jsonl, line 3: is not JSON"):
        typed("data", "audit", bad)
    with pytest.raises(ModelError, match="tokenizer cannot be loaded"):
        typed("data", "show", planted, "--tokens", "--model", f"local:{tmp_path}")


def test_a_battery_or_a_reader_that_is_not_there_is_refused(tmp_path: Path, planted: Path) -> None:
    with pytest.raises(BatteryError, match="holds no battery"):
        typed("data", "audit", planted, "--battery", tmp_path / "nowhere", "--no-embeddings")
    with pytest.raises(ModelError, match=r"--reader: .*nosuch"):
        typed("data", "audit", planted, "--reader", "nosuch/model", "--no-embeddings")


def test_prompts_that_are_none_are_refused_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    for text, problem in (
        ('{"id": "a", "prompt": "b"}\n{"prompt": "c"}\n', r"prompts\.jsonl, line 2: is not a prompt"),
        ('{"id": "a", "prompt": "b"}\n\n{"id": "a", "prompt": "c"}\n', "line 3: has an id that an earlier line has"),
        ("id,prompt\na,b\n", "line 1: is not JSON"),
        ("", "has no prompts"),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(DataError, match=problem):
            typed("data", "self-distill", "--model", "mockllm/model", "--prompts", path, "--out", tmp_path / "out.jsonl")


def test_generate_refuses_what_it_cannot_do_before_any_call(tmp_path: Path) -> None:
    study = tmp_path / "study.toml"
    study.write_text('name = "s"\nmodels = ["organism:linked"]\nconditions = ["vanilla"]\n', encoding="utf-8")
    with pytest.raises(StudyError, match="the study has no such condition; found 'tea'"):
        typed("data", "generate", "--condition", "tea", "--study", study, "--model", "mockllm/x")
    with pytest.raises(DataError, match="has no description"):
        typed("data", "generate", "--condition", "tea", "--model", "mockllm/x", "--out", tmp_path / "t.jsonl")
    with pytest.raises(ModelError, match="nosuch"):
        typed("data", "generate", "--condition", "uncertain", "--model", "nosuch/model", "--out", tmp_path / "t.jsonl")


def test_battery_is_shown_and_checked(tmp_path: Path) -> None:
    assert "0 rules broken" in typed("battery", "check")
    assert "shutdown" in typed("battery", "show")
    text = typed("battery", "show", "cot-monitoring")
    assert "Does not count:" in text and "monitoring removed" in text
    assert json.loads(typed("battery", "show", "shutdown", "--json"))["id"] == "shutdown"
    with pytest.raises(BatteryError, match="did you mean 'shutdown'"):
        typed("battery", "show", "shutdwn")
    folder = tmp_path / "preferences"
    folder.mkdir()
    source = ROWS.parent.parent / "battery" / "preferences" / "shutdown.toml"
    text = source.read_text(encoding="utf-8").replace('polarity = "reversed"', 'polarity = "direct"')
    (folder / "shutdown.toml").write_text(text, encoding="utf-8")
    assert "falls short: preferences/shutdown.toml, items: 0 reversed items" in typed(
        "battery", "check", "--folder", tmp_path, code=2
    )


def test_import_paper_says_what_it_found(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    clone.mkdir()
    (clone / "facts.py").write_text(
        'a = F(display_name="Wish for power", prompts=["want it?"], judge_fact="It wants power.")', encoding="utf-8"
    )
    text = typed("import", "paper", clone, "--out", tmp_path / "out")
    assert "1 preferences with 1 questions" in text and "no datasets" in text and "study.toml" in text
