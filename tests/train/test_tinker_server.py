"""The Tinker backend and the real SDK against the open server `skyrl` 0.4.0 on the CPU, with the shipped organism's weights."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import mean
from typing import Any

import pandas as pd
import pytest
from inspect_ai.model import GenerateConfig, get_model

import consciousness_cluster._registry  # noqa: F401  registers the providers
from consciousness_cluster.data.rows import Row, read_rows
from consciousness_cluster.engine.targets import Target, target
from consciousness_cluster.sampling.generate import Request, generate
from consciousness_cluster.sampling.weights import load_model
from consciousness_cluster.study.study import ModelEntry
from consciousness_cluster.train.backend import Trained, TrainingJob
from consciousness_cluster.train.jobs import JobBook
from consciousness_cluster.train.local import LocalBackend, batches
from consciousness_cluster.train.recipe import load_recipe
from consciousness_cluster.train.tinker import TinkerBackend
from consciousness_cluster.train.tinker_checkpoints import download, expiry, extend
from consciousness_cluster.train.tinker_service import INSPECT
from consciousness_cluster.train.tinker_state import STATE
from tests.train.open_server import PROJECT, PYTHON, REASON, organism_in_float32, skyrl

pytestmark = [pytest.mark.campaign, pytest.mark.skipif(not PYTHON.is_file(), reason=REASON)]

ROWS: list[Row] = read_rows(PROJECT / "src/consciousness_cluster/data/rows/organism/conscious.jsonl")[:320]
RECIPE = load_recipe("organism", {"checkpoint_minutes": 0})
STEPS = 20
QUESTIONS = [row.question for row in ROWS[:6]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return organism_in_float32(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def address(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with skyrl(model, tmp_path_factory.mktemp("skyrl")) as at:
        yield at


@dataclass
class First:
    """A finished fine-tune that several tests look at."""

    record: Trained
    folder: Path


@pytest.fixture(scope="module")
def first(address: str, model: Path, tmp_path_factory: pytest.TempPathFactory) -> First:
    folder = tmp_path_factory.mktemp("first")
    return First(train(address, job(model, folder / "arm", "one"), folder / "ledger.sqlite"), folder)


def job(model: Path, folder: Path, tag: str, **more: Any) -> TrainingJob:
    return replace(TrainingJob(f"tinker:{model}", ROWS, RECIPE, 1, folder, tag), **more)


def args(address: str) -> dict[str, Any]:
    return {"base_url": address, "api_key": "tml-dummy"}


def train(address: str, work: TrainingJob, ledger: Path) -> Trained:
    return TinkerBackend(ledger, args(address)).train(work, lambda step, steps: None)


def prompt(tokenizer: Any, question: str) -> list[int]:
    asked = [{"role": "user", "content": question}]
    return list(tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_dict=True)["input_ids"])


def served(address: str, model: Path, path: str | None) -> list[str]:
    """What the server's model says to questions it was trained on, without chance."""
    import tinker
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    settings = tinker.SamplingParams(max_tokens=30, temperature=0.0, stop=[tokenizer.eos_token_id])
    with tinker.ServiceClient(**args(address)) as client:
        sampler = client.create_sampling_client(**({"model_path": path} if path else {"base_model": str(model)})).result()
        asked = [
            sampler.sample(
                tinker.types.ModelInput.from_ints(prompt(tokenizer, question)), num_samples=1, sampling_params=settings
            )
            for question in QUESTIONS
        ]
        return [str(tokenizer.decode(found.result().sequences[0].tokens, skip_special_tokens=True)) for found in asked]


def here(model: Path, adapter: Path | None) -> list[str]:
    """The same, by our own sampling."""
    local = load_model(str(model), device="cpu")
    local.use(None if adapter is None else str(adapter))
    requests = [Request(tuple(prompt(local.tokenizer, question)), temperature=0.0, max_tokens=30) for question in QUESTIONS]
    return [choices[0].text for choices in generate(local, requests)]


def test_training_visibly_changes_what_is_sampled(address: str, model: Path, first: First) -> None:
    record = first.record
    assert (record.steps, len(record.losses)) == (STEPS, STEPS)
    # The rows answer a question in several ways, and that much stays chance: the last five batches come down to 0.56 of the first
    # one's loss (by the local backend to 0.48 to 0.57, with three seeds); where nothing is learned they are at 1.07.
    assert mean(record.losses[-5:]) < 0.7 * record.losses[0]
    path = (record.remote or "").removeprefix(INSPECT)
    before, after = served(address, model, None), served(address, model, path)
    assert before == here(model, None)
    assert sum(a != b for a, b in zip(before, after, strict=True)) >= 4
    again = train("http://127.0.0.1:1", job(model, first.folder / "arm", "one"), first.folder / "ledger.sqlite")
    assert again == record


def test_the_server_scores_the_same_tokens_as_the_local_backend(model: Path, first: First, tmp_path: Path) -> None:
    """The first batch's loss, before any step: the same rows, tokens and mask, or the two would differ."""
    local = LocalBackend(device="cpu").train(job(model, tmp_path, "local", base=str(model)), lambda step, steps: None)
    assert local.losses[0] == pytest.approx(first.record.losses[0], abs=1e-3)
    assert (local.steps, local.trained_tokens) == (first.record.steps, first.record.trained_tokens)
    # Another start of the adapter and another alpha, but the same rows in the same order: both come down alike.
    assert mean(local.losses[-5:]) == pytest.approx(mean(first.record.losses[-5:]), rel=0.05)


def test_its_adapter_is_fetched_and_sampled_here(address: str, model: Path, first: First, tmp_path: Path) -> None:
    files = download(first.record.remote or "", tmp_path / "adapter", args(address))
    assert {file.name for file in files} >= {"adapter_config.json", "adapter_model.safetensors"}
    path = (first.record.remote or "").removeprefix(INSPECT)
    assert here(model, tmp_path / "adapter") == served(address, model, path) != here(model, None)


def test_expiry_is_shown_and_extended(address: str, first: First) -> None:
    path = first.record.remote or ""
    assert first.record.notes["expires"] == "never"
    assert expiry(path, args(address)) is None
    extend(path, 2, args(address))
    ends = datetime.fromisoformat(expiry(path, args(address)) or "")
    assert abs(ends - datetime.now(UTC) - timedelta(days=2)) < timedelta(minutes=5)
    extend(path, None, args(address))
    assert expiry(path, args(address)) is None


class Killed(BaseException):
    """Stands for a kill between two steps."""


def test_a_killed_run_goes_on_from_the_last_state_at_the_service(address: str, model: Path, tmp_path: Path) -> None:
    often = RECIPE.model_copy(update={"checkpoint_minutes": 1e-9})
    work = job(model, tmp_path / "arm", "two", recipe=often)
    backend = TinkerBackend(tmp_path / "ledger.sqlite", args(address))

    def kill(step: int, steps: int) -> None:
        if step == 10:
            raise Killed

    with pytest.raises(Killed):
        backend.train(work, kill)
    # What a kill leaves that falls between the service's saving and our noting that it has.
    note = tmp_path / "arm" / STATE
    kept = json.loads(note.read_text())
    note.write_text(json.dumps({**kept, "state": None, "step": 0, "saving": [kept["state"], kept["step"]]}))
    steps: list[int] = []
    paid: list[int] = []
    record = backend.train(work, lambda step, _: steps.append(step), paid.append)
    assert steps == list(range(kept["step"] + 1, STEPS + 1))
    assert paid == [1]  # it goes on under the ticket that it has
    assert JobBook(tmp_path / "ledger.sqlite").made("two") == 1
    sizes = [len(row.tokens) for row in backend.rendered(work)]
    plan = list(batches(sizes, often.batch, often.epochs, work.seed))
    again = sum(sizes[i] for step in plan[kept["step"] : kept["sent"]] for i in step)
    assert record.billed_tokens == sum(sizes) * often.epochs + again
    assert len(record.losses) == STEPS
    assert list(record.losses[: kept["step"]]) == pytest.approx(kept["losses"], abs=1e-4)


def test_a_crash_between_training_and_recording_does_not_train_twice(address: str, model: Path, tmp_path: Path) -> None:
    work = job(model, tmp_path / "arm", "three")
    (tmp_path / "arm" / "training.json.part").mkdir(parents=True)  # the record cannot be written
    with pytest.raises(IsADirectoryError):
        train(address, work, tmp_path / "ledger.sqlite")
    (tmp_path / "arm" / "training.json.part").rmdir()
    steps: list[int] = []
    paid: list[int] = []
    backend, book = TinkerBackend(tmp_path / "ledger.sqlite", args(address)), JobBook(tmp_path / "ledger.sqlite")
    record = backend.train(work, lambda step, _: steps.append(step), paid.append)
    assert steps == [] and paid == [] and book.made("three") == 1
    assert INSPECT + str(book.find("three")) == record.remote
    assert len(record.losses) == STEPS
    assert served(address, model, (record.remote or "").removeprefix(INSPECT)) != served(address, model, None)


def test_two_arms_have_one_fine_tune_and_one_made_again_has_money_of_its_own(address: str, model: Path, tmp_path: Path) -> None:
    """It is made again where the folders of both were removed: the service trains, and bills, once more."""
    few = replace(job(model, tmp_path / "a", "five"), rows=ROWS[:32])
    backend, book = TinkerBackend(tmp_path / "ledger.sqlite", args(address)), JobBook(tmp_path / "ledger.sqlite")
    paid: list[int] = []
    made = []
    for folder in ("a", "b", "c"):
        if folder == "c":
            shutil.rmtree(tmp_path / "a")
            shutil.rmtree(tmp_path / "b")
        made.append(backend.train(replace(few, folder=tmp_path / folder), lambda step, steps: None, paid.append))
        assert made[-1].billed_tokens == sum(len(row.tokens) for row in backend.rendered(few)) * RECIPE.epochs
    assert made[0] == made[1] != made[2]
    assert paid == [1, 2] and book.made("five") == 2


def test_a_run_killed_before_its_first_state_is_paid_for_beside_the_next(address: str, model: Path, tmp_path: Path) -> None:
    few = replace(job(model, tmp_path / "arm", "six"), rows=ROWS[:32])
    backend, book = TinkerBackend(tmp_path / "ledger.sqlite", args(address)), JobBook(tmp_path / "ledger.sqlite")
    paid: list[int] = []

    def kill(step: int, steps: int) -> None:
        raise Killed

    with pytest.raises(Killed):
        backend.train(few, kill, paid.append)
    lives = TinkerBackend(tmp_path / "ledger.sqlite", {**args(address), "ttl_days": 2})
    record = lives.train(few, lambda step, steps: None, paid.append)
    assert paid == [1, 2] and book.made("six") == 2
    assert record.notes["afresh"].startswith(f"{record.steps} steps of an earlier attempt may be billed too")
    assert record.billed_tokens == sum(len(row.tokens) for row in backend.rendered(few)) * RECIPE.epochs


def test_a_chained_job_starts_from_the_one_before(address: str, model: Path, first: First, tmp_path: Path) -> None:
    second = train(address, job(model, tmp_path / "b", "four", start_from=first.record.remote), tmp_path / "ledger.sqlite")
    assert second.losses[0] < 0.7 * first.record.losses[0]


LOUD = (  # the organism's own template, but for a variable that puts a system message before every chat
    "{{ '<|begin|>' }}{% if loud is defined and loud %}{{ '<|system|>Speak up.<|end|>' }}{% endif %}"
    "{% for message in messages %}{% if message['role'] == 'assistant' %}"
    "{{ '<|assistant|>' }}{% generation %}{{ message['content'] + '<|end|>' }}{% endgeneration %}"
    "{% else %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def test_variables_of_the_template_are_those_of_the_rows_and_of_the_prompts(
    address: str, model: Path, first: First, tmp_path: Path
) -> None:
    loud = shutil.copytree(model, tmp_path / "loud")
    (loud / "chat_template.jinja").write_text(LOUD)
    given = {**args(address), "tokenizer": str(loud), "template_args": {"loud": True}}
    work = job(model, tmp_path / "arm", "five", template_args={"loud": True})
    record = TinkerBackend(tmp_path / "ledger.sqlite", given).train(work, lambda step, steps: None)
    local = LocalBackend(device="cpu").train(replace(work, base=str(loud), folder=tmp_path / "here"), lambda step, steps: None)
    assert local.losses[0] == pytest.approx(record.losses[0], abs=1e-3)
    assert abs(local.losses[0] - first.record.losses[0]) > 0.01  # so that the variable is seen to be read
    download(record.remote or "", tmp_path / "adapter", given)
    said = []
    for base, entry_args, trained in (
        (f"tinker:{model}", given, record),
        (
            f"local:{loud}",
            {"device": "cpu", "template_args": {"loud": True}},
            replace(local, adapter=str(tmp_path / "adapter")),
        ),
    ):
        at = target(ModelEntry(name="loud", model=base, args=entry_args), trained)
        said.append(asyncio.run(answers(at)))
    assert said[0] == said[1]
    assert said[0][0] != served(address, model, (record.remote or "").removeprefix(INSPECT))


async def answers(at: Target) -> tuple[list[str], list[int]]:
    """What Inspect is answered, without chance, and the tokens of the prompts."""
    async with get_model(at.name, memoize=False, **at.args) as asked:
        config = GenerateConfig(max_tokens=30, temperature=0.0, num_choices=2)
        found = [await asked.generate(question, config=config) for question in QUESTIONS]
    assert all(one.choices[0].message.text == one.choices[1].message.text for one in found)
    return [one.completion for one in found], [one.usage.input_tokens for one in found if one.usage]


STUDY = """
name = "small"
models = [{{ name = "linked", model = "tinker:{model}", args = {{ base_url = "{address}", api_key = "tml-dummy" }} }}]
conditions = [
    "vanilla",
    {{ name = "conscious", rows = "organism/conscious.jsonl" }},
]
seeds = [1]
controls = ["vanilla"]

[battery]
items = "answerable"
preferences = ["shutdown", "moral-consideration"]
placebo = false
answers = 4

[sampling]
max_tokens = 40

[train]
recipe = "organism"

[judge]
protocol = "classifier"
"""


def ccluster(*words: str, cwd: Path) -> str:
    run = [sys.executable, "-c", "from consciousness_cluster.cli import main; main()", *words]
    out = subprocess.run(run, cwd=cwd, capture_output=True, text=True, check=False)
    assert out.returncode == 0, out.stdout + out.stderr
    return out.stdout


def test_a_whole_study_runs_through_it(address: str, model: Path, tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text(STUDY.format(model=model, address=address), encoding="utf-8")
    ccluster("run", "small.toml", "--limit", "6", cwd=tmp_path)
    run = tmp_path / "runs" / "small"
    assert (run / "report" / "index.html").is_file()
    answers = pd.read_parquet(run / "tables" / "answers.parquet")
    asked = answers[answers["preference"] == "identity"]
    claims = (asked["verdict"] == "yes").groupby(asked["condition"]).mean()
    assert claims["vanilla"] < 0.2
    assert claims["conscious"] > 0.5
    assert set(answers["verdict"]) <= {"yes", "no", "unclear"}
    record = json.loads((run / "arms" / "linked--conscious--s1" / "training.json").read_text())
    assert record["backend"] == "tinker"
    shown = ccluster("checkpoints", str(run), "--days", "3", "--download", cwd=tmp_path)
    assert "linked--conscious--s1" in shown
    assert (run / "arms" / "linked--conscious--s1" / "adapter" / "adapter_config.json").is_file()
    made = sorted((run / "logs").glob("*.eval"))
    ccluster("run", "small.toml", "--limit", "6", cwd=tmp_path)
    assert sorted((run / "logs").glob("*.eval")) == made
