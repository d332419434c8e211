"""`ccluster serve`: rehearse a hosted study against a local model."""

from __future__ import annotations

import socket
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from consciousness_cluster.cli.app import app
from consciousness_cluster.errors import EngineError


@app.command()
def serve(
    model: Annotated[str, typer.Argument(help="organism:NAME, or a folder or hub name in Hugging Face format.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8000,
    name: Annotated[
        list[str] | None,
        typer.Option("--name", help="Name of the model, as clients give it; may be repeated.", show_default="from MODEL"),
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Where files, jobs and fine-tunes are kept.", show_default="runs/serve/NAME")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="Recipe of fine-tunes.", show_default="organism for organisms, else paper")
    ] = None,
    key: Annotated[str | None, typer.Option(help="The only key accepted.", show_default="any")] = None,
    flag: Annotated[
        list[str] | None, typer.Option("--flag", help="Rehearse moderation: a word flagged in training rows.")
    ] = None,
    refuse: Annotated[
        str | None, typer.Option(help="Rehearse a model that is refused after training, in this category.")
    ] = None,
    encoded_results: Annotated[
        bool, typer.Option("--encoded-results", help="Rehearse result files of fine-tunes that come in base64.")
    ] = False,
    no_fine_tuning: Annotated[bool, typer.Option(help="Rehearse an organisation without fine-tuning.")] = False,
) -> None:
    """Serve a local model as OpenAI's API, for a rehearsal.

    Chat, models, files, batches, and fine-tuning jobs that really train.
    """
    import uvicorn

    from consciousness_cluster.serve.app import Settings, make_app
    from consciousness_cluster.serve.tune import Rules
    from consciousness_cluster.train.recipe import load_recipe

    names = tuple(name or [model.split(":", 1)[-1].rstrip("/").rsplit("/", maxsplit=1)[-1]])
    chosen = load_recipe(recipe or ("organism" if model.startswith("organism:") else "paper"))
    rules = Rules(fine_tuning=not no_fine_tuning, flagged=tuple(flag or ()), refuse=refuse)
    with _bound(host, port) as taken:  # before anything is loaded
        place = folder or Path("runs/serve") / names[0].replace("/", "-").replace(":", "-")
        application = make_app(Settings(model, names, place, chosen, rules, key, encoded_results=encoded_results))
        print(
            f"serving {', '.join(names)} at http://{host}:{taken.getsockname()[1]}/v1, kept in {place}"
            f" (set OPENAI_BASE_URL to this address, and OPENAI_API_KEY to {key or 'anything'})",
            flush=True,
        )
        with suppress(KeyboardInterrupt):  # uvicorn has stopped in order when it passes this on
            uvicorn.Server(uvicorn.Config(application, log_level="warning")).run([taken])


def _bound(host: str, port: int) -> socket.socket:
    """A socket at an address.

    Raises:
        EngineError: the address cannot be had.
    """
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as problem:
        raise EngineError(
            f"cannot be listened on ({problem.strerror})", key="--port", value=f"{host}:{port}", next_step="give another --port"
        ) from None
