"""``tunery rescue recipe`` and ``run``: a model of our own, and whether it takes the old one's place."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tunery.cli.output import answer, styled
from tunery.cli.parameters import Json, Overrides
from tunery.cli.rescue_folder import OldModel, RescueName, model_of, open_rescue, scope_of, working_on
from tunery.cli.session import open_recipe
from tunery.core.errors import NotFoundError
from tunery.rescue.commands import DEFAULT_NAME, command

if TYPE_CHECKING:
    from pathlib import Path

    from tunery.cli.output import Part
    from tunery.pipeline.rescue.proof import Proof
    from tunery.pipeline.rescue.recipe import Drafted


def write_recipe(  # noqa: PLR0913 - typer makes each parameter an option
    ctx: typer.Context,
    model: OldModel = "",
    *,
    name: RescueName = DEFAULT_NAME,
    base: Annotated[
        str | None,
        typer.Option(
            "--base",
            metavar="NAME",
            help="A folder, one in models/ of the home, or org/model@revision. Left out, the largest "
            "in models/ that this machine bears.",
        ),
    ] = None,
    train_on: Annotated[
        Literal["owner", "recorded"],
        typer.Option("--train-on", help="Whose answers, where a row has its owner's and the old model's."),
    ] = "owner",
    margin: Annotated[
        float,
        typer.Option("--margin", min=0.001, max=0.5, help="How much worse than the old model ours may be."),
    ] = 0.02,
    successor: Annotated[
        str | None,
        typer.Option("--successor", metavar="MODEL", help="Measure this model of the source beside it, too."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a recipe from what was fetched and recorded.

    Its data, what carries over from the job, and a gate that asks ours to be no worse than the old model.
    """
    from tunery.pipeline.rescue.base import chosen_base
    from tunery.pipeline.rescue.prompts import job_of
    from tunery.pipeline.rescue.recipe import Choices, draft

    with working_on(ctx, name) as folder:
        named = model_of(folder, model)
        job = job_of(folder.inventory(), named)
        scope = scope_of(folder, named)
        other = scope.of_model(successor) if successor else None

        def drafted(chosen: str) -> Drafted:
            return draft(folder, named, job, Choices(chosen, train_on, margin, other))

        chosen = chosen_base(ctx.obj, base, drafted)
        found = drafted(chosen.base)
    value = {"recipe": found, "base": chosen}
    answer(value, lambda: _recipe_text(found, chosen.because, name), as_json=as_json)


def run_rescue(
    ctx: typer.Context,
    model: OldModel = "",
    overrides: Overrides = None,
    *,
    name: RescueName = DEFAULT_NAME,
    price_per_hour: Annotated[
        float | None,
        typer.Option("--price-per-hour", min=0, help="US dollars an hour of the hardware that serves ours."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Train, and say whether ours is no worse, row by row.

    Runs the recipe. Started again, it continues where it was interrupted. Exits with 5 when the gate refuses.
    """
    from tunery.cli.outcome import outcome_of, refusal
    from tunery.pipeline.loop import run_recipe
    from tunery.pipeline.rescue.proof import PROOF, proof_page, prove
    from tunery.pipeline.rescue.recipe import RECIPE

    if "=" in model:  # a setting, as the model was left out
        model, overrides = "", [model, *(overrides or ())]
    folder = open_rescue(ctx, name)
    named = model_of(folder, model)
    recipe = folder.of_model(named) / RECIPE
    if not recipe.is_file():
        raise NotFoundError(f"there is no recipe for {named} yet", hint=command(name, "recipe", named))
    with open_recipe(ctx, recipe, overrides) as context:
        with context.progress.task(context.recipe.name, None):
            done = run_recipe(context)
        outcome = outcome_of(context.workspace, done)
        proof = prove(folder, named, context.workspace, done, price_per_hour=price_per_hour)
    place = folder.of_model(named)
    folder.write(place / PROOF, proof)
    page = folder.write_text(place / "report.md", proof_page(proof))
    answer({"proof": proof, "page": page}, lambda: _proof_text(proof, page), as_json=as_json)
    if refused := refusal(outcome):
        raise refused


def _recipe_text(found: Drafted, because: str, name: str) -> Iterable[Part]:
    rows = ", ".join(f"{count:,} {portion}" for portion, count in found.rows.items())
    against = {"truth": "their owners' answers", "agreement": "the old model's answers"}[found.measures]
    yield f"{found.name}: rows {rows}; measured by {found.metric} against {against}"
    yield f"trains on {found.owner:,} answers of the rows' owner and {found.recorded:,} of the old model"
    yield because
    yield from found.reasons
    yield f"written to {found.path}"
    yield f"next: tunery plan {found.path}, then {command(name, 'run', found.model)}"


def _proof_text(proof: Proof, page: Path) -> Iterable[Part]:
    from tunery.pipeline.rescue.proof import proof_lines

    first, *others = proof_lines(proof)
    yield styled(first, "bold green" if proof.status == "succeeded" else "bold red")
    yield from others
    yield f"written to {page}"
