"""A run on given answers, one for each file of tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.calling import given_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return given_run(tmp_path_factory.mktemp("run"))
