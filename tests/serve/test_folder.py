"""The folder of a server: of one model and recipe, held by one server at a time; and what the command refuses before it serves."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from consciousness_cluster.errors import EngineError
from consciousness_cluster.serve.app import Settings, make_app
from consciousness_cluster.serve.folder import Origin, hold
from tests.cli.calling import ccluster, refused
from tests.serve.running import NAME, RECIPE, client, server

ORIGIN = Origin(model="somewhere", weights="abc", recipe=RECIPE)


def test_a_folder_is_held_by_one_server_at_a_time(tmp_path: Path) -> None:
    held = hold(tmp_path, ORIGIN)
    with pytest.raises(EngineError, match="another server works in this folder"):
        hold(tmp_path, ORIGIN)
    held.close()
    hold(tmp_path, ORIGIN).close()


def test_a_stopped_server_gives_its_folder_back(tiny_model: Path, tmp_path: Path) -> None:
    with server(tiny_model, tmp_path), pytest.raises(EngineError, match="another server"):
        make_app(Settings(str(tiny_model), (NAME,), tmp_path, RECIPE, device="cpu"))
    with server(tiny_model, tmp_path) as address:
        assert client(address).models.list().data


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (ORIGIN.model_copy(update={"weights": "def", "model": "elsewhere"}), r"holds fine-tunes of somewhere \(weights abc\)"),
        (
            ORIGIN.model_copy(update={"recipe": RECIPE.model_copy(update={"name": "own", "rank": 4})}),
            "holds jobs of the recipe test",
        ),
    ],
)
def test_fine_tunes_of_another_model_or_recipe_are_not_served(tmp_path: Path, other: Origin, says: str) -> None:
    hold(tmp_path, ORIGIN).close()
    with pytest.raises(EngineError, match=says):
        hold(tmp_path, other)
    hold(tmp_path, ORIGIN.model_copy(update={"model": "the same, moved"})).close()


def test_the_command_refuses_a_folder_of_other_weights(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    hold(Path("runs/serve/openai-gpt-9"), ORIGIN.model_copy(update={"weights": "def"})).close()
    done = ccluster("serve", tiny_model, "--port", "0", "--name", "openai/gpt-9")  # the folder is by default the name's
    refused(done, "runs/serve/openai-gpt-9", "holds fine-tunes of somewhere (weights def)", "give another --folder")


def test_a_port_that_is_taken_is_said_before_anything_is_loaded(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = ccluster("serve", "organism:linked", "--port", str(port), "--folder", tmp_path / "serve")
    refused(done, f"127.0.0.1:{port}", "give another --port")
    assert done.out == ""
    assert not (tmp_path / "serve").exists()
