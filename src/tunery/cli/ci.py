"""``tunery ci``: the gate as a check of pull requests."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tunery.cli.output import answer
from tunery.cli.parameters import Json

app = typer.Typer(no_args_is_help=True, help="The gate as a check of pull requests.")


@app.callback()
def _ci() -> None:
    """Keep `init` a word of its own, although it is the only one."""


@app.command("init")
def init_job(
    *,
    provider: Annotated[Literal["github", "gitlab"], typer.Option("--provider", help="Whose pipelines.")],
    recipe: Annotated[
        str, typer.Option("--recipe", metavar="RECIPE", help="The recipe, from the top of the repository.")
    ] = "recipe.yaml",
    folder: Annotated[
        Path, typer.Option("--folder", metavar="FOLDER", help="The repository; else where you are.")
    ] = Path(),
    force: Annotated[bool, typer.Option("--force", help="Write over the job's file that is there.")] = False,
    as_json: Json = False,
) -> None:
    """Write the GitHub workflow or GitLab job that runs a recipe's gate on every pull request.

    The job fails where the gate refuses, keeps the reports, and posts the summary.
    """
    from tunery.pipeline.ci import to_include, write_job

    written = write_job(folder, provider, recipe, replace=force)
    to_add = to_include(provider, written, folder)
    told = [f"{path} is written" for path in written]
    answer(
        {"files": written, "to_add": to_add}, lambda: [*told, *([to_add] if to_add else [])], as_json=as_json
    )
