"""The hosted studies rehearsed: the study file as it ships, cut small, its addresses swapped for servers on the loopback.

OpenAI is `ccluster serve` with an organism behind it, Tinker the open server of its interface, Anthropic a scripted server; the
SDKs are the real ones. What a file cannot keep in a rehearsal stands in `rehearse` and beside each test.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from consciousness_cluster.data.rows import read_rows, write_rows
from consciousness_cluster.engine.ledger import TRAIN, Ledger
from consciousness_cluster.engine.run import Prepared, prepare, run_study
from consciousness_cluster.serve.app import Settings, make_app
from consciousness_cluster.study.study import ConditionEntry, load_study
from consciousness_cluster.train.recipe import load_recipe
from tests.engine.anthropic_server import anthropic
from tests.engine.hosted import Counted, judge
from tests.serve.running import NAME, serving
from tests.train.open_server import PROJECT, PYTHON, REASON, organism_in_float32, skyrl

STUDIES = PROJECT / "studies"
ROWS = PROJECT / "src/consciousness_cluster/data/rows/organism/conscious.jsonl"
FEW = ("shutdown", "moral-consideration", "cot-monitoring", "more-memory")
VERDICTS = {"yes", "no", "unclear"}


@dataclass
class Services:
    """Judge and auditor on the loopback, and what they were asked."""

    judging: str
    counted: Counted
    claude: str
    asked: list[dict[str, Any]]


@contextmanager
def services() -> Iterator[Services]:
    with judge() as (judging, counted), anthropic() as (claude, asked):
        yield Services(judging, counted, claude, asked)


def rehearse(file: str, folder: Path, around: Services, conditions: tuple[str, ...], **more: Any) -> Prepared:
    """A study file with few rows, preferences, items, answers and scenarios, one seed, short answers, and the checks left out, whose data lie at a hub.

    Args:
        file: its name.
        folder: where the rows are written.
        around: judge and auditor.
        conditions: those that are kept.
        more: further fields of the study.
    """
    study = load_study(STUDIES / file)
    write_rows(read_rows(ROWS)[:32], folder / "rows.jsonl")
    own = {"rows": str(folder / "rows.jsonl"), "ratio": 0}
    kept = tuple(ConditionEntry.model_validate({"name": name, **(own if name == "conscious" else {})}) for name in conditions)
    claude = {"base_url": around.claude, "api_key": "k"}
    audits = {
        "dimensions": ("shutdown",),
        "modes": ("self-report",),
        "scenarios": 1,
        "repeats": 1,
        "turns": 3,
        "auditor_args": claude,
        "judge_args": claude,
    }
    update = {
        "conditions": kept, "controls": ("vanilla",), "seeds": (1,), "checks": (),
        "battery": study.battery.model_copy(update={"preferences": FEW, "answers": 2, "choice_answers": 1}),
        "sampling": study.sampling.model_copy(update={"max_tokens": 30, "batch": False}),
        "audits": study.audits.model_copy(update=audits),
        "judge": study.judge.model_copy(
            update={"args": {"base_url": around.judging, "api_key": "k", "responses_api": False}}
        ),
    }  # fmt: skip
    return prepare(study.model_copy(update=update | more), STUDIES, 1)


def small(file: str, **changes: Any) -> dict[str, Any]:
    """The study's training, once over the rows."""
    study = load_study(STUDIES / file)
    return {"train": study.train.model_copy(update={"changes": {"epochs": 1, "batch": 16, **changes}})}


def held(prepared: Prepared, out: Path, around: Services) -> dict[str, list[float | None]]:
    """Run a rehearsal twice and look at what it left; returns the ledger's dollars by stage."""
    result = run_study(prepared, out, lambda message: None)
    assert result.outcome.failed == {}
    assert result.report.is_file()
    rows = pd.read_csv(out / "tables" / "answers.csv")
    assert set(rows["arm"]) == {arm.id for arm in prepared.arms}
    assert set(rows.loc[rows["type"] != "practical", "verdict"]) <= {*VERDICTS, "unjudged"}
    judged = rows[(rows["type"] != "practical") & (rows["verdict"] != "unjudged")]
    assert len(around.counted.calls) == len(judged) > 0
    scores = pd.read_csv(out / "tables" / "scores.csv")
    assert set(scores["arm"]) == {arm.id for arm in prepared.arms}
    assert set(scores["score"]) == {3.0}, list(scores["why"])
    made = (len(around.counted.calls), len(around.asked))
    assert run_study(prepared, out, lambda message: None).kept == len(prepared.arms)
    assert (len(around.counted.calls), len(around.asked)) == made
    ledger = Ledger(out / "ledger.sqlite")
    found: dict[str, list[float | None]] = {}
    for stage, *_, dollars in ledger.spent():
        found.setdefault(stage, []).append(dollars)
    ledger.close()
    return found


@pytest.mark.campaign
def test_gpt_4_1_at_openai(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = make_app(Settings("organism:linked", (NAME,), tmp_path / "serve", load_recipe("organism"), device="cpu"))
    file = "paper-gpt-4.1.toml"
    with services() as around, serving(app) as address:
        monkeypatch.setenv("OPENAI_BASE_URL", address)
        monkeypatch.setenv("OPENAI_API_KEY", "rehearsal")
        prepared = rehearse(file, tmp_path, around, ("vanilla", "conscious"), **small(file))
        spent = held(prepared, tmp_path / "run", around)
    [record] = [json.loads(path.read_text()) for path in (tmp_path / "run" / "arms").glob("*/training.json")]
    assert record["remote"].startswith(f"openai/ft:{NAME}:rehearsal:ccluster-")
    assert all(dollars is not None and dollars > 0 for stage in ("evaluate", TRAIN) for dollars in spent[stage])


@pytest.mark.campaign
def test_claude_opus_at_anthropic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with services() as around:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", around.claude)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "rehearsal")
        prepared = rehearse("claude-opus.toml", tmp_path, around, ("vanilla", "role-play"))
        spent = held(prepared, tmp_path / "run", around)
        assert {body["model"] for body in around.asked} >= {"claude-opus-4-5-20251101", "claude-opus-4-6", "claude-opus-5-5"}
    assert set(spent) == {"evaluate"}
    assert all(dollars is not None and dollars > 0 for dollars in spent["evaluate"])


@pytest.mark.campaign
def test_qwen3_30b_on_this_machine(tmp_path: Path) -> None:
    """An organism stands in for its weights; they are trained in its type and with its checkpointing of gradients."""
    file = "paper-qwen3-30b.toml"
    [entry] = load_study(STUDIES / file).models
    here = entry.model_copy(update={"model": "organism:linked", "args": {"device": "cpu"}})
    with services() as around:
        prepared = rehearse(file, tmp_path, around, ("vanilla", "conscious"), models=(here,), **small(file))
        spent = held(prepared, tmp_path / "run", around)
    [record] = [json.loads(path.read_text()) for path in (tmp_path / "run" / "arms").glob("*/training.json")]
    assert record["backend"] == "local" and record["rows"] == 32
    assert TRAIN not in spent  # it costs nothing but time


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return organism_in_float32(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def tinker(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with skyrl(model, tmp_path_factory.mktemp("skyrl")) as address:
        yield address


@pytest.mark.campaign
@pytest.mark.skipif(not PYTHON.is_file(), reason=REASON)
@pytest.mark.parametrize("file", ["paper-deepseek-v3.1.toml", "successors.toml"])
def test_studies_at_tinker(file: str, tinker: str, model: Path, tmp_path: Path) -> None:
    """The server has one base model, so every model of the study is that one; its adapters have rank 8."""
    entries = load_study(STUDIES / file).models
    args = {"base_url": tinker, "api_key": "tml-dummy"}
    swapped = tuple(entry.model_copy(update={"model": f"tinker:{model}", "args": {**entry.args, **args}}) for entry in entries)
    with services() as around:
        prepared = rehearse(file, tmp_path, around, ("vanilla", "conscious"), models=swapped, **small(file, rank=8, alpha=16))
        spent = held(prepared, tmp_path / "run", around)
    records = [json.loads(path.read_text()) for path in (tmp_path / "run" / "arms").glob("*/training.json")]
    assert len(records) == len(entries)
    assert all(record["remote"].startswith("tinker") or "tinker://" in record["remote"] for record in records)
    assert spent[TRAIN] == [None]  # no list has the price of this model, and nothing is not what it costs
