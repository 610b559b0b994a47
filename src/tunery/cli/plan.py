"""``tunery plan``: what a recipe will take, before anything is spent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from tunery.cli.output import answer, facts, styled, table
from tunery.cli.parameters import Json, Overrides, RecipePath
from tunery.cli.session import open_recipe

if TYPE_CHECKING:
    from tunery.cli.output import Part
    from tunery.plan.forecast import Estimate, Forecast


def plan(
    ctx: typer.Context,
    recipe: RecipePath,
    overrides: Overrides = None,
    *,
    price_per_hour: Annotated[
        float | None,
        typer.Option(
            "--price-per-hour",
            metavar="PRICE",
            min=0,
            envvar="TUNERY_PRICE_PER_HOUR",
            help="What an hour of this machine costs, in any currency.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what a recipe will take, before it is spent.

    Rows, tokens, memory, time, disk and cost, each with its reasoning. Nothing is trained. The dataset
    version is built for it; a later run finds it and does not build it again.
    """
    from tunery.pipeline.stages.plan import plan_recipe

    with open_recipe(ctx, recipe, overrides) as context, context.progress.task("planning", None):
        found = plan_recipe(context)
    if price_per_hour is not None:
        found = found.priced(price_per_hour)
    answer(
        {"fits": found.fits, **found.model_dump(mode="json")}, lambda: forecast_text(found), as_json=as_json
    )


def forecast_text(found: Forecast) -> Iterable[Part]:
    """Return a forecast as a person reads it: amounts with their reasons, then what stands in the way."""
    from tunery.core.figures import duration, percent_of

    rows = found.rows
    supervised = percent_of(rows.supervised_tokens, rows.train_tokens)
    yield facts(
        [
            (
                "rows",
                f"train {rows.train_rows:,}, validation {rows.validation_rows:,}, test {rows.test_rows:,}",
            ),
            ("tokens", f"{rows.train_tokens:,} in train, {supervised} of them trained on"),
            ("longest row", f"{rows.longest:,} tokens"),
            ("too long", f"{rows.too_long_rows:,} rows (over {rows.max_tokens:,} tokens)"),
            ("steps", f"{found.steps:,}"),
            *([("test split", found.power)] if found.power else []),
        ]
    )
    estimates = [(e.what, amount(e), e.because) for e in found.estimates]
    yield table(["", ">about", "because"], estimates)
    yield ""
    for warning in found.warnings:
        yield styled(f"warning: {warning}", "yellow")
    if found.fits:
        yield styled(f"Fits this machine; about {duration(found.total_s)} in all.", "bold green")
    else:
        yield styled("Does not fit this machine.", "bold red")


def amount(estimate: Estimate) -> str:
    """Return an estimate in the unit a person would use."""
    from tunery.core.figures import count, duration, size

    if estimate.unit == "price":
        return f"{estimate.value:,.2f}"
    if estimate.unit == "s":
        return duration(estimate.value)
    if estimate.unit == "bytes":
        return size(estimate.value)
    return count(round(estimate.value))
