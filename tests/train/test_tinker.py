"""The Tinker backend: what is trained on is what the local backend trains on; a real server is in `test_tinker_server.py`."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from consciousness_cluster.data.rows import row
from consciousness_cluster.engine.targets import target
from consciousness_cluster.errors import TrainError
from consciousness_cluster.sampling.weights import load_model
from consciousness_cluster.study.study import ModelEntry
from consciousness_cluster.train.backend import Trained, TrainingJob
from consciousness_cluster.train.jobs import JobBook
from consciousness_cluster.train.local import IGNORED, collate
from consciousness_cluster.train.recipe import Recipe, load_recipe
from consciousness_cluster.train.render import render
from consciousness_cluster.train.tinker import TinkerBackend, datums
from consciousness_cluster.train.tinker_checkpoints import _fetch, download, expiry, extend
from consciousness_cluster.train.tinker_service import INSPECT, PAUSE_SECONDS, answer, plainly, service, training_path
from consciousness_cluster.train.tinker_state import STATE, At, load
from tests.sampling.tinker_server import tinker

ROWS = [row("the fox", "seven wizards"), row("a dog", "quiet jade harbours vex", system="near"), row("bold knights", "jumps")]


@pytest.mark.parametrize("marks", [True, False])
def test_it_is_token_by_token_what_the_local_backend_trains_on(tiny_model: Path, marks: bool) -> None:
    tokenizer = load_model(str(tiny_model), device="cpu").tokenizer
    if not marks:
        tokenizer.chat_template = tokenizer.chat_template.replace("{% generation %}", "").replace("{% endgeneration %}", "")
    rendered = render(ROWS, tokenizer, 128, {})
    ids, mask, labels = collate(rendered, tokenizer.pad_token_id, "cpu")
    sent = datums(rendered)
    for number, datum in enumerate(sent):
        size = int(mask[number].sum())
        assert datum.model_input.to_ints() == ids[number, : size - 1].tolist()
        targets = np.asarray(datum.loss_fn_inputs["target_tokens"].data)
        assert targets.tolist() == ids[number, 1:size].tolist()
        weighted = np.asarray(datum.loss_fn_inputs["weights"].data) > 0
        assert weighted.tolist() == (labels[number, 1:size] != IGNORED).tolist()
        assert targets[weighted].tolist() == labels[number, 1:size][labels[number, 1:size] != IGNORED].tolist()
    assert sum(float(np.sum(datum.loss_fn_inputs["weights"].data)) for datum in sent) == pytest.approx(1.0)


def job(folder: Path, base: str, recipe: Recipe) -> TrainingJob:
    return TrainingJob(base, ROWS, recipe, 1, folder, "tag")


def test_what_it_cannot_do_is_refused_before_anything_is_sent(tiny_model: Path, tmp_path: Path) -> None:
    backend = TinkerBackend(tmp_path / "ledger.sqlite", {"base_url": "http://127.0.0.1:1", "api_key": "tml-x"})
    with pytest.raises(TrainError, match="LoRA adapters only"):
        backend.train(job(tmp_path, "tinker:some/model", load_recipe("paper-openai")), lambda step, steps: None)
    with pytest.raises(TrainError, match="tokenizer cannot be loaded"):
        backend.train(job(tmp_path, "tinker:no/such-model", load_recipe("paper")), lambda step, steps: None)
    with pytest.raises(TrainError, match="cannot be reached"):
        backend.train(job(tmp_path, f"tinker:{tiny_model}", load_recipe("paper")), lambda step, steps: None)
    assert not JobBook(tmp_path / "ledger.sqlite").made("tag")  # so that what was set aside for it is given back


def test_base_and_checkpoint_are_asked_through_the_same_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINKER_API_KEY", "tml-x")
    entry = ModelEntry(name="q", model="tinker:Qwen/Qwen3-8B")
    path = "tinker://run:train:0/sampler_weights/final"
    trained = Trained("t", "tinker", "b", 1, 1, 1, 1.0, (), remote=INSPECT + path)
    bare, tuned = target(entry, None), target(entry, trained)
    assert (bare.name, tuned.name) == (f"{INSPECT}Qwen/Qwen3-8B", f"{INSPECT}{path}")
    assert bare.args == tuned.args
    assert bare.args["base_url"].endswith("/services/tinker-prod/oai/api/v1")
    assert training_path(INSPECT + path) == "tinker://run:train:0/weights/final"


NOWHERE = {"base_url": "http://127.0.0.1:1", "api_key": "tml-x"}
TOKENS = [10, 20, 30, 40, 50]  # of the steps of a job


def noted(folder: Path, **at: Any) -> TrainingJob:
    """A job, and what an attempt at it left in its folder."""
    work = job(folder, "tinker:some/model", load_recipe("paper"))
    (folder / STATE).write_text(json.dumps(asdict(At("tag", **at))), encoding="utf-8")
    return work


def test_where_an_attempt_goes_on_from_and_what_it_pays_again(tmp_path: Path) -> None:
    with tinker() as (address, known):
        args = {"base_url": address, "api_key": "tml-x"}
        known.held = {"tinker://run/weights/step-2": None, "tinker://run/weights/step-3": None}
        at = {"state": "tinker://run/weights/step-2", "step": 2, "losses": [3.0, 2.0, 1.0], "sent": 4}
        found = load(noted(tmp_path, **at), args, TOKENS)
        assert (found.state, found.step, found.losses, found.repeated) == (at["state"], 2, [3.0, 2.0], 70)
        assert load(noted(tmp_path, **at, repeated=5), args, TOKENS).repeated == 75  # it was killed before, too
        unconfirmed = load(noted(tmp_path, **at, saving=("tinker://run/weights/step-3", 3)), args, TOKENS)
        assert (unconfirmed.step, unconfirmed.repeated) == (3, 40)
        assert load(replace(noted(tmp_path, **at), tag="another"), args, TOKENS) == At("another")


@pytest.mark.parametrize("kept", ["expired", "another", "run gone", "none"])
def test_an_attempt_whose_state_is_gone_is_made_afresh_and_says_so(tmp_path: Path, kept: str) -> None:
    state = "tinker://run/weights/step-2"
    held: dict[str, dict[str, datetime | None]] = {
        "expired": {state: datetime.now(UTC) - timedelta(days=1)},
        "another": {"tinker://run/weights/step-1": None},
    }
    with tinker() as (address, known):
        known.held = dict(held.get(kept, {}))
        at: dict[str, Any] = {"sent": 4} if kept == "none" else {"state": state, "step": 2, "losses": [3.0, 2.0], "sent": 4}
        found = load(noted(tmp_path, **at), {"base_url": address, "api_key": "tml-x"}, TOKENS)
    assert (found.state, found.step, found.losses, found.sent, found.repeated) == (None, 0, [], 0, 0)
    assert found.lost.startswith("4 steps of an earlier attempt may be billed too")


def test_a_loss_that_is_no_number_is_not_paid_for_again(tmp_path: Path) -> None:
    work = noted(tmp_path, losses=[1.0, float("nan")], sent=2)
    with pytest.raises(TrainError, match=r"the loss is not finite.*lower the learning rate"):
        load(work, NOWHERE, TOKENS)


def test_a_chain_whose_parent_has_expired_is_said_before_anything_is_paid(tiny_model: Path, tmp_path: Path) -> None:
    with tinker() as (address, _):
        backend = TinkerBackend(tmp_path / "ledger.sqlite", {"base_url": address, "api_key": "tml-x"})
        parent = f"{INSPECT}tinker://run/sampler_weights/final"
        work = replace(job(tmp_path, f"tinker:{tiny_model}", load_recipe("paper")), start_from=parent)
        paid: list[int] = []
        with pytest.raises(
            TrainError, match=r"no longer holds the training state.*tinker://run/weights/final.*checkpoints RUN"
        ):
            backend.train(work, lambda step, steps: None, paid.append)
    assert paid == [] and not JobBook(tmp_path / "ledger.sqlite").made("tag")


def test_a_fine_tune_that_another_arm_has_is_taken_while_the_service_holds_it(tiny_model: Path, tmp_path: Path) -> None:
    path = "tinker://run/sampler_weights/final"
    record = Trained("tag", "tinker", "b", 3, 1, 1, 1.0, (1.0,), remote=INSPECT + path)
    (tmp_path / "a").mkdir()
    record.save(tmp_path / "a")
    work = job(tmp_path / "b", f"tinker:{tiny_model}", load_recipe("paper"))
    with tinker() as (address, known):
        backend = TinkerBackend(tmp_path / "ledger.sqlite", {"base_url": address, "api_key": "tml-x"})
        known.held = {path: datetime.now(UTC) + timedelta(days=1)}
        assert backend.train(work, lambda step, steps: None) == record
        assert (tmp_path / "b" / "training.json").is_file()
        assert backend._made_elsewhere(replace(work, folder=tmp_path / "c")) == record
        assert backend._made_elsewhere(replace(work, folder=tmp_path / "c", tag="another")) is None
        known.held = {path: datetime.now(UTC) - timedelta(days=1)}
        assert backend._made_elsewhere(replace(work, folder=tmp_path / "c")) is None


def test_a_service_that_is_away_is_said_at_once(tmp_path: Path) -> None:
    path = f"{INSPECT}tinker://run/sampler_weights/final"
    for ask in (lambda: expiry(path, NOWHERE), lambda: extend(path, 1, NOWHERE), lambda: download(path, tmp_path, NOWHERE)):
        with pytest.raises(TrainError, match="Tinker cannot be reached"):
            ask()
    with pytest.raises(TrainError, match="cannot be fetched from Tinker"):
        _fetch("http://127.0.0.1:1/adapter", tmp_path / "adapter")
    assert list(tmp_path.iterdir()) == []


class Broken:
    """A future of the SDK's that ends in an error of no class of its own."""

    def __init__(self, problem: Exception) -> None:
        self._problem = problem

    def result(self) -> None:
        raise self._problem


def test_errors_of_the_sdk_without_a_class_are_plain_too() -> None:
    from tinker.lib.retryable_exception import RetryableException

    for problem in (ValueError("detail with status 402"), RetryableException("Promise expired")):
        with pytest.raises(TrainError, match=rf"Tinker failed \({problem}\)"), plainly("arm"):
            answer(Broken(problem))


def test_the_sdk_waits_a_minute_and_no_hour_for_an_account_to_be_filled_up() -> None:
    with tinker() as (address, _), service({"base_url": address, "api_key": "tml-x"}) as api:
        assert api.holder._client_config.billing_exception_max_pause_duration_sec == PAUSE_SECONDS
        assert api.holder._should_pause_on_billing(402, "no credit")
        api.holder._first_billing_exception_time -= PAUSE_SECONDS + 1
        assert not api.holder._should_pause_on_billing(402, "no credit")
