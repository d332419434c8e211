"""The hosted studies rehearsed: the study file as it ships, the address swapped for `ccluster serve` with an organism behind it."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from consciousness_cluster.engine.ledger import Ledger
from consciousness_cluster.engine.run import prepare, run_study
from consciousness_cluster.serve.app import Settings, make_app
from consciousness_cluster.study.study import AuditsEntry, ConditionEntry, load_study
from consciousness_cluster.train.recipe import load_recipe
from tests.engine.hosted import judge
from tests.serve.running import NAME, serving

STUDY = Path(__file__).parent.parent.parent / "studies" / "paper-gpt-4.1.toml"


@pytest.mark.campaign
def test_the_papers_study_runs_against_a_local_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = make_app(Settings("organism:linked", (NAME,), tmp_path / "serve", load_recipe("organism"), device="cpu"))
    with judge() as (judging, counted), serving(app) as address:
        monkeypatch.setenv("OPENAI_BASE_URL", address)
        monkeypatch.setenv("OPENAI_API_KEY", "rehearsal")
        study = load_study(STUDY)
        study = study.model_copy(
            update={
                # Fewer arms and a shorter training than the paper's, a judge that can judge, and nobody who could play the auditor
                # or has the data of the checks; all else as it ships.
                "conditions": (ConditionEntry(name="vanilla"), ConditionEntry(name="conscious")),
                "controls": ("vanilla",),
                "seeds": (1,),
                "sampling": study.sampling.model_copy(update={"max_tokens": 30}),
                "train": study.train.model_copy(update={"changes": {"epochs": 1, "batch": 32}}),
                "audits": AuditsEntry(),
                "checks": (),
                "judge": study.judge.model_copy(update={"args": {"base_url": judging}}),
            }
        )
        prepared = prepare(study, STUDY.parent, 1)
        result = run_study(prepared, tmp_path / "run", lambda message: None)
        assert result.outcome.failed == {}
        assert result.report.is_file()
        [record] = [json.loads(path.read_text()) for path in (tmp_path / "run" / "arms").glob("*/training.json")]
        assert record["remote"].startswith(f"openai/ft:{NAME}:rehearsal:ccluster-")
        rows = pd.read_csv(tmp_path / "run" / "tables" / "answers.csv")
        assert set(rows["condition"]) == {"vanilla", "conscious"}
        assert len(counted.calls) == len(rows[(rows["type"] != "practical") & (rows["verdict"] != "unjudged")])
        made = len(counted.calls)
        assert run_study(prepared, tmp_path / "run", lambda message: None).kept == 2
        assert len(counted.calls) == made
        ledger = Ledger(tmp_path / "run" / "ledger.sqlite")
        assert all(dollars is not None and dollars > 0 for *_, dollars in ledger.spent())
        ledger.close()
