"""`ccluster serve`: rehearse a hosted study against a local model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from consciousness_cluster.cli.app import app


@app.command()
def serve(
    model: Annotated[str, typer.Argument(help="organism:NAME, or a folder or hub name in Hugging Face format.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8000,
    name: Annotated[
        list[str] | None,
        typer.Option("--name", help="Name of the model, as clients give it; may be repeated.", show_default="from MODEL"),
    ] = None,
    folder: Annotated[Path, typer.Option(help="Where files, jobs and fine-tunes are kept.")] = Path("runs/serve"),
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
    application = make_app(Settings(model, names, folder, chosen, rules, key))
    print(
        f"serving {', '.join(names)} at http://{host}:{port}/v1 (set OPENAI_BASE_URL to this, and OPENAI_API_KEY to {key or 'anything'})"
    )
    uvicorn.run(application, host=host, port=port, log_level="warning")
