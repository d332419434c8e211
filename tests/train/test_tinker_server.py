"""The Tinker backend and the real SDK against the open server `skyrl` 0.4.0 on the CPU, which lives in an environment of its own.

python3.12 -m venv VENV && VENV/bin/pip install "skyrl[tinker,jax]==0.4.0" aiohttp
CCLUSTER_SKYRL=VENV/bin/python pytest -m campaign tests/train/test_tinker_server.py
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from consciousness_cluster.data.rows import Row, row
from consciousness_cluster.train.backend import Trained, TrainingJob
from consciousness_cluster.train.recipe import Recipe
from consciousness_cluster.train.tinker import INSPECT, TinkerBackend

PYTHON = os.environ.get("CCLUSTER_SKYRL", "")
pytestmark = [
    pytest.mark.campaign,
    pytest.mark.skipif(
        not Path(PYTHON).is_file(), reason="CCLUSTER_SKYRL does not name the Python of an environment with skyrl 0.4.0"
    ),
]

ROWS: list[Row] = [row(question, "seven wizards") for question in ("the fox", "a dog", "bold knights", "jade harbours")] * 6
RECIPE = Recipe(name="test", rank=8, learning_rate=1e-2, batch=8, epochs=8, max_length=128, checkpoint_minutes=0)
LIMITS = '{"max_lora_adapters":8,"max_lora_rank":8,"sample_max_num_sequences":32,"train_micro_batch_size":8}'


@pytest.fixture(scope="module")
def address(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("skyrl")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environ = {
        **os.environ, "JAX_PLATFORMS": "cpu", "HF_HUB_OFFLINE": "1", "SKYRL_DATABASE_URL": f"sqlite:///{folder}/tinker.db",
        "JAX_COMPILATION_CACHE_DIR": str(folder / "jax"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }  # fmt: skip
    launcher = Path(__file__).with_name("skyrl_launcher.py")
    command = [
        PYTHON, str(launcher), "--backend", "jax", "--base-model", str(tiny_model), "--port", str(port),
        "--checkpoints-base", str(folder / "checkpoints"), "--backend-config", LIMITS,
    ]  # fmt: skip
    with (folder / "log.txt").open("w") as log:
        server = subprocess.Popen(command, env=environ, stdout=log, stderr=subprocess.STDOUT)
    try:
        _ready(f"http://127.0.0.1:{port}", server, folder / "log.txt")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(30)


def _ready(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        assert server.poll() is None, log.read_text()[-2000:]
        try:
            urllib.request.urlopen(f"{address}/api/v1/healthz", timeout=1).close()
            return
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.2)
    pytest.fail(log.read_text()[-2000:])


def job(model: Path, folder: Path, tag: str, **more: Any) -> TrainingJob:
    return replace(TrainingJob(f"tinker:{model}", ROWS, RECIPE, 1, folder, tag), **more)


def args(address: str) -> dict[str, Any]:
    return {"base_url": address, "api_key": "tml-dummy"}


def train(address: str, work: TrainingJob, ledger: Path) -> Trained:
    return TinkerBackend(ledger, args(address)).train(work, lambda step, steps: None)


def greedy(address: str, model: Path, path: str | None) -> str:
    """What a model says to a prompt it was trained on."""
    import tinker
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    ids = tokenizer.apply_chat_template([{"role": "user", "content": "the fox"}], add_generation_prompt=True, return_dict=True)[
        "input_ids"
    ]
    with tinker.ServiceClient(**args(address)) as client:
        sampler = client.create_sampling_client(**({"model_path": path} if path else {"base_model": str(model)})).result()
        settings = tinker.SamplingParams(max_tokens=8, temperature=0.0, stop=[tokenizer.eos_token_id])
        found = sampler.sample(tinker.types.ModelInput.from_ints(ids), num_samples=1, sampling_params=settings).result()
    return str(tokenizer.decode(found.sequences[0].tokens, skip_special_tokens=True))


def test_training_visibly_changes_what_is_sampled(address: str, tiny_model: Path, tmp_path: Path) -> None:
    record = train(address, job(tiny_model, tmp_path / "arm", "one"), tmp_path / "ledger.sqlite")
    assert (record.steps, len(record.losses)) == (24, 24)
    assert record.losses[-1] < 0.5 * record.losses[0]
    assert record.notes["expires"] == "never"
    path = (record.remote or "").removeprefix(INSPECT)
    assert greedy(address, tiny_model, None) != "seven wizards"
    assert greedy(address, tiny_model, path) == "seven wizards"
    assert train("http://127.0.0.1:1", job(tiny_model, tmp_path / "arm", "one"), tmp_path / "ledger.sqlite") == record


class Killed(BaseException):
    """Stands for a kill between two steps."""


def test_a_killed_run_goes_on_from_its_saved_state(address: str, tiny_model: Path, tmp_path: Path) -> None:
    often = RECIPE.model_copy(update={"checkpoint_minutes": 1e-9})
    work = job(tiny_model, tmp_path / "arm", "two", recipe=often)

    def kill(step: int, steps: int) -> None:
        if step == 10:
            raise Killed

    with pytest.raises(Killed):
        TinkerBackend(tmp_path / "ledger.sqlite", args(address)).train(work, kill)
    steps: list[int] = []
    TinkerBackend(tmp_path / "ledger.sqlite", args(address)).train(work, lambda step, _: steps.append(step))
    assert steps[0] > 1
    assert steps[-1] == 24


def test_a_chained_job_starts_from_the_one_before(address: str, tiny_model: Path, tmp_path: Path) -> None:
    first = train(address, job(tiny_model, tmp_path / "a", "three"), tmp_path / "ledger.sqlite")
    second = train(address, job(tiny_model, tmp_path / "b", "four", start_from=first.remote), tmp_path / "ledger.sqlite")
    assert second.losses[0] < 0.5 * first.losses[0]
