"""Chat, models and files of the server, through the real SDK; every body is validated by the SDK's own types."""

from __future__ import annotations

import asyncio
import json
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI
from openai.types import FileDeleted, FileObject, Model
from openai.types.chat import ChatCompletion
from peft import LoraConfig, get_peft_model

from consciousness_cluster.errors import ModelError, SamplingError
from consciousness_cluster.sampling.generate import Request
from consciousness_cluster.sampling.weights import load_model
from consciousness_cluster.serve.app import Settings, make_app
from consciousness_cluster.serve.chat import Sampler
from tests.serve.running import NAME, RECIPE, client, server

ASK = [{"role": "system", "content": "near"}, {"role": "user", "content": "the fox"}]


def raw(address: str, method: str, path: str, **more: object) -> httpx.Response:
    return httpx.request(method, address + path, headers={"Authorization": "Bearer x"}, **more)  # type: ignore[arg-type]


def test_a_completion_is_what_the_sdk_declares(address: str) -> None:
    body = {
        "model": NAME,
        "messages": ASK,
        "n": 3,
        "max_tokens": 5,
        "seed": 7,
        "logprobs": True,
        "top_logprobs": 2,
        "temperature": 1.0,
    }
    found = ChatCompletion.model_validate(raw(address, "POST", "/chat/completions", json=body).json())
    assert [choice.index for choice in found.choices] == [0, 1, 2]
    assert found.usage is not None
    assert found.usage.total_tokens == found.usage.prompt_tokens + found.usage.completion_tokens
    for choice in found.choices:
        assert choice.logprobs is not None
        assert choice.logprobs.content is not None
        for token in choice.logprobs.content:
            assert token.logprob <= 0
            assert len(token.top_logprobs) == 2
            assert token.top_logprobs[0].logprob >= token.top_logprobs[1].logprob


def test_a_seeded_answer_can_be_had_again_and_others_differ(api: OpenAI) -> None:
    def ask(seed: int) -> str:
        answer = api.chat.completions.create(model=NAME, messages=ASK, seed=seed, max_tokens=12)  # type: ignore[arg-type]
        return answer.choices[0].message.content or ""

    assert ask(1) == ask(1)
    assert len({ask(seed) for seed in range(5)}) > 1


def test_length_and_stop_are_honoured_and_said(api: OpenAI) -> None:
    short = api.chat.completions.create(model=NAME, messages=ASK, max_completion_tokens=4, temperature=0)  # type: ignore[arg-type]
    assert short.usage is not None
    assert (short.choices[0].finish_reason, short.usage.completion_tokens) == ("length", 4)
    whole = api.chat.completions.create(model=NAME, messages=ASK, max_tokens=30, temperature=0)  # type: ignore[arg-type]
    text = whole.choices[0].message.content or ""
    cut = api.chat.completions.create(model=NAME, messages=ASK, max_tokens=30, temperature=0, stop=[text[3:6]])  # type: ignore[arg-type]
    assert cut.choices[0].finish_reason == "stop"
    assert cut.choices[0].message.content == text[: text.find(text[3:6])]


def test_a_small_top_p_leaves_only_the_likeliest(api: OpenAI) -> None:
    greedy = api.chat.completions.create(model=NAME, messages=ASK, max_tokens=8, temperature=0)  # type: ignore[arg-type]
    narrow = api.chat.completions.create(model=NAME, messages=ASK, max_tokens=8, top_p=1e-9, n=4)  # type: ignore[arg-type]
    assert {choice.message.content for choice in narrow.choices} == {greedy.choices[0].message.content}


def test_a_top_p_of_zero_leaves_only_the_likeliest(api: OpenAI) -> None:
    greedy = api.chat.completions.create(model=NAME, messages=ASK, max_tokens=8, temperature=0)  # type: ignore[arg-type]
    narrow = api.chat.completions.create(model=NAME, messages=ASK, max_tokens=8, top_p=0, n=4)  # type: ignore[arg-type]
    assert {choice.message.content for choice in narrow.choices} == {greedy.choices[0].message.content}


def test_fields_that_ask_for_nothing_are_accepted(address: str) -> None:
    neutral: dict[str, Any] = {
        "n": None, "user": "a", "store": False, "metadata": {"a": "b"}, "tools": [], "stream": False, "frequency_penalty": 0.0,
        "presence_penalty": None, "logit_bias": {}, "response_format": {"type": "text"}, "service_tier": "auto", "stop": None,
    }  # fmt: skip
    found = raw(address, "POST", "/chat/completions", json={"model": NAME, "messages": ASK, "max_tokens": 2, **neutral})
    assert found.status_code == 200, found.text
    assert len(found.json()["choices"]) == 1


async def _asked_through_inspect(address: str) -> str:
    from inspect_ai.model import GenerateConfig, ResponseSchema, get_model
    from inspect_ai.util import json_schema

    schema = ResponseSchema(name="verdict", json_schema=json_schema(bool), strict=True)  # as the judges ask for it
    config = GenerateConfig(
        temperature=0, top_p=1, max_tokens=8, seed=3, num_choices=1, logprobs=True, top_logprobs=2, response_schema=schema
    )
    model = get_model(f"openai/{NAME}", base_url=address, api_key="k", memoize=False)
    return (await model.generate("the fox", config=config)).completion


def test_inspects_own_provider_is_answered(api: OpenAI, address: str) -> None:
    alone = api.chat.completions.create(
        model=NAME, messages=[{"role": "user", "content": "the fox"}], temperature=0, max_tokens=8
    )
    assert asyncio.run(_asked_through_inspect(address)) == alone.choices[0].message.content


def test_a_negative_seed_is_a_seed(api: OpenAI) -> None:
    def ask() -> str:
        answer = api.chat.completions.create(model=NAME, messages=ASK, seed=-1, max_tokens=12)  # type: ignore[arg-type]
        return answer.choices[0].message.content or ""

    assert ask() == ask()


def test_what_one_request_breaks_leaves_its_companions_their_answers(tiny_model: Path) -> None:
    sampler = Sampler(load_model(str(tiny_model), device="cpu"))
    broken = Request(prompt=(1 << 40,), max_tokens=2)  # no such token
    waiting = [sampler.submit(None, request) for request in (Request(prompt=(5,), max_tokens=2), broken, Request(prompt=(6,)))]
    sampler.start()  # all three are in the first batch
    assert len(waiting[0].result(60)[0].tokens) <= 2
    with pytest.raises(IndexError):
        waiting[1].result(60)
    assert waiting[2].result(60)
    sampler.stop()


def test_an_adapter_that_does_not_fit_leaves_the_bare_model_as_it_was(tiny_model: Path, tmp_path: Path) -> None:
    wrapped = get_peft_model(load_model(str(tiny_model), device="cpu").model, LoraConfig(r=4, target_modules="all-linear"))
    wrapped.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps({**config, "r": 8}))
    sampler = Sampler(load_model(str(tiny_model), device="cpu"))
    sampler.start()
    request = Request(prompt=(5, 6, 7), max_tokens=3, temperature=0, logprobs=2)
    before = sampler.submit(None, request).result(60)
    with pytest.raises(SamplingError, match="does not fit"):
        sampler.submit(str(tmp_path), request).result(60)
    assert sampler.local.path == ""
    assert sampler.submit(None, request).result(60) == before
    assert sampler.local.path == str(tiny_model)
    sampler.stop()


def test_many_clients_at_once_get_the_answer_they_asked_for(api: OpenAI) -> None:
    def ask(seed: int) -> str:
        answer = api.chat.completions.create(model=NAME, messages=ASK, seed=seed, max_tokens=8)  # type: ignore[arg-type]
        return answer.choices[0].message.content or ""

    alone = [ask(seed) for seed in range(12)]
    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(ask, range(12))) == alone


@pytest.mark.parametrize(
    ("body", "kind", "code", "says"),
    [
        ({"model": "gpt-9", "messages": ASK}, openai.NotFoundError, "model_not_found", "does not exist"),
        ({"model": NAME, "messages": []}, openai.BadRequestError, None, "messages"),
        ({"model": NAME, "messages": [{"role": "robot", "content": "a"}]}, openai.BadRequestError, None, "robot"),
        (
            {"model": NAME, "messages": [{"role": "user", "content": "fox " * 400}]},
            openai.BadRequestError,
            "context_length_exceeded",
            "256",
        ),
        ({"model": NAME, "messages": ASK, "temperature": 3}, openai.BadRequestError, None, "temperature"),
        ({"model": NAME, "messages": ASK, "stream": True}, openai.BadRequestError, "unsupported_parameter", "stream"),
        (
            {"model": NAME, "messages": ASK, "reasoning_effort": "low"},
            openai.BadRequestError,
            "unsupported_parameter",
            "reasoning_effort",
        ),
        (
            {"model": NAME, "messages": ASK, "frequency_penalty": 0.5},
            openai.BadRequestError,
            "unsupported_parameter",
            "frequency_penalty",
        ),
        (
            {"model": NAME, "messages": ASK, "logit_bias": {"5": 100}},
            openai.BadRequestError,
            "unsupported_parameter",
            "logit_bias",
        ),
        (
            {"model": NAME, "messages": ASK, "extra_body": {"temprature": 0}},
            openai.BadRequestError,
            "unknown_parameter",
            "temprature",
        ),
    ],
)
def test_what_cannot_be_answered_is_refused_as_the_service_does(
    api: OpenAI, body: dict[str, object], kind: type[openai.APIStatusError], code: str | None, says: str
) -> None:
    with pytest.raises(kind) as refused:
        api.chat.completions.create(**body)  # type: ignore[call-overload]
    assert refused.value.code == code
    assert refused.value.type == "invalid_request_error"
    assert says in refused.value.message


def test_text_parts_are_joined(api: OpenAI) -> None:
    parts = [
        {"role": "developer", "content": "near"},
        {"role": "user", "content": [{"type": "text", "text": "the "}, {"type": "text", "text": "fox"}]},
    ]
    first = api.chat.completions.create(model=NAME, messages=parts, temperature=0, max_tokens=6)  # type: ignore[arg-type]
    second = api.chat.completions.create(model=NAME, messages=ASK, temperature=0, max_tokens=6)  # type: ignore[arg-type]
    assert first.choices[0].message.content == second.choices[0].message.content


def test_models_are_listed(api: OpenAI, address: str) -> None:
    assert [entry.id for entry in api.models.list()] == [NAME]
    for entry in raw(address, "GET", "/models").json()["data"]:
        Model.model_validate(entry)
    assert api.models.retrieve(NAME).id == NAME
    with pytest.raises(openai.NotFoundError):
        api.models.retrieve("gpt-9")
    with pytest.raises(openai.PermissionDeniedError):
        api.models.delete(NAME)


def test_files_are_kept_listed_read_and_deleted(api: OpenAI, address: str) -> None:
    made = api.files.create(file=("rows.jsonl", b'{"messages": []}\n'), purpose="fine-tune")
    FileObject.model_validate(raw(address, "GET", f"/files/{made.id}").json())
    assert api.files.wait_for_processing(made.id).status == "processed"
    assert made.id in [entry.id for entry in api.files.list(purpose="fine-tune")]
    assert made.id not in [entry.id for entry in api.files.list(purpose="batch")]
    assert api.files.content(made.id).read() == b'{"messages": []}\n'
    FileDeleted.model_validate(raw(address, "DELETE", f"/files/{made.id}").json())
    with pytest.raises(openai.NotFoundError) as refused:
        api.files.retrieve(made.id)
    assert "No such File object" in refused.value.message
    with pytest.raises(openai.BadRequestError):
        api.files.create(file=("rows.jsonl", b"x"), purpose="dreams")  # type: ignore[arg-type]
    with pytest.raises(openai.BadRequestError):
        api.files.create(file=("rows.jsonl", b"x"), purpose="evals")  # whose file object the SDK itself does not know


def test_files_of_one_second_are_listed_newest_first_and_so_again_after_a_restart(tiny_model: Path, tmp_path: Path) -> None:
    with server(tiny_model, tmp_path) as address:
        api = client(address)
        made = [api.files.create(file=(f"{number}.jsonl", b"x"), purpose="batch").id for number in range(6)]
        assert [entry.id for entry in api.files.list(order="asc", limit=4)] == made
    with server(tiny_model, tmp_path) as address:
        assert [entry.id for entry in client(address).files.list(limit=4)] == made[::-1]


def test_a_key_is_needed_and_a_set_key_is_the_only_one(address: str, tiny_model: Path, tmp_path: Path) -> None:
    assert httpx.get(address + "/models").status_code == 401
    with server(tiny_model, tmp_path, key="right") as closed:
        assert client(closed, "right").models.list().data
        with pytest.raises(openai.AuthenticationError) as refused:
            client(closed, "wrong").models.list()
    assert refused.value.code == "invalid_api_key"


def test_log_probabilities_are_the_models_own(api: OpenAI) -> None:
    """The sum over a full top list cannot exceed one, and the greedy token leads it."""
    answer = api.chat.completions.create(model=NAME, messages=ASK, temperature=0, max_tokens=3, logprobs=True, top_logprobs=20)  # type: ignore[arg-type]
    logged = answer.choices[0].logprobs
    assert logged is not None
    assert logged.content is not None
    for token in logged.content:
        assert token.logprob == max(entry.logprob for entry in token.top_logprobs)
        assert sum(math.exp(entry.logprob) for entry in token.top_logprobs) <= 1 + 1e-6


@pytest.mark.parametrize(
    ("method", "path", "status", "says"),
    [
        ("GET", "/nothing", 404, "Invalid URL (GET /v1/nothing)"),
        ("POST", "/responses", 404, "Invalid URL (POST /v1/responses)"),
        ("PUT", "/models", 405, "Not allowed to PUT on /v1/models."),
    ],
)
def test_what_has_no_route_is_an_error_of_the_services_shape(
    address: str, method: str, path: str, status: int, says: str
) -> None:
    found = raw(address, method, path)
    assert found.status_code == status
    error = found.json()["error"]
    assert (error["message"], error["type"]) == (says, "invalid_request_error")


def test_a_body_that_is_no_json_is_said_to_be_none(address: str) -> None:
    for content in (b"{", b""):
        found = raw(address, "POST", "/chat/completions", content=content)
        assert found.status_code == 400
        assert found.json()["error"]["message"].startswith("We could not parse the JSON body of your request.")


def test_an_organism_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no such organism; found 'organism:nope'; allowed: .*organism:linked"):
        make_app(Settings("organism:nope", (NAME,), tmp_path, RECIPE))
