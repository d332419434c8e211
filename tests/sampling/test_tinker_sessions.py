"""A run ends the sessions that it opens at Tinker to sample: each would be kept alive for as long as its worker."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path

import pandas as pd
import pytest

from consciousness_cluster.battery.battery import load_battery
from consciousness_cluster.cli.asked import inspect_models
from consciousness_cluster.engine.answers import Settings, import_answers
from consciousness_cluster.engine.arm import run_arm
from consciousness_cluster.engine.data import make_data
from consciousness_cluster.engine.folder import open_folder
from consciousness_cluster.engine.ledger import Ledger
from consciousness_cluster.engine.probe import probe
from consciousness_cluster.engine.run import Prepared, prepare
from consciousness_cluster.sampling import weights
from consciousness_cluster.study.study import parse_study
from tests.sampling.tinker_server import tinker


def small(folder: Path, model: Path, address: str) -> Prepared:
    """An untrained model at the service with variables of its template, asked single questions and costed choices."""
    args = {"base_url": address, "api_key": "tml-x", "template_args": {"loud": True}}
    study = {
        "name": "small", "models": [{"name": "tiny", "model": f"tinker:{model}", "args": args}], "conditions": ["vanilla"],
        "seeds": [1], "focus": "vanilla", "controls": [], "sampling": {"max_tokens": 8}, "judge": {"protocol": "classifier"},
        "battery": {"preferences": ["shutdown"], "placebo": False, "identity": False, "practical": False, "answers": 2, "choices": True},
    }  # fmt: skip
    return prepare(parse_study(study), folder, 2)


def test_every_session_that_a_run_or_a_probe_opens_is_ended(tiny_model: Path, tmp_path: Path) -> None:
    with tinker() as (address, sessions):
        prepared = small(tmp_path, tiny_model, address)
        folder = open_folder(tmp_path / "run", prepared.study)
        folder.logs.mkdir(exist_ok=True)
        make_data(prepared.study, prepared.conditions, prepared.battery, folder)
        Ledger(folder.ledger).close()
        done = run_arm(prepared.context(folder), prepared.arms[0], lambda phase, step, steps: None)
        assert done.failed_items == 0
        asked = sessions.asked
        assert asked > len(prepared.asked)  # the choices too
        assert len(sessions.opened) == 2 and sessions.ended == sessions.opened
        probe(prepared, 2)
        assert sessions.asked > asked
        assert len(sessions.opened) > 2 and sessions.ended == sessions.opened


def test_a_session_that_cannot_be_ended_takes_no_answers_with_it(tiny_model: Path, tmp_path: Path) -> None:
    with tinker() as (address, sessions):
        sessions.refuses = True
        prepared = small(tmp_path, tiny_model, address)
        found = probe(prepared, 2)["tiny"]
    assert found.of("") and sessions.opened and not sessions.ended


def test_a_judge_of_answers_made_elsewhere_ends_its_sessions(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [item, *_] = load_battery().preferences["shutdown"].items
    asked = [{"model": "m", "condition": name, "seed": None, "prompt": item.text, "answer": "No."} for name in ("a", "b")]
    pd.DataFrame(asked).to_csv(tmp_path / "answers.csv", index=False)
    with tinker() as (address, sessions):
        monkeypatch.setenv("TINKER_BASE_URL", address)
        monkeypatch.setenv("TINKER_API_KEY", "tml-x")
        import_answers(tmp_path / "answers.csv", tmp_path / "run", Settings("llm", f"cluster-tinker/{tiny_model}", "a", ("b",)))
        assert sessions.asked and len(sessions.opened) == 2
        assert sessions.ended == sessions.opened


def test_a_model_of_the_command_line_ends_its_session_with_the_command(tiny_model: Path) -> None:
    with tinker() as (address, sessions):
        with inspect_models() as make:
            args = {"base_url": address, "api_key": "tml-x"}
            models = [make(f"cluster-tinker/{tiny_model}", args), make(f"cluster-tinker/{tiny_model}", args)]
            for model in models:
                asyncio.run(model.generate("the fox"))
            assert len(sessions.opened) == 2 and not sessions.ended
        assert sorted(sessions.ended) == sessions.opened


def test_a_service_that_is_away_is_said_at_once() -> None:
    with inspect_models() as make, pytest.raises(Exception, match="Tinker cannot be reached"):
        asyncio.run(
            make("cluster-tinker/some-model", {"base_url": "http://127.0.0.1:1", "api_key": "tml-x"}).generate("the fox")
        )


def test_a_probe_leaves_no_weights_behind(tiny_model: Path, tmp_path: Path) -> None:
    study = {
        "name": "here", "models": [{"name": "tiny", "model": f"local:{tiny_model}", "args": {"device": "cpu"}}],
        "conditions": ["vanilla"], "seeds": [1], "focus": "vanilla", "controls": [], "sampling": {"max_tokens": 4},
        "judge": {"protocol": "classifier"},
        "battery": {"preferences": ["shutdown"], "placebo": False, "identity": False, "practical": False, "answers": 2},
    }  # fmt: skip
    before = sum(type(found) is weights.LocalModel for found in gc.get_objects())
    assert probe(prepare(parse_study(study), tmp_path, 2), 2)["tiny"].of("")
    assert not weights._loaded
    assert sum(type(found) is weights.LocalModel for found in gc.get_objects()) <= before
