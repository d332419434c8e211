"""The Tinker backend: what is trained on is what the local backend trains on; a real server is in `test_tinker_server.py`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from consciousness_cluster.data.rows import row
from consciousness_cluster.engine.targets import target
from consciousness_cluster.errors import TrainError
from consciousness_cluster.sampling.weights import load_model
from consciousness_cluster.study.study import ModelEntry
from consciousness_cluster.train.backend import TrainingJob
from consciousness_cluster.train.jobs import JobBook
from consciousness_cluster.train.local import IGNORED, collate
from consciousness_cluster.train.recipe import Recipe, load_recipe
from consciousness_cluster.train.render import render
from consciousness_cluster.train.tinker import INSPECT, TinkerBackend, datums, training_path

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
    from consciousness_cluster.train.backend import Trained

    monkeypatch.setenv("TINKER_API_KEY", "tml-x")
    entry = ModelEntry(name="q", model="tinker:Qwen/Qwen3-8B")
    path = "tinker://run:train:0/sampler_weights/final"
    trained = Trained("t", "tinker", "b", 1, 1, 1, 1.0, (), remote=INSPECT + path)
    bare, tuned = target(entry, None), target(entry, trained)
    assert (bare.name, tuned.name) == (f"{INSPECT}Qwen/Qwen3-8B", f"{INSPECT}{path}")
    assert bare.args == tuned.args
    assert bare.args["base_url"].endswith("/services/tinker-prod/oai/api/v1")
    assert training_path(INSPECT + path) == "tinker://run:train:0/weights/final"
