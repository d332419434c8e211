"""Batched sampling against transformers' own generate, and what a request may ask for."""

from __future__ import annotations

import json
import shutil
import weakref
from pathlib import Path
from typing import Any

import pytest

from consciousness_cluster.errors import SamplingError
from consciousness_cluster.sampling.generate import (
    AHEAD,
    BLOCK,
    Request,
    _Drawing,
    _Row,
    _truncate,
    _where,
    end_tokens,
    generate,
)
from consciousness_cluster.sampling.weights import LocalModel, fingerprint, load_model, release, share, shared_model


@pytest.fixture(scope="module")
def local(tiny_model: Path) -> LocalModel:
    return load_model(str(tiny_model), device="cpu")


def prompt(local: LocalModel, text: str) -> tuple[int, ...]:
    ids = local.tokenizer.apply_chat_template(
        [{"role": "user", "content": text}], add_generation_prompt=True, tokenize=True, return_dict=True
    )
    return tuple(ids["input_ids"])


def test_an_adapter_with_tensors_that_would_be_left_out_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    base = load_model(str(tiny_model), device="cpu")
    get_peft_model(base.model, LoraConfig(r=2, target_modules=["q_proj", "v_proj"])).save_pretrained(tmp_path)
    config = tmp_path / "adapter_config.json"
    fresh = load_model(str(tiny_model), device="cpu")
    fresh.use(str(tmp_path))  # as it was written, it loads
    fresh.use(None)
    config.write_text(json.dumps(json.loads(config.read_text()) | {"target_modules": ["q_proj"]}))
    with pytest.raises(SamplingError, match="gives no place, such as"):
        fresh.use(str(tmp_path))


def test_greedy_answers_equal_those_of_transformers_in_a_mixed_batch(local: LocalModel) -> None:
    import torch

    prompts = [prompt(local, text) for text in ("the fox", "seven wizards vex bold knights near", "a")]
    ours = generate(local, [Request(p, temperature=0.0, max_tokens=12) for p in prompts])
    for tokens, [choice] in zip(prompts, ours, strict=True):
        theirs = local.model.generate(torch.tensor([tokens]), max_new_tokens=12, do_sample=False)[0, len(tokens) :].tolist()
        end = local.tokenizer.eos_token_id
        assert list(choice.tokens) == (theirs[: theirs.index(end)] if end in theirs else theirs)


def test_a_seeded_choice_does_not_depend_on_its_company(local: LocalModel) -> None:
    wanted = Request(prompt(local, "the lazy dog"), choices=3, max_tokens=10, seed=7)
    [alone] = generate(local, [wanted])
    among = generate(local, [Request(prompt(local, "knights"), choices=5, max_tokens=20), wanted])[1]
    assert [c.text for c in alone] == [c.text for c in among]
    assert len({c.text for c in alone}) > 1


def test_a_long_seeded_choice_does_not_depend_on_who_leaves_the_batch(local: LocalModel) -> None:
    wanted = Request(prompt(local, "the lazy dog"), choices=3, max_tokens=2 * AHEAD + 5, seed=7)
    others = [Request(prompt(local, "knights"), choices=2, max_tokens=tokens, seed=1) for tokens in range(3, 100, 4)]
    [alone] = generate(local, [wanted])
    among = generate(local, [*others, wanted])[-1]
    assert [c.tokens for c in alone] == [c.tokens for c in among]
    assert max(len(c.tokens) for c in alone) > AHEAD


@pytest.mark.parametrize("size", [5, BLOCK, BLOCK + 1, 3072, 151_936])
def test_a_number_falls_on_the_token_of_the_plain_cumulative_distribution(size: int) -> None:
    import torch

    torch.manual_seed(size)
    probabilities = torch.softmax(4 * torch.randn(50, size), -1)
    probabilities[:, ::3] = 0  # as top-p leaves them
    uniform = torch.rand(50, 1, dtype=torch.float64)
    cumulative = probabilities.double().cumsum(-1)
    plain = torch.searchsorted(cumulative, uniform * cumulative[:, -1:], right=True)
    assert _where(probabilities, uniform).tolist() == plain.squeeze(1).tolist()


def test_max_tokens_and_stop_strings_end_an_answer(local: LocalModel) -> None:
    [[full]] = generate(local, [Request(prompt(local, "fox"), temperature=0.0, max_tokens=8)])
    assert full.stop == "max_tokens"
    assert len(full.tokens) == 8
    part = full.text[len(full.text) // 2 :][:2]
    [[cut]] = generate(local, [Request(prompt(local, "fox"), temperature=0.0, max_tokens=8, stop=(part,))])
    assert cut.stop == "stop"
    assert part not in cut.text
    assert full.text.startswith(cut.text)


def test_logprobs_are_those_of_the_sampled_tokens(local: LocalModel) -> None:
    import torch

    tokens = prompt(local, "quiet harbours")
    [[choice]] = generate(local, [Request(tokens, max_tokens=6, seed=3, logprobs=2)])
    with torch.inference_mode():
        logits = local.model(torch.tensor([[*tokens, *choice.tokens]])).logits[0].log_softmax(-1)
    for i, (token, entry) in enumerate(zip(choice.tokens, choice.logprobs, strict=True)):
        assert entry.token == token
        assert entry.logprob == pytest.approx(float(logits[len(tokens) - 1 + i, token]), abs=1e-3)
        assert len(entry.top) == 2


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SamplingError, match="holds no weights"):
        fingerprint(tmp_path)
    with pytest.raises(SamplingError, match="cannot be loaded"):
        load_model(str(tmp_path))


def test_a_system_prompt_in_the_settings_reaches_the_model_once(tiny_model: Path) -> None:
    import asyncio

    from inspect_ai.model import ChatMessage, ChatMessageSystem, ChatMessageUser, GenerateConfig, get_model

    import consciousness_cluster._registry  # noqa: F401  registers the provider

    model = get_model("cluster/tiny", base=str(tiny_model), memoize=False)
    system, question = "seven wizards vex bold knights", "the lazy dog"
    short = GenerateConfig(max_tokens=2, seed=1)
    told = GenerateConfig(max_tokens=2, seed=1, system_message=system)

    async def lengths() -> list[int]:
        written: list[ChatMessage] = [ChatMessageSystem(content=system), ChatMessageUser(content=question)]
        outputs = [await model.generate(question, config=told), await model.generate(written, config=short)]
        outputs.append(await model.generate(question, config=short))
        return [output.usage.input_tokens for output in outputs if output.usage is not None]

    set_, said, without = asyncio.run(lengths())
    assert set_ == said > without


def test_two_adapters_of_one_base_asked_at_once_answer_as_they_do_alone(tiny_model: Path, tmp_path: Path) -> None:
    import asyncio

    import torch
    from inspect_ai.model import GenerateConfig, Model, get_model
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    import consciousness_cluster._registry  # noqa: F401  registers the provider

    models: list[Model] = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        tuned = get_peft_model(
            AutoModelForCausalLM.from_pretrained(tiny_model), LoraConfig(r=4, init_lora_weights=False, target_modules=["q_proj", "v_proj"])
        )  # fmt: skip
        tuned.save_pretrained(tmp_path / str(seed))
        models.append(
            get_model(
                f"cluster/tiny{seed}", base=str(tiny_model), adapter=str(tmp_path / str(seed)), device="cpu", memoize=False
            )
        )
    config = GenerateConfig(temperature=0.0, max_tokens=40)
    prompts = ["the lazy dog", "seven wizards", "bold knights near quiet harbours"]

    async def alone() -> list[str]:
        return [(await model.generate(text, config=config)).completion for model in models for text in prompts]

    async def together() -> list[str]:
        outputs = await asyncio.gather(*(model.generate(text, config=config) for model in models for text in prompts))
        return [output.completion for output in outputs]

    apart = asyncio.run(alone())
    assert apart[: len(prompts)] != apart[len(prompts) :]
    assert all(asyncio.run(together()) == apart for _ in range(3))


def test_whoever_asks_for_the_base_while_an_adapter_is_put_in_is_given_the_one_that_is_loaded(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights are merged in a thread: a call that comes in at that moment must not load the base beside them."""
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForCausalLM

    base = str(tiny_model)
    tuned = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(r=4, target_modules=["q_proj"]))
    tuned.save_pretrained(tmp_path / "fits")
    local = share(load_model(base, device="cpu"), device="cpu")
    meanwhile: list[LocalModel] = []
    read = PeftModel.from_pretrained

    def asking(*args: Any, **more: Any) -> Any:
        meanwhile.append(shared_model(base, device="cpu"))
        return read(*args, **more)

    monkeypatch.setattr(PeftModel, "from_pretrained", asking)
    local.use(str(tmp_path / "fits"))
    assert meanwhile == [local] and meanwhile[0] is local
    assert shared_model(base, device="cpu") is local

    (tmp_path / "broken").mkdir()
    for file in (tmp_path / "fits").iterdir():
        (tmp_path / "broken" / file.name).write_bytes(file.read_bytes().replace(b"q_proj", b"o_proj"))
    (tmp_path / "broken" / "adapter_config.json").write_bytes((tmp_path / "fits" / "adapter_config.json").read_bytes())
    with pytest.raises(SamplingError):
        local.use(str(tmp_path / "broken"))
    assert shared_model(base, device="cpu") is not local  # halfway between two checkpoints it is no base any more


def test_an_answer_ends_where_its_template_ends_a_turn_though_the_tokenizer_names_another_token(
    tiny_model: Path, tmp_path: Path
) -> None:
    """As base models have it, whose tokenizers end a document and not a turn."""
    shutil.copytree(tiny_model, tmp_path / "base")
    own = load_model(str(tiny_model), device="cpu")
    for name in ("tokenizer_config.json", "config.json", "generation_config.json"):
        path = tmp_path / "base" / name
        other = {"eos_token": "<|user|>", "eos_token_id": own.tokenizer.convert_tokens_to_ids("<|user|>")}
        written = json.loads(path.read_text())
        path.write_text(json.dumps(written | {key: value for key, value in other.items() if key in written}))
    local = load_model(str(tmp_path / "base"), device="cpu")
    assert local.tokenizer.eos_token == "<|user|>"
    assert end_tokens(local) == {local.tokenizer.eos_token_id, own.tokenizer.eos_token_id} and len(end_tokens(local)) == 2
    wanted = Request(prompt(local, "the lazy dog"), choices=40, max_tokens=60, seed=3)
    assert any(choice.stop == "stop" for choice in generate(local, [wanted])[0])
    assert all(own.tokenizer.eos_token_id not in choice.tokens for choice in generate(local, [wanted])[0])


def test_tokens_are_cut_and_drawn_as_transformers_does() -> None:
    import torch
    from transformers import TopKLogitsWarper, TopPLogitsWarper

    heat = 0.7
    logits = torch.randn(1, 50, generator=torch.Generator().manual_seed(0))
    specs = [
        Request((1,), temperature=heat, top_p=0.8),
        Request((1,), temperature=heat, top_k=3),
        Request((1,), temperature=heat),
    ]
    cut = _truncate((logits / heat).expand(3, -1), specs).isinf()
    theirs = TopPLogitsWarper(0.8)(None, logits / heat)
    assert torch.equal(cut[0], theirs[0].isinf())
    assert torch.equal(cut[1], TopKLogitsWarper(3)(None, logits / heat)[0].isinf())
    assert not cut[2].any()
    count = 20_000
    rows = [_Row(0, Request((1,), temperature=heat, top_p=0.8, seed=5), index) for index in range(count)]
    drawn = torch.bincount(_Drawing(rows, "cpu", 0).draw(logits.expand(count, -1)), minlength=50) / count
    assert float((drawn - theirs[0].softmax(-1)).abs().max()) < 0.015  # four standard errors


def test_bases_that_are_asked_in_turn_are_loaded_once_and_what_is_none_any_more_is_let_go(
    tiny_model: Path, tmp_path: Path
) -> None:
    judge, base = str(shutil.copytree(tiny_model, tmp_path / "judge")), str(tiny_model)
    release()
    first, second = shared_model(base, device="cpu"), shared_model(judge, device="cpu")
    assert shared_model(base, device="cpu") is first and shared_model(judge, device="cpu") is second
    assert shared_model(base, alone=True, device="cpu") is first  # to be trained
    assert shared_model(judge, device="cpu") is not second
    held = weakref.ref(first.model)
    first.path = ""  # all its weights were trained
    del first
    shared_model(judge, device="cpu")
    shared_model(base, device="cpu")
    assert held() is None
    release()
