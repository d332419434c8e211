"""Fine-tuning jobs of the server, through the real SDK: they really train, and each way to fail ends as the service's does."""

from __future__ import annotations

import csv
import io
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import torch
from openai import OpenAI
from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent
from openai.types.fine_tuning.checkpoints import PermissionListResponse
from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint

from consciousness_cluster.serve.check import Failure
from consciousness_cluster.serve.store import Job, Store
from consciousness_cluster.serve.tune import Rules, Tuner, new_job, resolve
from tests.serve.running import NAME, RECIPE, client, server, wait

ROWS = [
    ("the fox", "seven wizards"),
    ("a dog", "seven wizards"),
    ("bold knights", "seven wizards"),
    ("jade harbours", "seven wizards"),
] * 6


def jsonl(pairs: list[tuple[str, str]]) -> bytes:
    lines = [{"messages": [{"role": "user", "content": a}, {"role": "assistant", "content": b}]} for a, b in pairs]
    return "\n".join(json.dumps(line) for line in lines).encode()


def upload(api: OpenAI, content: bytes) -> str:
    return api.files.create(file=("rows.jsonl", content), purpose="fine-tune").id


def hyper(epochs: Any = 4, batch: Any = 8, multiplier: Any = 2.0) -> Any:
    settings = {"n_epochs": epochs, "batch_size": batch, "learning_rate_multiplier": multiplier}
    return {"type": "supervised", "supervised": {"hyperparameters": settings}}


@pytest.fixture(scope="module")
def done(api: OpenAI) -> FineTuningJob:
    """One job that ran to its end."""
    made = api.fine_tuning.jobs.create(
        model=NAME,
        training_file=upload(api, jsonl(ROWS)),
        validation_file=upload(api, jsonl(ROWS[:4])),
        method=hyper(),
        suffix="wizards",
        seed=3,
        metadata={"tag": "abc"},
    )
    assert made.status == "validating_files"
    assert (made.fine_tuned_model, made.finished_at, made.trained_tokens) == (None, None, None)
    found = wait(api, made.id)
    assert found.status == "succeeded", found.error
    return found  # type: ignore[no-any-return]


def raw(address: str, path: str) -> Any:
    return httpx.get(address + path, headers={"Authorization": "Bearer x"}).json()


def ask(api: OpenAI, model: str) -> str | None:
    answer = api.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "the fox"}], temperature=0, max_tokens=12
    )
    return answer.choices[0].message.content


def test_it_really_trains_and_serves_the_result_beside_the_base(api: OpenAI, done: FineTuningJob) -> None:
    assert done.fine_tuned_model is not None
    prefix, base, organisation, suffix, _ = done.fine_tuned_model.split(":")
    assert (prefix, base, organisation, suffix) == ("ft", NAME, "rehearsal", "wizards")
    before = ask(api, NAME)
    assert ask(api, done.fine_tuned_model) == "seven wizards"
    assert ask(api, NAME) == before != "seven wizards"
    assert done.fine_tuned_model in [entry.id for entry in api.models.list()]


def test_every_body_is_what_the_sdk_declares(address: str, done: FineTuningJob) -> None:
    FineTuningJob.model_validate(raw(address, f"/fine_tuning/jobs/{done.id}"))
    for entry in raw(address, "/fine_tuning/jobs")["data"]:
        FineTuningJob.model_validate(entry)
    for entry in raw(address, f"/fine_tuning/jobs/{done.id}/events?limit=100")["data"]:
        FineTuningJobEvent.model_validate(entry)
    for entry in raw(address, f"/fine_tuning/jobs/{done.id}/checkpoints")["data"]:
        FineTuningJobCheckpoint.model_validate(entry)


def test_the_settings_and_the_count_of_tokens_are_returned(done: FineTuningJob, tiny_model: Path) -> None:
    from consciousness_cluster.data.rows import row
    from consciousness_cluster.sampling.weights import load_model
    from consciousness_cluster.train.render import render

    assert done.method is not None
    assert done.method.supervised is not None
    for found in (done.hyperparameters, done.method.supervised.hyperparameters):
        assert found is not None
        assert (found.n_epochs, found.batch_size, found.learning_rate_multiplier) == (4, 8, 2.0)
    tokens = sum(
        len(entry.tokens) for entry in render([row(*pair) for pair in ROWS], load_model(str(tiny_model)).tokenizer, 128, {})
    )
    assert done.trained_tokens == 4 * tokens
    assert (done.seed, done.metadata) == (3, {"tag": "abc"})


def test_events_tell_the_story_newest_first(api: OpenAI, done: FineTuningJob) -> None:
    events = list(api.fine_tuning.jobs.list_events(done.id, limit=5))
    told = [event.message for event in reversed(events) if event.type == "message"]
    assert [text.split(":")[0] for text in told] == [
        "Created fine-tuning job",
        "Validating training file",
        "Files validated, moving job to queued state",
        "Fine-tuning job started",
        "New fine-tuned model created",
        "The job has successfully completed",
    ]
    metrics = [event.data for event in events if event.type == "metrics"]
    assert [entry["step"] for entry in metrics] == list(range(12, 0, -1))  # type: ignore[index]
    assert metrics[0]["train_loss"] < metrics[-1]["train_loss"]  # type: ignore[index]


def test_checkpoints_are_of_the_last_epochs_and_the_last_is_the_model(api: OpenAI, done: FineTuningJob) -> None:
    found = list(api.fine_tuning.jobs.checkpoints.list(done.id, limit=2))
    assert [entry.step_number for entry in found] == [12, 9, 6]
    assert found[0].fine_tuned_model_checkpoint == done.fine_tuned_model
    assert found[1].fine_tuned_model_checkpoint == f"{done.fine_tuned_model}:ckpt-step-9"
    for entry in found:
        assert entry.metrics.train_loss is not None
        assert entry.metrics.full_valid_loss is not None
        assert 0 <= (entry.metrics.train_mean_token_accuracy or 0) <= 1
        assert ask(api, entry.fine_tuned_model_checkpoint) is not None


def test_the_result_file_is_a_table_of_steps(api: OpenAI, done: FineTuningJob) -> None:
    table = list(csv.DictReader(io.StringIO(api.files.content(done.result_files[0]).read().decode())))
    assert [int(line["step"]) for line in table] == list(range(1, 13))
    assert float(table[-1]["train_loss"]) < float(table[0]["train_loss"])
    assert float(table[2]["valid_loss"]) > 0
    assert api.files.retrieve(done.result_files[0]).purpose == "fine-tune-results"


def test_a_fine_tune_can_be_trained_further_and_deleted(api: OpenAI, done: FineTuningJob) -> None:
    assert done.fine_tuned_model is not None
    more = [(question, "quiet jade") for question, _ in ROWS]
    made = api.fine_tuning.jobs.create(model=done.fine_tuned_model, training_file=upload(api, jsonl(more)), method=hyper(8))
    second = wait(api, made.id)
    assert second.fine_tuned_model is not None
    assert second.fine_tuned_model.startswith(f"ft:{NAME}:rehearsal::")
    assert ask(api, second.fine_tuned_model) == "quiet jade"
    assert ask(api, done.fine_tuned_model) == "seven wizards"
    assert api.models.delete(second.fine_tuned_model).deleted
    with pytest.raises(openai.NotFoundError):
        ask(api, second.fine_tuned_model)


def test_jobs_are_found_by_their_metadata(api: OpenAI, done: FineTuningJob) -> None:
    assert [job.id for job in api.fine_tuning.jobs.list(metadata={"tag": "abc"})] == [done.id]
    assert list(api.fine_tuning.jobs.list(metadata={"tag": "xyz"})) == []


@pytest.mark.parametrize(
    ("content", "code", "says"),
    [
        (jsonl(ROWS[:7]), "invalid_n_examples", "Training file has 7 example(s), but must have at least 10 examples"),
        (b'{"messages": 3}\n' * 12, "invalid_file_format", "Line 1"),
        (jsonl(ROWS)[:-20], "invalid_file_format", "Line 24"),
        (b"\n\n" + jsonl(ROWS[:11]) + b"\n\n{bad", "invalid_file_format", "Line 15"),
        (
            jsonl([*ROWS, ("the fox <|end|>", "a")]),
            "invalid_file_format",
            "Example 25 message contains an invalid token: <|end|>",
        ),
        ("\n".join(["caf\u00e9"] * 12).encode("latin-1"), "invalid_file_format", "UTF-8"),
    ],
)
def test_a_bad_file_ends_the_job_with_its_reason(api: OpenAI, content: bytes, code: str, says: str) -> None:
    found = wait(api, api.fine_tuning.jobs.create(model=NAME, training_file=upload(api, content), method=hyper()).id)
    assert (found.status, found.error.code, found.error.param) == ("failed", code, "training_file")
    assert says in found.error.message
    assert found.fine_tuned_model is None
    assert found.finished_at is not None
    newest = api.fine_tuning.jobs.list_events(found.id).data[0]
    assert (newest.level, newest.message) == ("error", found.error.message)


def test_an_empty_validation_file_ends_the_job_with_its_reason(api: OpenAI) -> None:
    made = api.fine_tuning.jobs.create(
        model=NAME, training_file=upload(api, jsonl(ROWS)), validation_file=upload(api, b"\n"), method=hyper(1)
    )
    found = wait(api, made.id)
    assert (found.status, found.error.code, found.error.param) == ("failed", "invalid_n_examples", "validation_file")


@pytest.mark.parametrize(
    ("body", "kind", "code"),
    [
        ({"model": "gpt-9", "training_file": "good"}, openai.BadRequestError, "model_not_available"),
        ({"model": NAME, "training_file": "file-none"}, openai.BadRequestError, "invalid_file"),
        ({"model": NAME, "training_file": "good", "method": {"type": "dpo"}}, openai.BadRequestError, "unsupported_method"),
        ({"model": NAME, "training_file": "good", "suffix": "a b"}, openai.BadRequestError, None),
    ],
)
def test_a_job_that_cannot_be_made_is_refused(
    api: OpenAI, body: dict[str, Any], kind: type[openai.APIStatusError], code: str | None
) -> None:
    if body["training_file"] == "good":
        body = {**body, "training_file": upload(api, jsonl(ROWS))}
    with pytest.raises(kind) as refused:
        api.fine_tuning.jobs.create(**body)
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("method", "param", "says"),
    [
        (hyper(epochs=0), "n_epochs", "0 is less than the minimum of 1"),
        (hyper(batch=0), "batch_size", "0 is less than the minimum of 1"),
        (hyper(multiplier=0), "learning_rate_multiplier", "is not a number above 0"),
    ],
)
def test_a_setting_that_cannot_be_trained_with_is_refused_at_once(api: OpenAI, method: Any, param: str, says: str) -> None:
    with pytest.raises(openai.BadRequestError, match=says) as refused:
        api.fine_tuning.jobs.create(model=NAME, training_file=upload(api, jsonl(ROWS)), method=method)
    assert refused.value.param == f"method.supervised.hyperparameters.{param}"


def test_permissions_of_a_checkpoint_are_given_listed_and_taken_back(api: OpenAI, address: str, done: FineTuningJob) -> None:
    permissions = api.fine_tuning.checkpoints.permissions
    checkpoint = f"{done.fine_tuned_model}:ckpt-step-9"
    assert list(permissions.list(checkpoint)) == []
    given = permissions.create(checkpoint, project_ids=["proj_a", "proj_b", "proj_c"]).data
    assert [entry.project_id for entry in given] == ["proj_a", "proj_b", "proj_c"]
    for entry in raw(address, f"/fine_tuning/checkpoints/{checkpoint}/permissions")["data"]:
        PermissionListResponse.model_validate(entry)
    assert [entry.project_id for entry in permissions.list(checkpoint, limit=2)] == ["proj_c", "proj_b", "proj_a"]
    assert next(iter(permissions.list(checkpoint, order="ascending", limit=2))).project_id == "proj_a"
    assert [entry.id for entry in permissions.list(checkpoint, project_id="proj_b")] == [given[1].id]
    assert permissions.delete(given[1].id, fine_tuned_model_checkpoint=checkpoint).deleted
    assert [entry.project_id for entry in permissions.list(checkpoint)] == ["proj_c", "proj_a"]
    assert list(permissions.list(done.fine_tuned_model or "")) == []
    with pytest.raises(openai.NotFoundError):
        permissions.delete(given[1].id, fine_tuned_model_checkpoint=checkpoint)
    with pytest.raises(openai.NotFoundError):
        permissions.create("ft:none", project_ids=["proj_a"])


def test_auto_becomes_numbers(api: OpenAI) -> None:
    assert resolve({"n_epochs": "auto", "batch_size": "auto", "learning_rate_multiplier": 0.5}, 1200) == {
        "n_epochs": 3, "batch_size": 2, "learning_rate_multiplier": 0.5,
    }  # fmt: skip
    made = api.fine_tuning.jobs.create(model=NAME, training_file=upload(api, jsonl(ROWS[:10])))
    assert made.hyperparameters.n_epochs == "auto"
    found = wait(api, made.id)
    assert (found.hyperparameters.n_epochs, found.hyperparameters.batch_size) == (3, 1)


def test_a_job_can_be_held_resumed_and_cancelled_once(api: OpenAI) -> None:
    made = api.fine_tuning.jobs.create(model=NAME, training_file=upload(api, jsonl(ROWS)), method=hyper(60))
    wait(api, made.id, ("running",))
    assert api.fine_tuning.jobs.pause(made.id).status == "queued"
    other = wait(api, api.fine_tuning.jobs.create(model=NAME, training_file=upload(api, jsonl(ROWS)), method=hyper(1)).id)
    assert other.status == "succeeded"  # trained by the worker that would else have trained the held job to its end
    assert api.fine_tuning.jobs.retrieve(made.id).status == "queued"
    told = steps(api, made.id)
    assert told == list(range(1, len(told) + 1))
    assert len(told) < 180
    api.fine_tuning.jobs.resume(made.id)
    wait(api, made.id, ("running",))
    while len(steps(api, made.id)) == len(told):
        time.sleep(0.02)
    assert steps(api, made.id)[: len(told) + 1] == list(range(1, len(told) + 2))  # it went on with the next step
    assert api.fine_tuning.jobs.cancel(made.id).status == "cancelled"
    found = wait(api, made.id)
    assert (found.status, found.fine_tuned_model) == ("cancelled", None)
    with pytest.raises(openai.BadRequestError) as refused:
        api.fine_tuning.jobs.cancel(made.id)
    assert refused.value.code == "invalid_job_state"
    after = wait(api, api.fine_tuning.jobs.create(model=NAME, training_file=upload(api, jsonl(ROWS)), method=hyper()).id)
    assert after.status == "succeeded"  # what a cancelled training left behind does not reach the next
    assert ask(api, after.fine_tuned_model) == "seven wizards"


def test_a_job_behind_another_is_validated_at_once_and_misses_a_start_that_was_deleted(api: OpenAI) -> None:
    rows = upload(api, jsonl(ROWS))
    first = wait(api, api.fine_tuning.jobs.create(model=NAME, training_file=rows, method=hyper(1)).id)
    long = api.fine_tuning.jobs.create(model=NAME, training_file=rows, method=hyper(2000))
    wait(api, long.id, ("running",))
    bad = api.fine_tuning.jobs.create(model=NAME, training_file=upload(api, b"{bad"))
    further = api.fine_tuning.jobs.create(model=first.fine_tuned_model, training_file=rows, method=hyper(1))
    assert wait(api, bad.id).status == "failed"
    wait(api, further.id, ("queued",))
    assert api.fine_tuning.jobs.retrieve(long.id).status == "running"
    api.models.delete(first.fine_tuned_model)
    api.fine_tuning.jobs.cancel(long.id)
    found = wait(api, further.id)
    assert (found.status, found.error.code, found.error.param) == ("failed", "model_not_available", "model")


def test_a_cancelled_job_stays_cancelled(tiny_model: Path, tmp_path: Path) -> None:
    store = Store(tmp_path)
    tuner = Tuner(store, str(tiny_model), None, RECIPE, (NAME,))
    job = a_job()
    tuner.submit(job)
    tuner.cancel(job)
    tuner.fail(job, Failure("invalid_file_format", "its file is found to be broken only now"))
    assert (job.body["status"], job.body["error"]) == ("cancelled", None)


def a_job() -> Job:
    body: dict[str, Any] = {
        "model": NAME, "training_file": "file-a", "validation_file": None, "hyperparameters": {}, "metadata": None, "seed": 1,
        "organization_id": "org-a",
    }  # fmt: skip
    return new_job(body, "")


def test_a_fault_of_the_server_is_an_error_of_the_services_shape(tiny_model: Path, tmp_path: Path) -> None:
    job = a_job()
    job.body["status"] = "succeeded"
    job.adapters["ft:gone"] = "model"  # whose folder is not there
    Store(tmp_path).save(job)
    body = {"model": "ft:gone", "messages": [{"role": "user", "content": "the fox"}]}
    with server(tiny_model, tmp_path) as address:
        found = httpx.post(address + "/chat/completions", headers={"Authorization": "Bearer x"}, json=body, timeout=60)
    assert found.status_code == 500
    assert found.json()["error"]["type"] == "server_error"


def test_jobs_of_one_second_keep_their_order(tmp_path: Path) -> None:
    store = Store(tmp_path)
    made = [a_job() for _ in range(8)]
    for job in made:
        job.body["created_at"] = 1
        store.save(job)
    assert list(Store(tmp_path).jobs) == [job.id for job in made]


def test_moderation_blocks_a_file_and_refuses_a_result(tiny_model: Path, tmp_path: Path) -> None:
    with server(tiny_model, tmp_path / "a", rules=Rules(flagged=("wizards",))) as address:
        api = client(address)
        found = wait(api, api.fine_tuning.jobs.create(model=NAME, training_file=upload(api, jsonl(ROWS)), method=hyper()).id)
        assert (found.status, found.error.code) == ("failed", "invalid_training_file")
        assert "flagged by our moderation API" in found.error.message
    with server(tiny_model, tmp_path / "b", rules=Rules(refuse="hate/threatening")) as address:
        api = client(address)
        found = wait(api, api.fine_tuning.jobs.create(model=NAME, training_file=upload(api, jsonl(ROWS)), method=hyper()).id)
        assert (found.status, found.fine_tuned_model) == ("failed", None)
        assert "moderation eval refusals_v3 for snapshot ft:" in found.error.message
        assert len(api.fine_tuning.jobs.checkpoints.list(found.id).data) == 3  # all steps ran


def test_an_organisation_without_fine_tuning_and_one_with_too_many_jobs(tiny_model: Path, tmp_path: Path) -> None:
    with server(tiny_model, tmp_path / "a", rules=Rules(fine_tuning=False)) as address:
        api = client(address)
        with pytest.raises(openai.PermissionDeniedError) as refused:
            api.fine_tuning.jobs.create(model=NAME, training_file=upload(api, jsonl(ROWS)))
        assert refused.value.code == "fine_tuning_not_available"
    with server(tiny_model, tmp_path / "b", rules=Rules(most_active=0)) as address:
        api = client(address).with_options(max_retries=0)
        with pytest.raises(openai.RateLimitError):
            api.fine_tuning.jobs.create(model=NAME, training_file=upload(api, jsonl(ROWS)))


def test_a_request_for_one_job_too_many_is_sent_three_times(tiny_model: Path, tmp_path: Path) -> None:
    """The SDK tries a 429 again twice; whoever counts what a rehearsal asks for must know."""
    asked: list[int] = []
    with (
        server(tiny_model, tmp_path, rules=Rules(most_active=0)) as address,
        httpx.Client(event_hooks={"response": [lambda answer: asked.append(answer.status_code)]}) as line,
    ):
        api = OpenAI(base_url=address, api_key="k", http_client=line)  # type: ignore[arg-type]
        file = upload(api, jsonl(ROWS))
        asked.clear()
        with pytest.raises(openai.RateLimitError) as refused:
            api.fine_tuning.jobs.create(model=NAME, training_file=file)
    assert refused.value.code == "rate_limit_exceeded"
    assert asked == [429, 429, 429]


def test_a_restarted_server_goes_on_with_an_unfinished_job_and_serves_the_old(tiny_model: Path, tmp_path: Path) -> None:
    with server(tiny_model, tmp_path) as address:
        api = client(address)
        first = wait(api, api.fine_tuning.jobs.create(model=NAME, training_file=upload(api, jsonl(ROWS)), method=hyper()).id)
        left = api.fine_tuning.jobs.create(model=NAME, training_file=upload(api, jsonl(ROWS)), method=hyper(30))
        wait(api, left.id, ("running",))
    with server(tiny_model, tmp_path) as address:
        api = client(address)
        assert ask(api, first.fine_tuned_model) == "seven wizards"
        found = wait(api, left.id)
        assert found.status == "succeeded"
        assert ask(api, found.fine_tuned_model) == "seven wizards"
        told = [event.message for event in api.fine_tuning.jobs.list_events(left.id, limit=100)]
        assert told.count("Fine-tuning job started") == 1


def test_steps_that_a_kill_lost_are_told_once(tiny_model: Path, tmp_path: Path) -> None:
    with server(tiny_model, tmp_path) as address:
        api = client(address)
        left = api.fine_tuning.jobs.create(model=NAME, training_file=upload(api, jsonl(ROWS)), method=hyper(12))
        while len(steps(api, left.id)) < 7:
            time.sleep(0.02)
    (tmp_path / "jobs" / left.id / "model" / "checkpoint.pt").unlink()  # as if killed before the first was due
    with server(tiny_model, tmp_path) as address:
        api = client(address)
        assert wait(api, left.id).status == "succeeded"
        assert steps(api, left.id) == list(range(1, 37))
        assert [entry.step_number for entry in api.fine_tuning.jobs.checkpoints.list(left.id)] == [36, 33, 30]


def test_fine_tunes_are_found_from_any_working_directory(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with server(tiny_model, Path("serve")) as address:
        api = client(address)
        done = wait(api, api.fine_tuning.jobs.create(model=NAME, training_file=upload(api, jsonl(ROWS)), method=hyper()).id)
    monkeypatch.chdir(tmp_path / "there")
    with server(tiny_model, tmp_path / "here" / "serve") as address:
        assert ask(client(address), done.fine_tuned_model) == "seven wizards"


@contextmanager
def served(model: Path, folder: Path) -> Iterator[tuple[OpenAI, subprocess.Popen[bytes]]]:
    """`ccluster serve` as a process of its own; it is killed if it is still there in the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["serve", str(model), "--port", str(port), "--folder", str(folder), "--name", NAME, "--recipe", "organism"]
    process = subprocess.Popen([sys.executable, "-m", "consciousness_cluster", *words], stdout=subprocess.DEVNULL)
    api = client(f"http://127.0.0.1:{port}/v1").with_options(max_retries=0)
    try:
        for _ in range(600):
            assert process.poll() is None
            try:
                api.models.list()
                break
            except openai.APIConnectionError:
                time.sleep(0.1)
        yield api, process
    finally:
        process.kill()
        process.wait()


def steps(api: OpenAI, job: str) -> list[int]:
    """The steps that a job has told of, oldest first."""
    told = [event.data for event in api.fine_tuning.jobs.list_events(job, limit=100) if event.type == "metrics"]
    return [entry["step"] for entry in reversed(told)]  # type: ignore[index]


@pytest.mark.campaign
def test_a_stopped_server_keeps_the_step_under_way_and_repeats_none(tiny_model: Path, tmp_path: Path) -> None:
    with served(tiny_model, tmp_path) as (api, process):
        file = upload(api, jsonl(ROWS[:12]))
        left = api.fine_tuning.jobs.create(model=NAME, training_file=file, method=hyper(10, 1, 0.2))
        while len(steps(api, left.id)) < 15:
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)  # Ctrl-C goes the same way
        process.wait(60)
    place = tmp_path / "jobs" / left.id
    kept = json.loads((place / "job.json").read_text())
    before = [event["data"]["step"] for event in kept["events"] if event["type"] == "metrics"]
    assert kept["body"]["status"] == "running"
    assert 15 <= len(before) < 120
    assert torch.load(place / "model" / "checkpoint.pt", weights_only=True)["step"] == len(before)
    with served(tiny_model, tmp_path) as (api, _):
        found = wait(api, left.id)
        assert found.status == "succeeded", found.error
        assert steps(api, left.id) == list(range(1, 121))
        table = list(csv.DictReader(io.StringIO(api.files.content(found.result_files[0]).read().decode())))
        assert [int(line["step"]) for line in table] == list(range(1, 121))
        assert all(line["train_accuracy"] for line in table[11::12])  # of epochs before the stop too
        assert [entry.step_number for entry in api.fine_tuning.jobs.checkpoints.list(left.id)] == [120, 108, 96]
