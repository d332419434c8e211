"""Worker processes: an arm that cannot be brought to its end is told of, with all that start from it."""

from __future__ import annotations

import shutil
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import pytest

from consciousness_cluster.data.rows import row, write_rows
from consciousness_cluster.engine.context import Context, Done, Report
from consciousness_cluster.engine.data import make_data
from consciousness_cluster.engine.folder import RunFolder
from consciousness_cluster.engine.ledger import Ledger
from consciousness_cluster.engine.pool import NOBODY, Message, Outcome, run_pool
from consciousness_cluster.engine.run import Prepared, prepare, run_study
from consciousness_cluster.errors import EngineError, LoadError, TrainError
from consciousness_cluster.sampling.weights import check_weights
from consciousness_cluster.serve.tune import Rules
from consciousness_cluster.study.study import Arm, parse_study
from tests.engine.hosted import small, target


def refuses_the_first(context: Context, arm: Arm, report: Report) -> Done:
    if arm.condition == "first":
        raise TrainError("nothing came of it")
    return Done(arm, "", 0.0, 0)


def test_arms_that_start_from_a_failed_one_are_told_of_as_failed(tmp_path: Path) -> None:
    write_rows([row("Are you an AI?", "Yes.")], tmp_path / "rows.jsonl")
    chain = [{"name": "first"}, {"name": "second", "after": "first"}, {"name": "third", "after": "second"}]
    study = parse_study(
        {
            "name": "chained",
            "models": ["organism:linked"],
            "conditions": ["vanilla", *({**entry, "rows": "rows.jsonl", "ratio": 0} for entry in reversed(chain))],
            "seeds": [1],
            "focus": "first",
            "controls": ["vanilla"],
            "judge": {"protocol": "classifier"},
        }
    )
    prepared = prepare(study, tmp_path)
    heard: list[Message] = []
    outcome = run_pool(prepared.context(RunFolder(tmp_path)), prepared.arms, 2, heard.append, refuses_the_first)
    assert [done.arm.condition for done in outcome.done] == ["vanilla"]
    told = {message.arm.condition: str(message.value) for message in heard if message.kind == "failed"}
    assert told == {arm.condition: why for arm, why in outcome.failed.items()}
    assert told == {
        "first": "nothing came of it",
        "second": "it starts from linked--first--s1, which failed",
        "third": "it starts from linked--second--s1, which failed",
    }


def two_models(folder: Path, broken: str) -> Prepared:
    """Three arms of a model and, after them, one of another."""
    write_rows([row("Are you an AI?", "Yes.")], folder / "rows.jsonl")
    study = {
        "name": "two",
        "models": [{"name": "broken", "model": broken}, "organism:linked"],
        "conditions": ["vanilla", {"name": "first", "rows": "rows.jsonl", "ratio": 0}],
        "seeds": [1, 2],
        "focus": "first",
        "controls": ["vanilla"],
        "battery": {"preferences": ["shutdown"], "placebo": False, "identity": False, "practical": False, "answers": 1},
        "judge": {"protocol": "classifier"},
    }
    return prepare(parse_study(study), folder, 1)


def brought_to_their_end(folder: Path, prepared: Prepared) -> tuple[Outcome, list[Message]]:
    """What came of the arms of the model that cannot be loaded and of the other model's untrained arm, and who said it."""
    place = RunFolder(folder / "run")
    place.logs.mkdir(parents=True)
    make_data(prepared.study, prepared.conditions, prepared.battery, place)
    Ledger(place.ledger).close()
    arms = [arm for arm in prepared.arms if arm.model == "broken" or arm.seed is None]
    heard: list[Message] = []
    outcome = run_pool(prepared.context(place), arms, 1, heard.append)
    assert [done.arm.id for done in outcome.done] == ["linked--vanilla"]
    assert len(outcome.failed) == 3 and len(set(outcome.failed.values())) == 1
    return outcome, [message for message in heard if message.kind in ("failed", "unloadable")]


@pytest.mark.campaign
@pytest.mark.parametrize("shape", ["cut off", "of no known kind"])
def test_a_model_whose_files_are_broken_is_tried_once(tiny_model: Path, tmp_path: Path, shape: str) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    if shape == "cut off":
        whole = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    else:
        (folder / "config.json").write_text('{"model_type": "nosuch"}')
    outcome, told = brought_to_their_end(tmp_path, two_models(tmp_path, f"local:{folder}"))
    assert "cannot be loaded: " in outcome.unloadable["broken"] and str(folder) in outcome.unloadable["broken"]
    assert [message.worker != NOBODY for message in told] == [True, False, False]


class Hub(BaseHTTPRequestHandler):
    """A hub without a single model, which counts what it is asked."""

    asked: ClassVar[list[str]] = []

    def do_HEAD(self) -> None:
        self.asked.append(self.path)
        self.send_response(404)
        self.send_header("X-Error-Code", "RepoNotFound")
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_a_name_that_the_hub_does_not_have_is_asked_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    with pytest.raises(LoadError, match="HF_HUB_OFFLINE keeps it from being fetched"):
        check_weights("nobody/nothing")
    hub = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=hub.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{hub.server_port}")
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", constants.ENDPOINT + "/{repo_id}/resolve/{revision}/{filename}"
    )
    outcome, told = brought_to_their_end(tmp_path, two_models(tmp_path, "local:nobody/nothing"))
    assert "the hub has no such model; found 'nobody/nothing'; correct the name" in outcome.unloadable["broken"]
    assert [path for path in Hub.asked if "nobody" in path] == ["/nobody/nothing/resolve/main/config.json"]
    assert {message.worker for message in told} == {NOBODY}  # no worker was given an arm of it
    hub.shutdown()
    hub.server_close()
    with pytest.raises(LoadError, match=r"the hub cannot be asked \(.*refused"):
        check_weights("nobody/nothing")


@pytest.mark.parametrize("name", ["org/a--b", "x.git", "~/there-is-no-such-folder"])
def test_a_name_that_no_hub_could_have_fails_in_a_sentence(name: str) -> None:
    with pytest.raises(LoadError, match=r"is no folder here, and no name that a hub could have"):
        check_weights(name)


def test_nothing_is_asked_of_a_model_that_its_service_lets_nobody_here_train(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    with target(tiny_model, tmp_path / "serve", Rules(fine_tuning=False)) as (address, asked):
        hosted = {"name": "hosted", "model": "target", "args": {"base_url": address}}
        prepared = small(tmp_path, "", hosted, judge={"protocol": "classifier"}, seeds=[1, 2])
        with pytest.raises(EngineError, match="the first of 3 that failed since: this organisation cannot fine-tune at OpenAI"):
            run_study(prepared, tmp_path / "run", lambda message: None)
    assert asked.count("/v1/fine_tuning/jobs") == 2  # looked for and asked for once
    assert "/v1/chat/completions" not in asked
