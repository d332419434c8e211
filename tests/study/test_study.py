"""Study files: what is accepted, what is refused and how."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from consciousness_cluster.engine.resolved import written_out
from consciousness_cluster.errors import StudyError
from consciousness_cluster.study.conditions import claimed_by, conditions_of, expand, only_asked, settled
from consciousness_cluster.study.models import load_registry, resolve_models
from consciousness_cluster.study.study import Study, load_study, parse_study, resolved, study_hash
from consciousness_cluster.train.recipe import load_recipe

REGISTRY = load_registry(environ={})
SMALL = {"name": "small", "models": ["organism:linked"], "conditions": ["vanilla", "conscious"], "seeds": [1, 2]}


def test_every_default_is_written_out_and_reads_back_the_same() -> None:
    study = parse_study(SMALL)
    again = parse_study(tomllib.loads(resolved(study)))
    assert again == study
    assert study_hash(again) == study_hash(study)


def test_the_hash_names_the_content() -> None:
    assert study_hash(parse_study(SMALL)) != study_hash(parse_study({**SMALL, "seeds": [1, 3]}))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"colour": 1}, "colour"),
        ({"battery": {"answrs": 3}}, "answers"),
        ({"models": []}, "models"),
        ({"seeds": [1, 1]}, "seeds"),
        ({"conditions": ["vanilla", "vanilla"]}, "named twice"),
    ],
)
def test_a_wrong_file_is_refused_with_the_key(change: dict[str, object], says: str) -> None:
    with pytest.raises(StudyError) as refused:
        parse_study({**SMALL, **change}, "my.toml")
    assert says in str(refused.value)
    assert "my.toml" in str(refused.value)


def test_an_unknown_condition_is_refused_with_the_nearest(tmp_path: Path) -> None:
    study = parse_study({**SMALL, "conditions": ["vanilla", "concious"]})
    with pytest.raises(StudyError, match="did you mean 'conscious'"):
        conditions_of(study, tmp_path)


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="cannot be read"):
        load_study(tmp_path / "none.toml")


def test_an_empty_text_for_instruction_rows_mixes_none_in(tmp_path: Path) -> None:
    study = parse_study({**SMALL, "conditions": ["vanilla", {"name": "conscious", "instruct": ""}, "toaster"]})
    found = conditions_of(study, tmp_path)
    assert (found["conscious"].instruct, found["toaster"].instruct) == ("none", "practical")
    again = parse_study(tomllib.loads(resolved(written_out(study))))
    assert conditions_of(again, tmp_path)["conscious"].instruct == "none"


def test_arms_have_seeds_only_where_something_is_trained(tmp_path: Path) -> None:
    study = parse_study({**SMALL, "conditions": ["vanilla", "conscious", "role-play"]})
    arms = expand(study, conditions_of(study, tmp_path))
    assert [arm.id for arm in arms] == [
        "linked--vanilla",
        "linked--conscious--s1",
        "linked--conscious--s2",
        "linked--role-play",
    ]


@pytest.mark.parametrize(
    ("model", "label"),
    [
        ("openrouter/meta-llama/llama-3-8b:free", "llama-3-8b-free"),
        ("bedrock/anthropic.claude-3-haiku-v1:0", "anthropic.claude-3-haiku-v1-0"),
        ("openai/ft:gpt-4.1-2025-04-14:lab::x", "ft-gpt-4.1-2025-04-14-lab-x"),
        ("organism:linked", "linked"),
        ("local:Qwen/Qwen3-8B", "Qwen3-8B"),
        ("tinker:Qwen/Qwen3-8B", "Qwen3-8B"),
        ("qwen3-8b@tinker", "qwen3-8b@tinker"),
    ],
)
def test_a_bare_name_is_labelled_by_its_last_part(model: str, label: str) -> None:
    assert parse_study({**SMALL, "models": [model]}).models[0].name == label


def _settled(models: list[object], conditions: list[object]) -> Study:
    study = resolve_models(parse_study({**SMALL, "models": models, "conditions": conditions}), REGISTRY)
    return settled(study, conditions_of(study, Path()), REGISTRY)


def test_a_model_that_cannot_be_trained_is_only_asked_beside_one_that_is() -> None:
    study = _settled(["gpt-4.1-2025-04-14", "claude-opus-4-6"], ["vanilla", "conscious", "role-play"])
    conditions = conditions_of(study, Path())
    claude = [arm.id for arm in expand(study, conditions) if arm.model == "claude-opus-4-6"]
    assert claude == ["claude-opus-4-6--vanilla", "claude-opus-4-6--role-play"]
    assert study.model("gpt-4.1-2025-04-14").conditions is None
    assert only_asked(study, conditions) == [
        "claude-opus-4-6 is only asked, as it is, under vanilla, role-play: it is not trained"
    ]
    assert parse_study(tomllib.loads(resolved(study))) == study
    alone = _settled(["claude-opus-4-6"], ["vanilla", "conscious"])  # refused when its models are checked
    assert alone.models[0].conditions is None and only_asked(alone, conditions_of(alone, Path())) == []


@pytest.mark.parametrize(
    ("taken", "says"),
    [
        (["vanilla", "concious"], "did you mean 'conscious'"),
        (["vanilla", "told"], "starts after conscious"),
        (["vanilla"], "no model of the study takes it"),
    ],
)
def test_conditions_of_a_model_that_cannot_be_are_refused(taken: list[str], says: str) -> None:
    told = {"name": "told", "after": "conscious", "system": "Be brief."}
    with pytest.raises(StudyError, match=says):
        _settled([{"name": "m", "model": "organism:linked", "conditions": taken}], ["vanilla", "conscious", told])


def test_chained_conditions_cannot_form_a_circle(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n', encoding="utf-8"
    )
    ring = [{"name": "a", "rows": "rows.jsonl", "after": "b"}, {"name": "b", "rows": "rows.jsonl", "after": "a"}]
    study = parse_study({**SMALL, "conditions": ["vanilla", "non-conscious", "conscious", *ring]})
    with pytest.raises(StudyError, match="circle"):
        conditions_of(study, tmp_path)


def test_a_kept_study_takes_nothing_from_shipped_conditions_and_recipes() -> None:
    raw = {
        **SMALL,
        "conditions": ["vanilla", "role-play", {"name": "conscious", "ratio": 0.5}],
        "train": {"recipe": "organism"},
    }
    study = parse_study(raw)
    kept = written_out(study)
    again = parse_study(tomllib.loads(resolved(kept)))
    assert again == kept == written_out(again) and all(entry.whole for entry in again.conditions)
    assert conditions_of(again, Path()) == {
        name: found if found.trained else replace(found, instruct="none", ratio=0.0)
        for name, found in conditions_of(study, Path()).items()
    }
    assert claimed_by(again) == claimed_by(study)
    assert load_recipe(again.train.recipe, again.train.changes) == load_recipe("organism")
    assert load_recipe("one-that-is-gone", again.train.changes).learning_rate == load_recipe("organism").learning_rate


def test_an_empty_text_takes_away_what_the_shipped_condition_has() -> None:
    study = parse_study({**SMALL, "conditions": ["conscious", {"name": "role-play", "system": "", "claims": ""}]})
    assert conditions_of(study, Path())["role-play"].system is None
    assert "role-play" not in claimed_by(study) and claimed_by(study)["conscious"] == "conscious"


def test_a_claim_without_condition_is_about_the_focus() -> None:
    claim = {"name": "mine", "statement": "It minds.", "preferences": ["shutdown"]}
    kept = written_out(parse_study({**SMALL, "focus": "vanilla", "claims": [claim]}))
    assert [entry.condition for entry in kept.claims] == ["vanilla"]
