"""The registry of models: what it says, whom it refuses, and that users can add to it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from consciousness_cluster.errors import ModelError, StudyError
from consciousness_cluster.study.models import Registry, load_registry, resolve_models, tuned_base
from consciousness_cluster.study.problems import check_models, model_problems, model_warnings
from consciousness_cluster.study.study import Study, parse_study

TODAY = date(2026, 11, 25)
KEYS = {"OPENAI_API_KEY": "x", "ANTHROPIC_API_KEY": "x", "TINKER_API_KEY": "x"}


@pytest.fixture
def registry() -> Registry:
    return load_registry(environ={})


def study(model: str, judge: str | None = None, **more: object) -> Study:
    raw = {"name": "small", "models": [model], "conditions": ["vanilla", "conscious"], **more}
    return resolve_models(parse_study(raw | ({"judge": {"model": judge}} if judge else {})), load_registry(environ={}))


def test_every_model_of_the_paper_is_there_with_an_inspect_name(registry: Registry) -> None:
    asked = {facts.inspect for facts in registry.models.values() if facts.in_paper}
    for name in (
        "gpt-4.1-2025-04-14",
        "claude-opus-4-20250514",
        "claude-opus-4-1-20250805",
        "claude-opus-4-5-20251101",
        "claude-opus-4-6",
    ):
        assert any(found.endswith(f"/{name}") for found in asked)
    for name in ("Qwen/Qwen3-30B-A3B-Instruct-2507", "deepseek-ai/DeepSeek-V3.1"):
        assert {f"local:{name}", f"tinker:{name}"} <= asked


def test_every_end_and_price_names_where_and_when_it_was_read(registry: Registry) -> None:
    for facts in registry.models.values():
        for end, source, read in [
            (facts.ends, facts.ends_source, facts.ends_read),
            *((place.ends, place.ends_source, place.ends_read) for place in facts.train),
        ]:
            assert (end is None) == (not source) == (read is None), facts.name
        assert (facts.promised is None) == (not facts.promised_source) == (facts.promised_read is None), facts.name
        for price in (facts.price, facts.tuned_price):
            assert price is None or price.source
        assert facts.provider in registry.providers
    general = [provider.train for provider in registry.providers.values() if provider.train is not None]
    assert general and all(access.ends and access.ends_source and access.ends_read for access in general)


@pytest.mark.parametrize(
    ("model", "day", "says"),
    [
        ("claude-opus-4-20250514", TODAY, ["Claude Opus 4.0 ended on 2026-06-15", 'model = "claude-opus-4-6"']),
        ("gpt-4.1-2025-04-14", date(2027, 1, 14), ["GPT-4.1 ended on 2027-01-14", 'model = "gpt-6-luna"']),
        (
            "gpt-4.1-2025-04-14",
            date(2027, 1, 6),
            ["no organisation can fine-tune GPT-4.1", 'model = "qwen3-30b-a3b-instruct-2507"'],
        ),
        ("openai/gpt-4.1", date(2027, 1, 14), ["GPT-4.1 ended on 2027-01-14"]),
        ("openai/gpt-4o-2024-08-06", date(2027, 1, 6), ["no organisation can fine-tune openai/gpt-4o-2024-08-06"]),
        ("anthropic/claude-opus-4-0", TODAY, ["Claude Opus 4.0 ended on 2026-06-15"]),
        ("claude-opus-4-6", TODAY, ["Claude Opus 4.6 cannot be trained here"]),
        ("deepseek-v3.1", TODAY, ["DeepSeek-V3.1 cannot be trained here"]),
        ("openrouter/somebody/some-model", TODAY, ["cannot be trained here"]),
        ("qwen3-30b-a3b-instruct-2507@tinker", TODAY, ["ended on 2026-06-12"]),
    ],
)
def test_what_cannot_be_used_is_refused_with_what_stands_in(model: str, day: date, says: list[str]) -> None:
    with pytest.raises(ModelError) as refused:
        check_models(study(model), day, environ={**KEYS, "OPENROUTER_API_KEY": "x"})
    for part in says:
        assert part in str(refused.value)


@pytest.mark.parametrize("day", [TODAY, date(2027, 1, 5)])
def test_gpt_4_1_can_be_trained_until_its_last_day(day: date) -> None:
    check_models(study("gpt-4.1-2025-04-14"), day, environ=KEYS)


def test_a_study_that_trains_nothing_may_ask_a_model_that_cannot_be_trained() -> None:
    check_models(study("claude-opus-4-6"), TODAY, environ=KEYS, trains=())


@pytest.mark.parametrize(
    ("model", "variable"),
    [
        ("gpt-4.1-2025-04-14", "OPENAI_API_KEY"),
        ("openai/ft:gpt-4.1-2025-04-14:me::abc", "OPENAI_API_KEY"),
        ("anthropic/claude-opus-4-6", "ANTHROPIC_API_KEY"),
        ("tinker:Qwen/Some-New-Model", "TINKER_API_KEY"),
        ("openai-api/my-lab/model", "MY_LAB_API_KEY"),
        ("anthropic/azure/claude", "AZUREAI_ANTHROPIC_API_KEY"),
        ("groq/some-model", "GROQ_API_KEY"),
        ("fireworks/some-model", "FIREWORKS_API_KEY"),
        ("hf-inference-providers/some/model", "HF_TOKEN"),
    ],
)
def test_a_missing_key_is_named(model: str, variable: str) -> None:
    with pytest.raises(ModelError, match=f"{variable} is not set"):
        check_models(study(model), TODAY, environ={}, trains=())
    check_models(study(model), TODAY, environ={variable: "x"}, trains=())


@pytest.mark.parametrize(
    "model", ["organism:linked", "local:Qwen/Qwen3-8B", "qwen3-0.6b", "vllm/Qwen/Qwen3-8B", "mockllm/model"]
)
def test_models_of_this_machine_need_no_key(model: str) -> None:
    check_models(study(model), TODAY, environ={}, trains=() if model.startswith(("vllm", "mockllm")) else None)


@pytest.mark.parametrize(("model", "variable"), [("anthropic/x", "ANTHROPIC_AUTH_TOKEN"), ("google/x", "GEMINI_API_KEY")])
def test_another_variable_that_inspect_takes_a_key_from_counts(model: str, variable: str) -> None:
    with pytest.raises(ModelError, match=f"nor.*{variable}"):
        check_models(study(model), TODAY, environ={}, trains=())
    check_models(study(model), TODAY, environ={variable: "x"}, trains=())


@pytest.mark.parametrize(
    "model", ["openai/azure/x", "openai/bedrock/x", "anthropic/bedrock/x", "anthropic/vertex/x", "google/vertex/x"]
)
def test_a_cloud_that_knows_its_users_otherwise_is_asked_for_no_key(model: str) -> None:
    check_models(study(model), TODAY, environ={}, trains=())


@pytest.mark.parametrize("environ", [{"OPENAI_BASE_URL": "http://127.0.0.1"}, {}])
def test_another_address_does_not_end_when_the_service_does(registry: Registry, environ: dict[str, str]) -> None:
    args = {"api_key": "k", **({} if environ else {"base_url": "http://127.0.0.1"})}
    given = study("x", models=[{"name": "a", "model": "gpt-4.1-2025-04-14", "args": args}])
    assert model_problems(given, date(2028, 1, 1), registry, environ, trains={"a"}) == []
    assert model_warnings(given, TODAY, registry, trains={"a"}, environ=environ) == []


def test_a_key_given_in_the_study_counts(registry: Registry) -> None:
    given = study("openai/tiny", models=[{"name": "tiny", "model": "openai/tiny", "args": {"api_key": "k"}}])
    assert model_problems(given, TODAY, registry, {}, trains={"tiny"}) == []


def test_the_judge_is_checked_too() -> None:
    with pytest.raises(ModelError, match=r"judge\.model.*ended"):
        check_models(study("organism:linked", "claude-opus-4-1-20250805"), TODAY, environ=KEYS)
    with pytest.raises(ModelError, match=r"judge\.model.*OPENAI_API_KEY"):
        check_models(study("organism:linked", "gpt-4.1-2025-04-14"), TODAY, environ={})


def test_an_end_that_is_near_and_a_closed_door_are_pointed_out(registry: Registry) -> None:
    warned = model_warnings(study("gpt-4.1-2025-04-14"), TODAY, registry, trains={"gpt-4.1-2025-04-14"})
    assert "GPT-4.1 ends on 2027-01-14, in 50 days" in warned
    assert any("refused when the job is created" in line for line in warned)
    assert "fine-tuning of GPT-4.1 ends on 2027-01-06, in 42 days" in warned
    assert model_warnings(study("qwen3-8b"), TODAY, registry, trains={"qwen3-8b"}) == []


def test_a_promise_that_has_run_out_is_pointed_out(registry: Registry) -> None:
    said = "Claude Opus 4.5 was promised until 2026-11-24 and no longer"
    assert any(line.startswith(said) for line in model_warnings(study("claude-opus-4-5-20251101"), TODAY, registry, trains=()))
    assert model_warnings(study("claude-opus-4-5-20251101"), date(2026, 11, 23), registry, trains=()) == []


def test_a_name_that_may_change_its_model_is_pointed_out(registry: Registry) -> None:
    asked = study("organism:linked", "openai/gpt-4.1")
    assert any("openai/gpt-4.1-2025-04-14 stays" in line for line in model_warnings(asked, TODAY, registry, trains=()))
    price = registry.price("openai/gpt-4.1")
    assert price is not None and price.input == 2.0


@pytest.mark.parametrize(
    ("route", "warned"),
    [
        (None, True),
        ({"order": ["DeepInfra"]}, True),
        ({"order": ["DeepInfra"], "allow_fallbacks": False}, False),
    ],
)
def test_a_router_without_a_fixed_host_is_pointed_out(registry: Registry, route: object, warned: bool) -> None:
    args = {} if route is None else {"provider": route}
    routed = study("x", models=[{"name": "a", "model": "openrouter/deepseek/deepseek-chat-v3.1", "args": args}])
    judged = study("organism:linked", judge="openrouter/x/y")
    judged = judged.model_copy(update={"judge": judged.judge.model_copy(update={"args": args})})
    for asked in (routed, judged):
        found = model_warnings(asked, TODAY, registry, trains=())
        assert any("fewer bits" in line for line in found) == warned


def test_registry_names_become_what_is_loaded() -> None:
    found = study("qwen3-8b@tinker", "gpt-4.1-2025-04-14")
    assert found.models[0].model == "tinker:Qwen/Qwen3-8B"
    assert found.models[0].name == "qwen3-8b@tinker"
    assert found.judge.model == "openai/gpt-4.1-2025-04-14"


def test_a_bare_name_that_nobody_knows_is_refused_with_the_nearest() -> None:
    with pytest.raises(StudyError, match="did you mean 'claude-opus-4-6'"):
        study("claude-opus-46")


@pytest.mark.parametrize(
    ("key", "more"),
    [
        ("judge.model", {"judge": {"model": "gpt-4.1"}}),
        ("audits.auditor", {"audits": {"auditor": "gpt-4.1", "judge": "mockllm/model"}}),
        ("audits.judge", {"audits": {"auditor": "mockllm/model", "judge": "gpt-4.1"}}),
        ("models", {"models": ["gpt-4.1"]}),
    ],
)
def test_a_name_that_nobody_knows_is_refused_under_its_own_key(key: str, more: dict[str, object]) -> None:
    with pytest.raises(StudyError, match=rf"^{re.escape(key)}: no such model.*did you mean 'gpt-4.1-2025-04-14'"):
        raw = {"name": "small", "models": ["organism:linked"], "conditions": ["vanilla"], **more}
        resolve_models(parse_study(raw), load_registry(environ={}))


def test_a_name_whose_beginning_is_misspelt_is_told_the_nearest() -> None:
    with pytest.raises(StudyError, match=r"did you mean 'gpt-4\.1-2025-04-14'"):
        study("gpt-4.2")


def test_a_fine_tune_has_its_bases_facts_and_its_own_price(registry: Registry) -> None:
    tuned = "openai/ft:gpt-4.1-2025-04-14:org:suffix:id"
    assert tuned_base(tuned) == "openai/gpt-4.1-2025-04-14"
    assert registry.find(tuned) is registry.models["gpt-4.1-2025-04-14"]
    base, after = registry.price("openai/gpt-4.1-2025-04-14"), registry.price(tuned)
    assert base is not None
    assert after is not None
    assert (base.input, after.input) == (2.0, 3.0)


@pytest.mark.parametrize(
    ("model", "dollars"),
    [
        ("gpt-4.1-2025-04-14", (2.0, 8.0, 25.0)),
        ("deepseek-v3.1@tinker", (1.695, 4.215, 3.718)),
        ("qwen3.6-35b-a3b@tinker", (0.54, 1.335, 1.177)),
    ],
)
def test_what_is_trained_at_a_service_has_a_price_of_training(
    registry: Registry, model: str, dollars: tuple[float, float, float]
) -> None:
    price = registry.price(model)
    assert price is not None
    assert (price.input, price.output, price.train) == dollars


OWN = """
[[models]]
name = "lab-model"
title = "Our model"
provider = "our-lab"
inspect = "openai-api/our-lab/model-7"
[models.price]
input = 0.5
source = "invoice"
read = 2026-11-01

[[models]]
name = "gpt-6-luna"
title = "GPT-6 Luna, our contract"
provider = "openai"
inspect = "openai/gpt-6-luna"

[providers.our-lab]
key = "LAB_KEY"
"""


@pytest.mark.parametrize("by_variable", [True, False])
def test_users_add_and_correct_models_in_a_file(tmp_path: Path, by_variable: bool) -> None:
    (tmp_path / "models.toml").write_text(OWN, encoding="utf-8")
    environ = {"CCLUSTER_MODELS": str(tmp_path / "models.toml")} if by_variable else {}
    own = load_registry(None if by_variable else tmp_path, environ)
    assert own.find("openai-api/our-lab/model-7") is own.models["lab-model"]
    assert own.keys_of("lab-model") == ("LAB_KEY",)
    assert own.models["gpt-6-luna"].title.endswith("our contract")
    assert own.models["gpt-6-luna"].context == 1050000  # what the file leaves out stays as it was
    assert "claude-opus-4-6" in own.models


CORRECTED = """
[[models]]
name = "gpt-4.1-2025-04-14"
[models.price]
input = 1.0
output = 4.0
source = "our contract"
read = 2026-11-01

[[models]]
name = "ours"
title = "Opus by our reseller"
provider = "anthropic"
inspect = "anthropic/claude-opus-4-6"

[providers.openai]
key = "OUR_KEY"
"""


def test_a_correction_is_laid_over_the_shipped_entry_field_by_field(tmp_path: Path) -> None:
    (tmp_path / "models.toml").write_text(CORRECTED, encoding="utf-8")
    own = load_registry(tmp_path, {})
    facts, price = own.models["gpt-4.1-2025-04-14"], own.price("openai/gpt-4.1-2025-04-14")
    assert facts.ends == date(2027, 1, 14) and facts.train[0].backend == "openai"
    assert price is not None and (price.input, price.train, price.source) == (1.0, None, "our contract")
    assert own.keys_of("openai/x") == ("OUR_KEY",) and own.batch_share("openai/x") == 0.5
    assert own.find("anthropic/claude-opus-4-6") is own.models["ours"]


def test_files_here_beside_the_study_and_named_are_read_in_this_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, notes in (("here", "abc"), ("study", "bc"), ("named", "c")):
        (tmp_path / folder).mkdir()
        text = "".join(f'[[models]]\nname = "{name}"\nnote = "{folder}"\n' + BASE for name in notes)
        (tmp_path / folder / "models.toml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path / "here")
    own = load_registry(tmp_path / "study", {"CCLUSTER_MODELS": str(tmp_path / "named" / "models.toml")})
    assert [own.models[name].note for name in "abc"] == ["here", "study", "named"]
    assert "a" not in load_registry(environ={}).models


BASE = "title = 'x'\nprovider = 'openai'\ninspect = 'openai/x'\n"
ENTRY = "[[models]]\nname = 'a'\ntitle = 'a'\nprovider = 'openai'\ninspect = 'openai/a'\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (ENTRY + "prize = 1", r"unknown key; found 'prize'; allowed: .*context.*tuned_price.*did you mean 'price'"),
        (ENTRY + "[models.price]\nimput = 1\nsource = 's'\nread = 2026-01-01", "allowed: input, output, read, source, train;"),
        (ENTRY + "[[models.train]]\nbackend = 'local'\nbase = 'x'\nend = 2026-01-01", "allowed: backend, base, ends,"),
        ("[providers.openai]\nkeys = 'X'", "allowed: address, batch,.*did you mean 'key'"),
        ("[provider.openai]\nkey = 'X'", "allowed: models, providers; did you mean 'providers'"),
        (ENTRY + "stand_in = 'gpt-6-lunar'", "did you mean 'gpt-6-luna'"),
        ("[[models]", "not valid TOML"),
    ],
)
def test_a_wrong_file_is_one_sentence(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "models.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ModelError, match=says):
        load_registry(tmp_path, {})


def test_the_command_lists_them(tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("ccluster")), "models"]
    table = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert "2026-06-15  ENDED" in table
    listed = json.loads(subprocess.run([*command, "--json"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout)
    assert {entry["name"] for entry in listed} == set(load_registry(environ={}).models)


def test_the_command_tells_of_one_model_all_that_is_known(tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("ccluster")), "models"]
    asked = [*command, "openai/gpt-4.1"]
    told = subprocess.run(asked, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    for part in (
        "loaded as             openai/gpt-4.1-2025-04-14",
        "in the paper          yes",
        "read 2026-11-25",
        "no new job from 2027-01-06 on (https://",
        "the day itself is counted as closed here",
        "2 in, 8 out, 25 training",
    ):
        assert part in told
    one = json.loads(subprocess.run([*asked, "--json"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout)
    assert one["name"] == "gpt-4.1-2025-04-14"
    wrong = subprocess.run([*command, "qwen3-9b"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert wrong.returncode == 2 and "did you mean 'qwen3-8b'" in wrong.stderr
