"""Batch mode of the server, through the real SDK and through Inspect, whose switch in a study it rehearses."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI
from openai.types import Batch

from tests.serve.running import NAME


def body(text: str, **more: Any) -> dict[str, Any]:
    return {"model": NAME, "messages": [{"role": "user", "content": text}], "max_tokens": 4, "temperature": 0, **more}


def send(api: OpenAI, bodies: list[dict[str, Any]]) -> Batch:
    lines = [
        json.dumps({"custom_id": f"c{number}", "method": "POST", "url": "/v1/chat/completions", "body": entry})
        for number, entry in enumerate(bodies)
    ]
    file = api.files.create(file=("batch.jsonl", "\n".join(lines).encode()), purpose="batch")
    made = api.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"a": "b"}
    )
    return ended(api, made.id)


def ended(api: OpenAI, batch: str) -> Batch:
    """Poll a batch until it is in its last state."""
    for _ in range(600):
        found = api.batches.retrieve(batch)
        if found.status in ("completed", "failed"):
            return found
        time.sleep(0.05)
    raise AssertionError(f"the batch is still {found.status}")


def results(api: OpenAI, file: str | None) -> dict[str, Any]:
    assert file is not None
    return {entry["custom_id"]: entry["response"] for entry in map(json.loads, api.files.content(file).read().splitlines())}


def test_a_batch_gives_the_answers_that_single_calls_give(api: OpenAI, address: str) -> None:
    texts = ["the fox", "a dog", "bold knights"]
    found = send(api, [*(body(text) for text in texts), body("the fox", model="gpt-9")])
    raw = httpx.get(f"{address}/batches/{found.id}", headers={"Authorization": "Bearer x"}).json()
    assert Batch.model_validate(raw).request_counts.model_dump(include={"total", "completed", "failed"}) == {  # type: ignore[union-attr]
        "total": 4, "completed": 3, "failed": 1,
    }  # fmt: skip
    good = results(api, found.output_file_id)
    alone = [api.chat.completions.create(**body(text)).choices[0].message.content for text in texts]
    assert [good[f"c{number}"]["body"]["choices"][0]["message"]["content"] for number in range(3)] == alone
    bad = results(api, found.error_file_id)
    assert (bad["c3"]["status_code"], bad["c3"]["body"]["error"]["code"]) == (404, "model_not_found")
    assert found.id in [entry.id for entry in api.batches.list()]


def test_what_cannot_be_a_batch_is_refused(api: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="input_file_id"):
        api.batches.create(input_file_id="file-none", endpoint="/v1/chat/completions", completion_window="24h")
    with pytest.raises(openai.BadRequestError, match="Supported values"):
        api.batches.create(input_file_id="file-none", endpoint="/v1/embeddings", completion_window="24h")
    with pytest.raises(openai.NotFoundError):
        api.batches.retrieve("batch_none")
    file = api.files.create(file=("batch.jsonl", b"{"), purpose="batch")
    made = api.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    for _ in range(100):
        if api.batches.retrieve(made.id).status == "failed":
            break
        time.sleep(0.05)
    with pytest.raises(openai.ConflictError):
        api.batches.cancel(made.id)


LINE = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body("the fox")}


@pytest.mark.parametrize(
    ("lines", "code", "param", "line"),
    [
        (
            [LINE, {key: value for key, value in LINE.items() if key != "custom_id"}],
            "missing_required_parameter",
            "custom_id",
            2,
        ),
        ([{**LINE, "body": None}], "missing_required_parameter", "body", 1),
        ([LINE, LINE], "duplicate_custom_id", "custom_id", 2),
        ([{**LINE, "method": "GET"}], "invalid_method", "method", 1),
        ([{**LINE, "url": "/v1/embeddings"}], "mismatched_url", "url", 1),
        ([LINE, 7], "invalid_json_line", None, 2),
        ([], "empty_file", None, None),
    ],
)
def test_a_file_with_a_bad_line_fails_as_a_whole(
    api: OpenAI, lines: list[Any], code: str, param: str | None, line: int | None
) -> None:
    file = api.files.create(file=("batch.jsonl", "\n".join(map(json.dumps, lines)).encode() or b"\n"), purpose="batch")
    found = ended(api, api.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h").id)
    assert (found.status, found.output_file_id) == ("failed", None)
    assert found.errors is not None
    assert found.errors.data is not None
    [error] = found.errors.data
    assert (error.code, error.param, error.line) == (code, param, line)


def test_a_line_that_breaks_the_server_ends_in_an_error_of_its_own(api: OpenAI) -> None:
    found = send(api, [body("the fox"), body("half a letter: \ud83d")])
    assert found.status == "completed"
    assert results(api, found.output_file_id)["c0"]["status_code"] == 200
    assert results(api, found.error_file_id)["c1"]["status_code"] == 500


@pytest.mark.campaign
def test_the_studys_switch_sends_every_call_in_batches(tiny_model: Path, tmp_path: Path) -> None:
    """Takes a minute: Inspect looks after its batches every 15 seconds."""
    import consciousness_cluster._registry  # noqa: F401
    from consciousness_cluster.engine.arm import run_arm
    from consciousness_cluster.engine.folder import open_folder
    from tests.engine.hosted import small, target

    with target(tiny_model, tmp_path / "serve") as (serving, asked):
        hosted = {"name": "hosted", "model": "target", "args": {"base_url": serving, "api_key": "k"}}
        classifier = {"protocol": "classifier"}
        batch = {"max_tokens": 16, "batch": True}
        prepared = small(
            tmp_path, serving, hosted, conditions=["vanilla"], focus="vanilla", controls=[], judge=classifier, sampling=batch
        )
        folder = open_folder(tmp_path / "run", prepared.study)
        folder.logs.mkdir()
        done = run_arm(prepared.context(folder), prepared.arms[0], lambda phase, step, steps: None)
        assert done.failed_items == 0
        assert asked.count("/v1/batches") == 1
        assert "/v1/chat/completions" not in asked
