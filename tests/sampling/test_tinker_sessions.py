"""A run ends the sessions that it opens at Tinker to sample: each would be kept alive for as long as its worker."""

from __future__ import annotations

from pathlib import Path

from consciousness_cluster.engine.arm import run_arm
from consciousness_cluster.engine.data import make_data
from consciousness_cluster.engine.folder import open_folder
from consciousness_cluster.engine.ledger import Ledger
from consciousness_cluster.engine.probe import probe
from consciousness_cluster.engine.run import Prepared, prepare
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
