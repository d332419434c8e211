"""A server on this machine that holds the tiny model, one for each file of tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from openai import OpenAI

from tests.serve.running import client, server


@pytest.fixture(scope="module")
def address(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with server(tiny_model, tmp_path_factory.mktemp("serve")) as found:
        yield found


@pytest.fixture(scope="module")
def api(address: str) -> OpenAI:
    return client(address)
