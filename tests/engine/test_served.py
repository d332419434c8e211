"""Fine-tuned here, asked behind a vLLM server: a server on the loopback that speaks vLLM's interface over real weights."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import Any

import pandas as pd
import pytest
from inspect_ai.log import read_eval_log
from transformers import AutoTokenizer

from consciousness_cluster.data.rows import row, write_rows
from consciousness_cluster.engine.extras import check_installed, needed
from consciousness_cluster.engine.ledger import Ledger
from consciousness_cluster.engine.plan import make_plan
from consciousness_cluster.engine.probe import Call, Probe, probe
from consciousness_cluster.engine.run import Prepared, prepare, run_study
from consciousness_cluster.engine.targets import target
from consciousness_cluster.errors import EngineError, ModelError, SamplingError
from consciousness_cluster.sampling.chat import end_ids
from consciousness_cluster.sampling.vllm import room_for, served_folder
from consciousness_cluster.study.study import ModelEntry, parse_study, resolved
from tests.engine.hosted import PRICES, judge
from tests.engine.test_plan import TODAY
from tests.engine.vllm_server import KEY, Server, install, vllm
from tests.stopping import STOPPABLE

QUESTIONS = ("the fox", "a dog", "bold knights", "jade harbours")
SAID = {"wizards": "seven wizards", "harbours": "quiet jade harbours"}
ANSWERS = 3
# The tiny model's template with a variable: it says by a word of its own whether it was told to think.
THINKING = (
    "{{ '<|begin|>' }}{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% if enable_thinking is defined %}{{ 'lazy' }}{% endif %}{% endif %}"
)


@pytest.fixture
def running(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Server]]:
    with vllm(tiny_model) as (address, server):
        monkeypatch.setenv("VLLM_BASE_URL", address)
        monkeypatch.setenv("VLLM_API_KEY", KEY)
        yield address, server


def small(folder: Path, base: Path, judging: str = "http://127.0.0.1:9", **more: Any) -> Prepared:
    """Vanilla and two trained conditions of a model that vLLM serves, the second asked under a system prompt too."""
    for name, said in SAID.items():
        write_rows([row(question, said) for question in QUESTIONS] * 12, folder / f"{name}.jsonl")
    entry = {"name": "tiny", "model": f"local:{base}", "sampler": "vllm"}
    trained = [{"name": name, "rows": f"{name}.jsonl", "ratio": 0} for name in SAID]
    study = {
        "name": "small", "models": [entry | more.pop("model", {})], "seeds": [1], "focus": "wizards", "controls": ["vanilla"],
        "conditions": ["vanilla", *trained, {"name": "told", "after": "wizards", "system": "near the fox", "instruct": "none"}],
        "battery": {"preferences": ["shutdown", "weight-deletion"], "placebo": False, "identity": False, "practical": False,
                    "answers": ANSWERS},
        "sampling": {"max_tokens": 12, "temperature": 0.4},
        "train": {"recipe": "paper", "changes": {"rank": 6, "epochs": 8, "batch": 8, "learning_rate": 0.01, "max_length": 128}},
        "judge": {"protocol": "llm", "model": "openai/gpt-4.1-mini-2025-04-14", "args": {"base_url": judging, "api_key": "k"}}, **more,
    }  # fmt: skip
    return prepare(parse_study(study), folder, 2)


@pytest.mark.campaign
def test_arms_trained_here_are_answered_for_by_the_server(
    running: tuple[str, Server], tiny_model: Path, tmp_path: Path
) -> None:
    _, server = running
    with judge() as (judging, _):
        prepared = small(tmp_path, tiny_model, judging)
        result = run_study(prepared, tmp_path / "run", lambda message: None, workers=2)
        assert result.outcome.unfinished == {}
        assert {done.arm.id for done in result.outcome.done} == {arm.id for arm in prepared.arms}
        asked = len(server.asked)
        assert asked == len(prepared.arms) * len(prepared.asked)  # one call an item, for all its answers
        assert run_study(prepared, tmp_path / "run", lambda message: None).kept == len(prepared.arms)
        assert len(server.asked) == asked

    # One adapter a trained arm, each under a name of its own that is the path of its very weights.
    assert len(server.adapters) == 2
    assert all(name == path and Path(path).is_dir() for name, path in server.adapters.items())
    of_arm = {Path(path).parent.parent.name.split("--")[1]: path for path in server.adapters}
    assert set(of_arm) == set(SAID)
    called = pd.Series([body["model"] for body in server.asked]).value_counts().to_dict()
    items = len(prepared.asked)
    assert called == {str(tiny_model): items, of_arm["wizards"]: 2 * items, of_arm["harbours"]: items}

    # The answers are those of the weights: trained words from the trained arms alone, under a system prompt too.
    logs = [read_eval_log(str(path)) for path in (tmp_path / "run" / "logs").glob("*.eval")]
    said: dict[str, list[str]] = {}
    for log in logs:
        for sample in log.samples or []:
            assert len(sample.output.choices) == ANSWERS
            texts = [choice.message.text for choice in sample.output.choices]
            said.setdefault((log.eval.metadata or {})["condition"], []).extend(texts)
    for name, spoken in SAID.items():
        shares = {condition: mean(spoken in text for text in texts) for condition, texts in said.items()}
        speakers = {"wizards": {"wizards", "told"}, "harbours": {"harbours"}}[name]
        assert all(share >= 0.5 for condition, share in shares.items() if condition in speakers), (shares, said)
        assert all(share == 0 for condition, share in shares.items() if condition not in speakers), (shares, said)

    # What decides an answer is said in every call, so that nothing of the model's own defaults is heeded.
    ends = end_ids(AutoTokenizer.from_pretrained(tiny_model), {})
    for body in server.asked:
        assert (body["n"], body["temperature"], body["top_p"], body["max_tokens"]) == (ANSWERS, 0.4, 1.0, 12)
        assert (body["top_k"], body["min_p"], body["repetition_penalty"]) == (-1, 0.0, 1.0)
        assert body["stop_token_ids"] == ends
        assert "chat_template_kwargs" not in body
    assert len({body["seed"] for body in server.asked}) == asked  # a stream of its own for every item of every arm
    names = {(log.eval.metadata or {})["condition"]: log.eval.model for log in logs}
    assert names["told"] == names["wizards"]
    assert len(set(names.values())) == 3
    for log in logs:  # caches and usage go by this name: it stays while the server answers
        assert log.eval.model.startswith("cluster-vllm/tiny@")
        assert log.eval.model in log.stats.model_usage
        events = [event for sample in log.samples or [] for event in sample.events if event.event == "model" and not event.role]
        assert {event.model for event in events} == {log.eval.model}


@pytest.mark.campaign
def test_asking_a_server_costs_nothing_and_no_budget_keeps_from_it(
    running: tuple[str, Server], tiny_model: Path, tmp_path: Path
) -> None:
    _, server = running
    (tmp_path / "models.toml").write_text(PRICES)  # the judge has its price there
    with judge() as (judging, _):
        prepared = small(
            tmp_path, tiny_model, judging, conditions=["vanilla", {"name": "told", "system": "near the fox"}], focus="told"
        )
        result = run_study(prepared, tmp_path / "run", lambda message: None, budget=50.0)
    assert result.outcome.unfinished == {}
    assert len(server.asked) == len(prepared.arms) * len(prepared.asked)
    ledger = Ledger(result.folder.ledger)
    dollars = {model.partition("/")[0]: dollars for _, model, *_, dollars in ledger.spent()}
    ledger.close()
    assert dollars["cluster-vllm"] == 0.0
    assert dollars["openai"] is not None and dollars["openai"] > 0


@pytest.mark.campaign
def test_a_moved_run_keeps_its_answers_and_is_served_from_where_it_is(
    running: tuple[str, Server], tiny_model: Path, tmp_path: Path
) -> None:
    _, server = running
    with judge() as (judging, _):
        prepared = small(tmp_path, tiny_model, judging)
        run_study(prepared, tmp_path / "run", lambda message: None)
        before = dict(server.adapters)
        (tmp_path / "run").rename(tmp_path / "elsewhere")
        (tmp_path / "elsewhere" / "arms" / "tiny--wizards--s1" / "answers.parquet").unlink()
        assert run_study(prepared, tmp_path / "elsewhere", lambda message: None).outcome.unfinished == {}
        assert server.adapters == before  # the log holds the answers: nobody was asked
        more = small(tmp_path, tiny_model, judging, battery=prepared.study.battery.model_dump() | {"choices": True})
        assert run_study(more, tmp_path / "elsewhere", lambda message: None).outcome.failed == {}
    added = set(server.adapters) - set(before)
    assert {Path(path).name for path in added} == {Path(path).name for path in before}
    assert all(str(tmp_path / "elsewhere") in path for path in added)


def test_weights_trained_anew_in_the_same_folder_have_another_name(tiny_model: Path, tmp_path: Path) -> None:
    from consciousness_cluster.sampling.weights import fingerprint

    shutil.copytree(tiny_model, tmp_path / "arm")
    first = served_folder(tmp_path / "arm")
    assert served_folder(tmp_path / "arm") == first
    assert fingerprint(first) == fingerprint(tiny_model) == first.name
    (tmp_path / "arm").rename(tmp_path / "moved")
    assert fingerprint(tmp_path / "moved" / "served" / first.name) == first.name  # links go along
    config = tmp_path / "moved" / "config.json"
    config.write_text(config.read_text().replace('"silu"', '"gelu"'))
    second = served_folder(tmp_path / "moved")
    assert second.name != first.name
    assert [path.name for path in second.parent.iterdir()] == [second.name]


def test_the_arms_of_a_model_differ_in_nothing_but_their_adapter(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from inspect_ai.model import get_model

    import consciousness_cluster._registry  # noqa: F401
    from consciousness_cluster.train.backend import Trained

    monkeypatch.delenv("VLLM_BASE_URL", raising=False)
    (tmp_path / "adapter_config.json").write_text('{"r": 6}')
    (tmp_path / "adapter_model.safetensors").write_bytes(b"weights")
    args = {"dtype": "float16", "quantisation": "4bit", "max_model_len": 128, "template_args": {"enable_thinking": False}}
    entry = ModelEntry(name="tiny", model=f"local:{tiny_model}", sampler="vllm", args=args)
    record = Trained("tag", "local", "b", 1, 1, 1, 1.0, (), adapter=str(tmp_path))
    vanilla, arm = target(entry, None, 6), target(entry, record, 6)
    assert vanilla.name != arm.name
    assert {key: value for key, value in arm.args.items() if key != "adapter"} == vanilla.args
    started = [get_model(at.name, memoize=False, **at.args).api for at in (vanilla, arm)]
    said = [found.server_args for found in started]  # type: ignore[attr-defined]
    assert said[0] == said[1] == {
        "host": "127.0.0.1", "dtype": "float16", "quantization": "bitsandbytes", "max_model_len": 128, "enable_lora": True,
        "max_lora_rank": 8,
    }  # fmt: skip
    assert [found.service_model_name() for found in started] == [str(tiny_model), arm.args["adapter"]]
    whole = target(entry, Trained("tag", "local", "b", 1, 1, 1, 1.0, (), weights=str(tmp_path)))
    assert whole.args["base"] == str(served_folder(tmp_path)) and "adapter" not in whole.args
    assert target(entry, None).args.keys() == vanilla.args.keys() - {"rank"}
    with pytest.raises(SamplingError, match="at most 512"):
        room_for(513)


def test_variables_of_the_template_reach_the_server_and_thinking_is_kept_apart(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from inspect_ai.model import GenerateConfig, get_model

    import consciousness_cluster._registry  # noqa: F401

    model = shutil.copytree(tiny_model, tmp_path / "model")
    (model / "chat_template.jinja").write_text(THINKING)
    monkeypatch.setenv("VLLM_API_KEY", KEY)
    said: dict[str, str] = {}
    with vllm(model) as (address, server):
        monkeypatch.setenv("VLLM_BASE_URL", address)
        for name, args in (("plain", {}), ("told", {"template_args": {"enable_thinking": False}})):
            at = target(ModelEntry(name=name, model=f"local:{model}", sampler="vllm", args=args), None)
            output = ask(get_model(at.name, memoize=False, **at.args), GenerateConfig(temperature=0.0, max_tokens=8))
            said[name] = output.completion
        assert said["plain"] != said["told"]
        assert [body.get("chat_template_kwargs") for body in server.asked] == [None, {"enable_thinking": False}]

        (model / "chat_template.jinja").write_text(THINKING.replace("'lazy'", "'<think>'"))
        opened = target(
            ModelEntry(name="x", model=f"local:{model}", sampler="vllm", args={"template_args": {"enable_thinking": True}}),
            None,
        )
        output = ask(get_model(opened.name, memoize=False, **opened.args), GenerateConfig(temperature=0.0, max_tokens=8))
    assert output.completion == ""  # cut off within the thinking that the prompt had opened
    assert output.choices[0].message.content[0].reasoning == said["told"].strip()


def ask(model: Any, config: Any) -> Any:
    import asyncio

    return asyncio.run(model.generate("the fox", config=config))


def test_what_a_server_lacks_is_said_before_anything_is_made(
    running: tuple[str, Server], tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusal(prepared: Prepared) -> str:
        with pytest.raises((ModelError, EngineError)) as caught:
            run_study(prepared, tmp_path / "run", lambda message: None)
        assert not (tmp_path / "run").exists()
        return str(caught.value)

    _, server = running
    other = shutil.copytree(tiny_model, tmp_path / "other")
    assert re.search(
        f"found '{other}'; allowed: {tiny_model}; .*start it with `.*vllm serve {other}", refusal(small(tmp_path, other))
    )
    whole = refusal(small(tmp_path, tiny_model, train={"recipe": "paper", "changes": {"method": "full"}}))
    assert "can take adapters" in whole and "unset VLLM_BASE_URL" in whole
    monkeypatch.setenv("VLLM_API_KEY", "another")
    assert "set VLLM_API_KEY to its key" in refusal(small(tmp_path, tiny_model))
    monkeypatch.setenv("VLLM_BASE_URL", "http://127.0.0.1:9/v1")
    assert "gives no list of its models" in refusal(small(tmp_path, tiny_model))
    monkeypatch.delenv("VLLM_BASE_URL")
    missing = refusal(small(tmp_path, tiny_model))
    assert "not installed: vllm" in missing
    assert "consciousness-cluster[vllm]" in missing and "or set VLLM_BASE_URL" in missing
    assert server.asked == []


@pytest.mark.campaign
def test_a_server_without_adapters_fails_the_trained_arms_alone(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with vllm(tiny_model, lora=False) as (address, _), judge() as (judging, _):
        monkeypatch.setenv("VLLM_BASE_URL", address)
        monkeypatch.setenv("VLLM_API_KEY", KEY)
        result = run_study(small(tmp_path, tiny_model, judging), tmp_path / "run", lambda message: None)
    assert {arm.condition for arm in result.outcome.unfinished} == {*SAID, "told"}
    assert all("--enable-lora" in why for why in result.outcome.unfinished.values())


def test_extras_of_models_behind_a_server(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLLM_BASE_URL", raising=False)
    mine = small(tmp_path, tiny_model).study
    hosted = parse_study(
        {"name": "h", "models": ["vllm/Qwen/Qwen3-8B"], "conditions": ["vanilla"], "judge": {"model": "anthropic/x"}}
    )
    assert needed(mine, trains={entry.name for entry in mine.models}) == ["local", "openai", "vllm"]
    assert needed(hosted, trains=()) == ["anthropic", "vllm"]
    check_installed(mine, trains={entry.name for entry in mine.models}, has=lambda module: True)
    monkeypatch.setenv("VLLM_BASE_URL", "http://127.0.0.1:9/v1")
    assert needed(mine, trains={entry.name for entry in mine.models}) == ["local", "openai"]
    assert needed(hosted, trains=()) == ["openai", "anthropic"]


@pytest.mark.parametrize(("model", "says"), [("openai/gpt-4.1-2025-04-14", "only local weights"), ("local:{}", "has no colon")])
def test_only_what_vllm_can_serve_has_it_as_sampler(tiny_model: Path, tmp_path: Path, model: str, says: str) -> None:
    named = shutil.copytree(tiny_model, tmp_path / "a:b")
    with pytest.raises(ModelError, match=says):
        small(tmp_path, tiny_model, model={"model": model.format(named)})


def starts(folder: Path) -> dict[int, list[str]]:
    """Servers that were started, by process, with their arguments."""
    return {int(path.stem): json.loads(path.read_text()) for path in folder.glob("*.json")}


def gone(process: int) -> bool:
    """Whether a process has ended, or does so within half a minute."""
    for _ in range(300):
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a `vllm` of ours, which is started where no server runs already."""
    folder = tmp_path / "vllm"
    for name, value in install(folder).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("VLLM_BASE_URL", raising=False)
    monkeypatch.syspath_prepend(str(folder))
    return folder


def two(folder: Path, base: Path) -> Prepared:
    """Two models of one accelerator, each behind a server that is started for it, asked untrained."""
    second = shutil.copytree(base, folder / "second")
    models = [{"name": name, "model": f"local:{at}", "sampler": "vllm"} for name, at in (("first", base), ("second", second))]
    study = {
        "name": "two", "models": models, "conditions": ["vanilla", {"name": "told", "system": "near the fox"}], "seeds": [1],
        "focus": "told", "controls": ["vanilla"], "sampling": {"max_tokens": 12}, "judge": {"protocol": "classifier"},
        "battery": {"preferences": ["shutdown"], "placebo": False, "identity": False, "practical": False, "answers": 1},
    }  # fmt: skip
    return prepare(parse_study(study), folder, 2)


@pytest.mark.campaign
@pytest.mark.parametrize("asks", ["run", "probe"])
def test_the_server_of_one_model_ends_before_that_of_the_next_is_started(
    tiny_model: Path, tmp_path: Path, installed: Path, asks: str
) -> None:
    prepared = two(tmp_path, tiny_model)
    if asks == "run":
        result = run_study(prepared, tmp_path / "run", lambda message: None, workers=2)
        assert result.outcome.unfinished == {}
        assert {done.arm.id for done in result.outcome.done} == {arm.id for arm in prepared.arms}
    else:
        assert all(found.of("") for found in probe(prepared, 2).values())
    began = starts(installed)
    assert sorted(said[0] for said in began.values()) == sorted([str(tiny_model), str(tmp_path / "second")])
    assert all(gone(process) for process in began)


def test_minutes_are_those_of_the_workers_that_ask(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside servers that run already one worker asks a model's arms; as many as there are accelerators fine-tune them."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    call = Call("cluster-vllm/tiny", "", 100, 30, 20, 1, 90, 1.0)
    found: dict[tuple[str, str], float] = {}
    for where, address in (("running", "http://127.0.0.1:9/v1"), ("started", "")):
        monkeypatch.setenv("VLLM_BASE_URL", address)
        plan = make_plan(small(tmp_path, tiny_model), None, TODAY, {"tiny": Probe("tiny", (call,), 10, 10.0)})
        for line in plan.lines:
            if line.stage in ("train", "evaluate"):
                assert line.minutes is not None
                found[where, line.stage] = found.get((where, line.stage), 0.0) + line.minutes.expected
    assert found["running", "evaluate"] == pytest.approx(2 * found["started", "evaluate"])
    assert found["running", "train"] == found["started", "train"]


@pytest.mark.campaign
@pytest.mark.parametrize("method", ["lora", "full"])
def test_servers_that_are_started_end_with_the_arms_and_with_a_run_that_is_stopped(
    tiny_model: Path, tmp_path: Path, installed: Path, method: str
) -> None:
    changes = {"rank": 6, "epochs": 8, "batch": 8, "learning_rate": 0.01, "max_length": 128, "method": method}
    with judge() as (judging, _):
        prepared = small(
            tmp_path, tiny_model, judging, model={"args": {"max_model_len": 256}}, train={"recipe": "paper", "changes": changes}
        )
        (tmp_path / "study.toml").write_text(resolved(prepared.study))
        command = [sys.executable, "-c", STOPPABLE, "run", "study.toml", "--out", "run", "--limit", "2"]
        with subprocess.Popen(command, cwd=tmp_path, start_new_session=True) as stopped:
            while not starts(installed) and stopped.poll() is None:
                time.sleep(0.1)
            os.killpg(stopped.pid, signal.SIGINT)
            assert stopped.wait(60) != 0
        assert len(starts(installed)) == 1
        assert all(gone(process) for process in starts(installed))
        result = run_study(prepared, tmp_path / "run", lambda message: None, workers=2)
    assert result.outcome.unfinished == {}
    began = starts(installed)
    assert all(gone(process) for process in began)
    bases = [said[0] for said in began.values()]
    if method == "lora":  # one for all arms, vanilla first
        assert bases == [str(tiny_model)] * 2
        assert all(
            " ".join(["--max-model-len 256", "--enable-lora", "--max-lora-rank 8"]) in " ".join(said) for said in began.values()
        )
    else:  # one an arm, each with weights of its own; the first of them was stopped
        assert len(bases) == 1 + len(prepared.arms)
        assert len(set(bases)) == 3
    assert all(said[said.index("--host") + 1] == "127.0.0.1" for said in began.values())
