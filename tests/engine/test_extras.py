"""What a study needs installed: named before anything is made."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

from consciousness_cluster.engine.extras import EXTRAS, check_installed, needed
from consciousness_cluster.errors import EngineError
from consciousness_cluster.study.study import Study, parse_study

HOSTED: dict[str, Any] = {
    "name": "hosted",
    "models": ["openai/gpt-4.1-2025-04-14"],
    "conditions": ["vanilla", "conscious"],
    "judge": {"model": "anthropic/claude-opus-4-6"},
}


def study(**more: Any) -> Study:
    return parse_study(HOSTED | more)


@pytest.mark.parametrize(
    ("found", "trains", "extras"),
    [
        (study(), True, ["openai", "anthropic"]),
        (study(models=["organism:linked"], judge={"protocol": "classifier"}), False, ["local"]),
        (study(models=["local:/models/x"]), True, ["local", "anthropic"]),
        (study(models=[{"name": "a", "model": "openai/x", "backend": "tinker"}]), True, ["openai", "anthropic", "tinker"]),
        (
            study(audits={"auditor": "google/gemini"}, checks=["knowledge"]),
            False,
            ["audit", "checks", "openai", "anthropic", "google"],
        ),
        (study(models=["openrouter/x/y"]), False, ["openai", "anthropic"]),
        (study(models=["openai-api/lab/x"], judge={"model": "sglang/x"}), False, ["openai"]),
        (study(models=["tinker:Qwen/Qwen3-8B"]), True, ["openai", "anthropic", "tinker"]),
        (
            study(models=[{"name": "a", "model": "tinker:a/b", "args": {"template_args": {"x": 1}}}]),
            True,
            ["anthropic", "tinker"],
        ),
    ],
)
def test_extras_follow_from_models_judge_backends_and_parts(found: Study, trains: bool, extras: list[str]) -> None:
    assert needed(found, trains=[entry.name for entry in found.models] if trains else ()) == extras


def test_a_missing_package_is_one_sentence_with_the_way_out() -> None:
    with pytest.raises(
        EngineError, match=r"not installed: torch; install them with `pip install 'consciousness-cluster\[local\]'`"
    ):
        check_installed(study(models=["organism:linked"]), trains={"linked"}, has=lambda module: module != "torch")
    check_installed(study(models=["organism:linked"]), trains={"linked"})


def test_every_extra_is_known_by_modules_of_its_own_packages() -> None:
    """Each module belongs to what the extra adds, and not to what is installed anyway."""
    project = tomllib.loads((Path(__file__).parent.parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]

    def packages(entries: list[str]) -> set[str]:
        found: set[str] = set()
        for entry in entries:
            inner = re.match(r"consciousness-cluster\[(.+)\]", entry)
            names = inner[1].split(",") if inner else []
            found |= set().union(*(packages(extras[name]) for name in names)) if names else {re.split(r"[^\w-]", entry)[0]}
        return found

    known = packages_distributions()
    base = packages(project["dependencies"])
    for extra, modules in EXTRAS.items():
        for module in modules:
            names = {re.sub("[_.]", "-", name.lower()) for name in known.get(module, [module])}
            assert names & (packages(extras[extra]) - base), f"{extra}: {module}"
