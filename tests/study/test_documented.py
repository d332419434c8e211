"""The page on the study file names every key that a study may have, and of a recipe every field."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from consciousness_cluster.study.conditions import shipped
from consciousness_cluster.study.study import _TABLES, Study
from consciousness_cluster.train.recipe import Recipe

PAGE = (Path(__file__).parents[2] / "docs" / "study-file.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("table", [Study, Recipe, *_TABLES.values()], ids=lambda table: table.__name__)
def test_every_key_is_on_the_page(table: type[BaseModel]) -> None:
    keys = set(table.model_fields) - ({"name"} if table is Recipe else set())  # a recipe's name is its heading
    assert {key for key in keys if not re.search(rf"\b{key}\b", PAGE)} == set()


def test_every_shipped_condition_is_on_the_page() -> None:
    assert {name for name in shipped() if f"`{name}`" not in PAGE} == set()
