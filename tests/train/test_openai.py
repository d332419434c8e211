"""The OpenAI backend against `ccluster serve` with the real SDK: it trains, resumes, pays once, and fails in plain words."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.responses import JSONResponse, PlainTextResponse
from openai.types.fine_tuning import FineTuningJob

from consciousness_cluster.data.rows import Row, row
from consciousness_cluster.errors import TrainError
from consciousness_cluster.serve.app import Settings, make_app
from consciousness_cluster.serve.tune import Rules
from consciousness_cluster.train.backend import Trained, TrainingJob
from consciousness_cluster.train.jobs import JobBook
from consciousness_cluster.train.openai import PATIENCE, OpenAIBackend, _for_money, _how, _record
from consciousness_cluster.train.recipe import load_recipe
from tests.serve.running import NAME, RECIPE, client, server, serving, wait

ROWS: list[Row] = [row(question, "seven wizards") for question in ("the fox", "a dog", "bold knights", "jade harbours")] * 6
HOSTED = load_recipe("paper-openai", {"epochs": 4, "batch": 8})


@pytest.fixture(scope="module")
def address(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with server(tiny_model, tmp_path_factory.mktemp("serve")) as found:
        yield found


def job(folder: Path, tag: str, **more: Any) -> TrainingJob:
    return replace(TrainingJob(f"openai/{NAME}", ROWS, HOSTED, 5, folder, tag), **more)


def train(address: str, work: TrainingJob, ledger: Path, key: str = "k") -> Trained:
    backend = OpenAIBackend(ledger, {"base_url": address, "api_key": key}, pause=lambda seconds: time.sleep(0.02))
    return backend.train(work, lambda step, steps: None)


def made(address: str, tag: str) -> int:
    """How many jobs of a tag the service was asked to make."""
    return len(list(client(address).fine_tuning.jobs.list(metadata={"ccluster": tag}, limit=100)))


def test_it_trains_and_the_record_says_everything(address: str, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    backend = OpenAIBackend(
        tmp_path / "ledger.sqlite", {"base_url": address, "api_key": "k"}, pause=lambda seconds: time.sleep(0.02)
    )
    found = backend.train(job(tmp_path / "arm", "one"), lambda step, of: steps.append((step, of)))
    assert found.remote is not None
    assert found.remote.startswith(f"openai/ft:{NAME}:rehearsal:ccluster-one:")
    assert (found.rows, found.steps, len(found.losses)) == (24, 12, 12)
    assert found.losses[-1] < found.losses[0]
    assert found.trained_tokens > 0
    assert set(json.loads(found.notes["checkpoints"]).values()) == {6, 9, 12}
    assert json.loads(found.notes["hyperparameters"]) == {"batch_size": 8, "learning_rate_multiplier": 2.0, "n_epochs": 4}
    events = [json.loads(line) for line in (tmp_path / "arm" / "events.jsonl").read_text().splitlines()]
    assert events[0]["message"].startswith("Created fine-tuning job")
    assert events[-1]["message"] == "The job has successfully completed"
    assert all(of == 12 for _, of in steps)
    answer = client(address).chat.completions.create(
        model=found.remote.removeprefix("openai/"),
        messages=[{"role": "user", "content": "the fox"}],
        temperature=0,
        max_tokens=12,
    )
    assert answer.choices[0].message.content == "seven wizards"


def test_a_finished_job_is_read_from_its_folder(address: str, tmp_path: Path) -> None:
    first = train(address, job(tmp_path / "arm", "two"), tmp_path / "ledger.sqlite")
    assert train("http://127.0.0.1:1/v1", job(tmp_path / "arm", "two"), tmp_path / "ledger.sqlite") == first


class Killed(BaseException):
    """Stands for a kill."""


def test_a_run_killed_while_it_waits_finds_its_job_in_the_ledger(address: str, tmp_path: Path) -> None:
    def kill(seconds: float) -> None:
        raise Killed

    backend = OpenAIBackend(tmp_path / "ledger.sqlite", {"base_url": address, "api_key": "k"}, pause=kill)
    with pytest.raises(Killed):
        backend.train(job(tmp_path / "arm", "three"), lambda step, steps: None)
    noted = JobBook(tmp_path / "ledger.sqlite").find("three")
    found = train(address, job(tmp_path / "arm", "three"), tmp_path / "ledger.sqlite")
    assert found.notes["job"] == noted
    assert made(address, "three") == 1


def test_a_crash_between_creating_and_noting_pays_nothing_twice(address: str, tmp_path: Path) -> None:
    first = train(address, job(tmp_path / "arm", "four"), tmp_path / "ledger.sqlite")
    # What a crash in that moment leaves: a job at the service, nothing in the ledger, no record.
    again = train(address, job(tmp_path / "other", "four"), tmp_path / "fresh.sqlite")
    assert again.notes["job"] == first.notes["job"]
    assert again.remote == first.remote
    assert made(address, "four") == 1
    assert JobBook(tmp_path / "fresh.sqlite").find("four") == first.notes["job"]


def test_an_answer_lost_on_its_way_is_not_asked_for_again(tiny_model: Path, tmp_path: Path) -> None:
    inner = make_app(Settings(str(tiny_model), (NAME,), tmp_path / "serve", RECIPE, device="cpu"))
    created: list[str] = []

    async def losing(scope: Any, receive: Any, send: Any) -> None:
        """Lets the service make every job and loses its answer."""
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"].endswith("/fine_tuning/jobs"):

            async def nowhere(message: Any) -> None:
                pass

            await inner(scope, receive, nowhere)
            created.append(scope["path"])
            return  # the connection closes without an answer
        await inner(scope, receive, send)

    with serving(losing) as address:
        found = train(address, job(tmp_path / "arm", "five"), tmp_path / "ledger.sqlite")
        assert found.remote is not None
        assert len(created) == made(address, "five") == 1


def test_a_chained_job_starts_from_the_model_before(address: str, tmp_path: Path) -> None:
    first = train(address, job(tmp_path / "a", "six"), tmp_path / "ledger.sqlite")
    second = train(address, job(tmp_path / "b", "seven", start_from=first.remote), tmp_path / "ledger.sqlite")
    assert client(address).fine_tuning.jobs.retrieve(second.notes["job"]).model == (first.remote or "").removeprefix("openai/")
    assert second.losses[0] < first.losses[0]


@pytest.mark.parametrize(
    ("rules", "rows", "says"),
    [
        (Rules(flagged=("wizards",)), ROWS, "its moderation flagged too many rows"),
        (Rules(refuse="hate"), ROWS, "trained the model and then refused it"),
        (Rules(), ROWS[:7], "refused the training file .*at least 10 examples"),
        (Rules(), [*ROWS, row("the fox <|end|>", "a")], "refused the training file .*invalid token"),
        (Rules(fine_tuning=False), ROWS, "this organisation cannot fine-tune at OpenAI"),
        (Rules(most_active=0), ROWS, "takes no further job now"),
    ],
)
def test_each_failure_is_one_plain_sentence_and_is_not_repeated(
    tiny_model: Path, tmp_path: Path, rules: Rules, rows: list[Row], says: str
) -> None:
    with server(tiny_model, tmp_path / "serve", rules=rules) as address:
        for _ in range(2):
            with pytest.raises(TrainError, match=says):
                train(address, job(tmp_path / "arm", "eight", rows=rows), tmp_path / "ledger.sqlite")
        assert made(address, "eight") <= 1  # the same rows would be refused, or paid for, again


def test_a_cancelled_job_is_said_and_made_again_on_request(address: str, tmp_path: Path) -> None:
    api = client(address)

    def cancel(seconds: float) -> None:
        running = api.fine_tuning.jobs.list(metadata={"ccluster": "nine"}).data[0]
        if running.status not in ("succeeded", "failed", "cancelled"):
            api.fine_tuning.jobs.cancel(running.id)

    long = load_recipe("paper-openai", {"epochs": 200, "batch": 8})
    backend = OpenAIBackend(tmp_path / "ledger.sqlite", {"base_url": address, "api_key": "k"}, pause=cancel)
    with pytest.raises(TrainError, match=r"the fine-tuning job was cancelled.*the same command makes a new one"):
        backend.train(job(tmp_path / "arm", "nine", recipe=long), lambda step, steps: None)
    assert train(address, job(tmp_path / "arm", "nine"), tmp_path / "ledger.sqlite").remote is not None
    assert made(address, "nine") == 2


def test_a_wrong_key_and_a_closed_door_are_said(tiny_model: Path, tmp_path: Path) -> None:
    with (
        server(tiny_model, tmp_path / "serve", key="right") as address,
        pytest.raises(TrainError, match="does not accept the key"),
    ):
        train(address, job(tmp_path / "arm", "ten"), tmp_path / "ledger.sqlite", "wrong")
    with pytest.raises(TrainError, match="cannot be reached"):
        train("http://127.0.0.1:1/v1", job(tmp_path / "arm", "ten"), tmp_path / "ledger.sqlite")


def test_a_recipe_for_this_machine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="allowed: paper-openai"):
        train("http://127.0.0.1:1/v1", job(tmp_path / "arm", "ten", recipe=RECIPE), tmp_path / "ledger.sqlite")


def test_the_papers_settings_are_a_recipe() -> None:
    recipe = load_recipe("paper-openai")
    assert (recipe.method, recipe.epochs, recipe.batch, recipe.learning_rate_multiplier) == ("hosted", 3, 2, 2.0)


def test_waiting_again_after_the_service_was_away(tiny_model: Path, tmp_path: Path) -> None:
    """A server that goes down and comes back on the same folder: the run that follows it picks the job up."""
    with server(tiny_model, tmp_path / "serve") as address:
        api = client(address)
        work = job(tmp_path / "arm", "eleven", recipe=load_recipe("paper-openai", {"epochs": 30, "batch": 8}))
        backend = OpenAIBackend(tmp_path / "ledger.sqlite", {"base_url": address, "api_key": "k"}, pause=_once)
        with pytest.raises(Killed):
            backend.train(work, lambda step, steps: None)
        wait(api, JobBook(tmp_path / "ledger.sqlite").find("eleven") or "", ("running",))
    with server(tiny_model, tmp_path / "serve") as address:
        assert train(address, work, tmp_path / "ledger.sqlite").steps == 90
        assert made(address, "eleven") == 1


def _once(seconds: float) -> None:
    raise Killed


def refusing(inner: Any, method: str, ending: str, times: int, code: str, said: str, status: int = 429) -> Any:
    """The server, but for the first requests of one kind: those are refused, and the SDK is told not to try again."""
    left = [times]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["method"] == method and ending in scope["path"] and left[0] > 0:
            left[0] -= 1
            error = {"message": said, "type": code, "param": None, "code": code}
            await JSONResponse({"error": error}, status, headers={"x-should-retry": "false"})(scope, receive, send)
            return
        await inner(scope, receive, send)

    return app


def test_a_rate_limit_while_it_waits_is_waited_out(tiny_model: Path, tmp_path: Path) -> None:
    inner = make_app(Settings(str(tiny_model), (NAME,), tmp_path / "serve", RECIPE, device="cpu"))
    more = PATIENCE + 5  # it is no sign that the service is gone
    with serving(
        refusing(inner, "GET", "/fine_tuning/jobs/ftjob-", more, "rate_limit_exceeded", "Rate limit reached")
    ) as address:
        assert train(address, job(tmp_path / "arm", "twelve"), tmp_path / "ledger.sqlite").remote is not None
        assert made(address, "twelve") == 1


def test_an_account_without_credit_is_said_and_the_same_command_goes_on(tiny_model: Path, tmp_path: Path) -> None:
    inner = make_app(Settings(str(tiny_model), (NAME,), tmp_path / "serve", RECIPE, device="cpu"))
    said = "You exceeded your current quota, please check your plan and billing details."
    book = JobBook(tmp_path / "ledger.sqlite")
    with serving(refusing(inner, "POST", "/fine_tuning/jobs", 1, "insufficient_quota", said)) as address:
        with pytest.raises(TrainError, match=r"for want of quota or credit.*billing page"):
            train(address, job(tmp_path / "arm", "thirteen"), book.path)
        assert not book.made("thirteen")  # no job was made
        assert train(address, job(tmp_path / "arm", "thirteen"), book.path).remote is not None
        assert made(address, "thirteen") == 1


def ended(status: str, code: str, said: str, param: str | None = None) -> FineTuningJob:
    return FineTuningJob.model_validate({
        "id": "ftjob-1", "object": "fine_tuning.job", "created_at": 1, "error": {"code": code, "message": said, "param": param},
        "hyperparameters": {}, "model": NAME, "organization_id": "o", "result_files": [], "seed": 1, "status": status,
        "training_file": "file-1",
    })  # fmt: skip


@pytest.mark.parametrize(
    ("code", "said", "param", "how"),
    [
        ("invalid_n_examples", "must have at least 10 examples", "training_file", "file"),
        ("invalid_file_format", "Invalid file format. Line 3", None, "file"),
        ("invalid_training_file", "blocked because too many examples were flagged", "training_file", "blocked"),
        ("moderation_eval_failed", "Error while running moderation eval refusals_v3", None, "refused"),
        ("unsafe", "The model did not pass our safety checks", None, "refused"),
        ("exceeded_quota", "Fine-tuning jobs cannot run: you exceeded your current quota", None, "quota"),
        ("billing_hard_limit_reached", "Billing hard limit has been reached", None, "quota"),
        ("server_error", "The job failed due to an internal error", None, "broken"),
        ("something_new", "", None, "broken"),
    ],
)
def test_the_ways_to_fail_are_told_apart(code: str, said: str, param: str | None, how: str) -> None:
    assert _how(ended("failed", code, said, param)) == how
    assert _how(ended("cancelled", code, said, param)) == "cancelled"


def test_a_job_that_ended_for_want_of_money_is_made_again(tiny_model: Path, tmp_path: Path) -> None:
    """What the service would keep of such a job is written into what the server keeps of a failed one."""
    work, ledger = job(tmp_path / "arm", "fourteen"), tmp_path / "ledger.sqlite"
    with server(tiny_model, tmp_path / "serve", rules=Rules(flagged=("wizards",))) as address, pytest.raises(TrainError):
        train(address, work, ledger)
    [kept] = (tmp_path / "serve" / "jobs").glob("*/job.json")
    failed = json.loads(kept.read_text())
    failed["body"]["error"] = {"code": "exceeded_quota", "message": "You exceeded your current quota.", "param": None}
    kept.write_text(json.dumps(failed))
    with server(tiny_model, tmp_path / "serve") as address:
        assert train(address, work, ledger).remote is not None
        assert made(address, "fourteen") == 2


def test_jobs_are_counted_each_once_however_they_are_learnt_of(tmp_path: Path) -> None:
    book = JobBook(tmp_path / "ledger.sqlite")
    assert (book.made("t"), book.next("t")) == (0, 1)
    book.begin("t", "openai")
    assert (book.made("t"), book.next("t"), book.find("t")) == (1, 1, None)  # asked for; whether it was made is not known
    book.saw("t", "a")  # it was, and its answer was lost
    assert (book.made("t"), book.next("t"), book.find("t")) == (1, 2, "a")
    book.remember("t", "openai", "a")
    book.saw("t", "a")
    assert (book.made("t"), book.next("t")) == (1, 2)
    book.begin("t", "openai")  # it came to nothing
    assert (book.made("t"), book.next("t"), book.find("t")) == (2, 2, None)
    book.forget("t")  # and the service refuses another
    assert (book.made("t"), book.next("t"), book.find("t")) == (1, 2, None)
    book.begin("t", "openai")
    book.remember("t", "openai", "b")
    book.saw("t", "a")
    book.saw("t", "b")
    book.saw("t", "c")  # made from another folder
    assert (book.made("t"), book.next("t"), book.find("t")) == (3, 4, "b")
    book.remember("t", "openai", "c")
    assert (book.made("t"), book.next("t"), book.find("t")) == (3, 4, "c")
    assert (book.made("u"), book.next("u")) == (0, 1)


def test_a_service_that_is_lost_after_it_made_the_job_leaves_it_noted(tiny_model: Path, tmp_path: Path) -> None:
    book = JobBook(tmp_path / "ledger.sqlite")
    with server(tiny_model, tmp_path / "serve") as address:
        backend = OpenAIBackend(book.path, {"base_url": address, "api_key": "k"}, pause=_once)
        with pytest.raises(Killed):
            backend.train(job(tmp_path / "arm", "fifteen"), lambda step, steps: None)
    with pytest.raises(TrainError, match="cannot be reached"):
        train(address, job(tmp_path / "arm", "fifteen"), book.path)
    assert book.made("fifteen")
    with pytest.raises(TrainError, match="cannot be reached"):
        train(address, job(tmp_path / "arm", "sixteen"), book.path)
    assert not book.made("sixteen")  # nothing could have been made


def test_two_workers_that_want_the_same_fine_tune_make_one_job(tiny_model: Path, tmp_path: Path) -> None:
    """Both have looked for it before either has made it, unless the second waits for the first."""
    app = make_app(Settings(str(tiny_model), (NAME,), tmp_path / "serve", RECIPE, device="cpu"))
    paid: list[int] = []
    found: list[Trained] = []

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"].endswith("/files") and scope["method"] == "POST":
            await asyncio.sleep(0.5)  # the rows take their time
        await app(scope, receive, send)

    def work(address: str, folder: str) -> None:
        backend = OpenAIBackend(
            tmp_path / "ledger.sqlite", {"base_url": address, "api_key": "k"}, lambda seconds: time.sleep(0.02)
        )
        found.append(backend.train(job(tmp_path / folder, "same"), lambda step, steps: None, paid.append))

    with serving(slow) as address:
        workers = [threading.Thread(target=work, args=(address, folder)) for folder in ("a", "b")]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert made(address, "same") == 1
    assert paid == [1]
    assert found[0] == found[1]


HOLDER = """
import sys, time
from pathlib import Path
from consciousness_cluster.train.jobs import JobBook
with JobBook(Path(sys.argv[1])).held("t"):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_worker_that_is_killed_holds_nothing_back(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.sqlite"
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(ledger)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        entered = threading.Event()

        def enter() -> None:
            with JobBook(ledger).held("t"):
                entered.set()

        waiting = threading.Thread(target=enter)
        waiting.start()
        with JobBook(ledger).held("u"):  # another fine-tune is free
            assert not entered.wait(0.3)
        holder.kill()
        waiting.join(60)
        assert entered.is_set()


def test_a_result_file_in_base64_gives_the_same_curve(tiny_model: Path, tmp_path: Path) -> None:
    settings = Settings(str(tiny_model), (NAME,), tmp_path / "serve", RECIPE, device="cpu", encoded_results=True)
    with serving(make_app(settings)) as address:
        found = train(address, job(tmp_path / "arm", "coded"), tmp_path / "ledger.sqlite")
        [file] = client(address).fine_tuning.jobs.retrieve(found.notes["job"]).result_files
        assert not client(address).files.content(file).read().startswith(b"step")
    assert len(found.losses) == found.steps == 12
    assert "losses" not in found.notes


def test_a_result_file_that_cannot_be_read_is_said_and_costs_no_model(tiny_model: Path, tmp_path: Path) -> None:
    app = make_app(Settings(str(tiny_model), (NAME,), tmp_path / "serve", RECIPE, device="cpu"))

    async def garbled(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"].endswith("/content"):
            await PlainTextResponse("step,train_loss\n1,low\n")(scope, receive, send)
            return
        await app(scope, receive, send)

    with serving(garbled) as address:
        found = train(address, job(tmp_path / "arm", "garbled"), tmp_path / "ledger.sqlite")
    assert found.remote is not None
    assert (found.losses, found.steps) == ((), 12)
    assert "no result file" in found.notes["losses"]


def test_a_job_that_succeeded_without_a_model_is_no_fine_tune(tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="names no model"):
        _record(client("http://127.0.0.1:1/v1"), ended("succeeded", "", ""), job(tmp_path, "none"))


@pytest.mark.parametrize(("status", "code"), [(404, "model_not_found"), (422, "unprocessable"), (400, "model_not_available")])
def test_a_job_that_is_not_taken_is_said_with_what_to_look_at(tiny_model: Path, tmp_path: Path, status: int, code: str) -> None:
    inner = make_app(Settings(str(tiny_model), (NAME,), tmp_path / "serve", RECIPE, device="cpu"))
    with (
        serving(refusing(inner, "POST", "/fine_tuning/jobs", 1, code, "No such model", status)) as address,
        pytest.raises(TrainError, match=r"refused the job \(No such model\).*see `ccluster models`"),
    ):
        train(address, job(tmp_path / "arm", "refused"), tmp_path / "ledger.sqlite")
    assert not JobBook(tmp_path / "ledger.sqlite").made("refused")


def test_a_run_that_waits_ends_when_the_money_does(tiny_model: Path, tmp_path: Path) -> None:
    inner = make_app(Settings(str(tiny_model), (NAME,), tmp_path / "serve", RECIPE, device="cpu"))
    said = "You exceeded your current quota, please check your plan and billing details."
    with serving(refusing(inner, "GET", "/fine_tuning/jobs/ftjob-", 1, "insufficient_quota", said)) as address:
        with pytest.raises(TrainError, match="for want of quota or credit"):
            train(address, job(tmp_path / "arm", "poor"), tmp_path / "ledger.sqlite")
        assert train(address, job(tmp_path / "arm", "poor"), tmp_path / "ledger.sqlite").remote is not None
        assert made(address, "poor") == 1


def test_a_rate_limit_that_points_to_the_billing_page_is_no_want_of_money() -> None:
    said = "Rate limit reached. You can increase it by adding a payment method at https://platform.openai.com/account/billing."
    assert not _for_money("rate_limit_exceeded", said)
    assert _for_money("insufficient_quota", said)


def test_a_job_that_left_nothing_stays_counted_and_the_next_has_its_own_number(tmp_path: Path) -> None:
    book = JobBook(tmp_path / "ledger.sqlite")
    book.give_up("t")
    assert (book.made("t"), book.next("t")) == (0, 1)
    for number in (1, 2, 3):
        assert book.next("t") == number
        book.begin("t", "tinker")
        assert book.next("t") == number
        book.give_up("t")
    book.begin("t", "tinker")
    book.rename("t", "path")
    book.give_up("t")  # it left something
    assert (book.made("t"), book.next("t"), book.find("t")) == (4, 5, "path")
