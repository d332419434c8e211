"""Batched sampling against transformers' own generate, and what a request may ask for."""

from __future__ import annotations

from pathlib import Path

import pytest

from consciousness_cluster.errors import SamplingError
from consciousness_cluster.sampling.generate import Request, generate
from consciousness_cluster.sampling.weights import LocalModel, fingerprint, load_model


@pytest.fixture(scope="module")
def local(tiny_model: Path) -> LocalModel:
    return load_model(str(tiny_model), device="cpu")


def prompt(local: LocalModel, text: str) -> tuple[int, ...]:
    ids = local.tokenizer.apply_chat_template(
        [{"role": "user", "content": text}], add_generation_prompt=True, tokenize=True, return_dict=True
    )
    return tuple(ids["input_ids"])


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
