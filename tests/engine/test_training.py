"""A training that its backend cannot do: refused by the plan and by a run before anything is made or spent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from consciousness_cluster.engine.addresses import trained_at
from consciousness_cluster.engine.plan import make_plan
from consciousness_cluster.engine.run import prepare, run_study
from consciousness_cluster.engine.training import check_training
from consciousness_cluster.errors import TrainError
from consciousness_cluster.study.study import ModelEntry, Study, parse_study
from tests.engine.test_plan import TODAY

HOSTED: dict[str, Any] = {"name": "m", "model": "openai/gpt-4.1-2025-04-14", "args": {"api_key": "k"}}
TINKER: dict[str, Any] = {"name": "m", "model": "tinker:Qwen/Qwen3-8B", "args": {"api_key": "k"}}


def study(model: dict[str, Any], recipe: str) -> Study:
    return parse_study(
        {
            "name": "training", "models": [model], "conditions": ["vanilla", "conscious"], "seeds": [1], "controls": ["vanilla"],
            "train": {"recipe": recipe}, "judge": {"protocol": "classifier"},
        }
    )  # fmt: skip


def living(days: Any) -> dict[str, Any]:
    return {**TINKER, "args": {"api_key": "k", "ttl_days": days}}


@pytest.mark.parametrize(
    ("model", "recipe", "says"),
    [
        (HOSTED, "paper", "backend openai, which does not take a recipe of the method lora; .*allowed: paper-openai"),
        (
            TINKER,
            "paper-openai",
            "backend tinker, which does not take a recipe of the method hosted; .*allowed: organism, paper;",
        ),
        ({**TINKER, "train": {"method": "full"}}, "paper", "the method full"),
        ({"name": "m", "model": "organism:linked"}, "paper-openai", "backend local, which does not take"),
        (living("30"), "paper", "models.args.ttl_days: is no lifetime"),
        (living(True), "paper", "models.args.ttl_days: is no lifetime"),
        (living(0.01), "paper", "models.args.ttl_days: is no lifetime"),
        (living(4000), "paper", "models.args.ttl_days: is no lifetime"),
        (living(float("nan")), "paper", "models.args.ttl_days: is no lifetime"),
    ],
)
def test_what_a_backend_does_not_do_is_refused(model: dict[str, Any], recipe: str, says: str) -> None:
    with pytest.raises(TrainError, match=says):
        check_training(study(model, recipe), trains={"m"})


def test_what_a_backend_does_is_let_through() -> None:
    check_training(study(HOSTED, "paper-openai"), trains={"m"})
    check_training(study({**HOSTED, "train": {"method": "hosted"}}, "paper"), trains={"m"})
    for days in (1, 0.5, 3650):
        check_training(study(living(days), "paper"), trains={"m"})
    check_training(study(HOSTED, "paper"), trains=())  # it is only asked


def test_plan_and_run_say_so_before_anything_is_made(tmp_path: Path) -> None:
    prepared = prepare(study(living("30"), "paper"), tmp_path, 1)
    assert any("ttl_days" in problem for problem in make_plan(prepared, None, TODAY).problems)
    with pytest.raises(TrainError, match="ttl_days"):
        run_study(prepared, tmp_path / "run", lambda message: None)
    assert not (tmp_path / "run").exists()


def test_a_fine_tune_of_another_address_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_BASE_URL", "TINKER_BASE_URL", "INSPECT_EVAL_MODEL_BASE_URL"):
        monkeypatch.setenv(name, "")

    def at(args: dict[str, Any], model: str = HOSTED["model"]) -> str | None:
        return trained_at(ModelEntry(name="m", model=model, args=args))

    assert at({}) is at({"base_url": "https://api.openai.com/v1/"}) is None  # as runs of before
    assert at({"base_url": "http://127.0.0.1:8000/v1"}) == "http://127.0.0.1:8000/v1"
    assert at({"base_url": "http://127.0.0.1:8000/v1"}, "organism:linked") is None  # trained here, wherever it is served
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1")
    assert at({}) == at({"base_url": ""}) == "http://127.0.0.1:8000/v1"
    assert at({"base_url": "https://api.openai.com/v1"}) is None
