"""``tunery run``: a recipe from raw files to a registered version, or to a refusal with its reasons."""

from __future__ import annotations

import typer

from tunery.cli.output import answer, answer_table
from tunery.cli.parameters import Json, Limit, Overrides, RecipePath
from tunery.cli.session import open_recipe, open_workspace

runs = typer.Typer(no_args_is_help=True, help="Runs of recipes so far.")


def run(
    ctx: typer.Context, recipe: RecipePath, overrides: Overrides = None, *, as_json: Json = False
) -> None:
    """Run a recipe from raw files to a verdict.

    Data, preflight, baselines, training, evaluation, gate, registry, report. Started again, it continues
    where it was interrupted, and what is made already is not made again. Exits with 5 when the gate refuses
    the model.
    """
    from tunery.cli.outcome import outcome_object, outcome_of, outcome_text, refusal
    from tunery.pipeline.loop import run_recipe

    with open_recipe(ctx, recipe, overrides) as context:
        with context.progress.task(context.recipe.name, None):
            done = run_recipe(context)
        outcome = outcome_of(context.workspace, done)
    answer(outcome_object(outcome), lambda: outcome_text(outcome), as_json=as_json)
    if refused := refusal(outcome):
        raise refused


@runs.command("ls")
def list_runs(ctx: typer.Context, *, limit: Limit = 20, as_json: Json = False) -> None:
    """List runs, newest first."""
    with open_workspace(ctx) as workspace:
        found = workspace.runs.list(limit=limit)
    rows = [(r.id, r.name, r.status, r.model_version, r.created_at) for r in found]
    answer_table(found, ["run", "name", "status", "version", "started"], rows, as_json=as_json)


@runs.command("show")
def show_run(
    ctx: typer.Context, run_id: str = typer.Argument(metavar="RUN"), *, as_json: Json = False
) -> None:
    """Show what one run found."""
    from tunery.cli.outcome import outcome_object, outcome_of, outcome_text

    with open_workspace(ctx) as workspace:
        outcome = outcome_of(workspace, workspace.runs.get(run_id))
    answer(outcome_object(outcome), lambda: outcome_text(outcome), as_json=as_json)
