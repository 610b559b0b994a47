"""``tunery data synthesise``: training rows written by a teacher behind an OpenAI-compatible endpoint."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tunery.cli.output import answer, facts
from tunery.cli.parameters import (
    ApiKeyEnv,
    BudgetTokens,
    BudgetUsd,
    Json,
    Overrides,
    PriceCompletion,
    PricePrompt,
    RecipePath,
    endpoint_settings,
)
from tunery.cli.session import open_recipe

if TYPE_CHECKING:
    from tunery.cli.output import Part
    from tunery.synthesise.output import Synthesised


def synthesise_rows(  # noqa: PLR0913 - each is an option of its own
    ctx: typer.Context,
    recipe: RecipePath,
    overrides: Overrides = None,
    *,
    method: Annotated[
        Literal["paraphrase", "label", "self_instruct"],
        typer.Option("--method", help="Reword inputs, write inputs for a class, or write whole new rows."),
    ],
    rows: Annotated[int, typer.Option("--rows", min=1, help="Rows wanted in the end.")],
    endpoint: Annotated[
        str, typer.Option("--endpoint", metavar="URL", help="The teacher's address, such as https://host/v1.")
    ],
    model: Annotated[str, typer.Option("--model", metavar="NAME", help="The teacher's model name.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE.jsonl", help="File to write.")],
    api_key_env: ApiKeyEnv = None,
    budget_tokens: BudgetTokens = None,
    budget_usd: BudgetUsd = None,
    price_prompt: PricePrompt = None,
    price_completion: PriceCompletion = None,
    judge: Annotated[
        int | None,
        typer.Option("--judge", min=1, max=5, help="Have every row scored 1 to 5; keep this score and more."),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", metavar="CLASS", help="Write for this class only; may be repeated."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Further settings, such as teacher.temperature=0.7."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Have a teacher model write further training rows.

    It is shown rows of the recipe's train split only, and what it writes is never held out.

    Started again with the same options it goes on where it ended, and pays for what is missing only.
    """
    from tunery.cli.stop import WAITING, until_asked
    from tunery.core.config import apply_overrides, parse_settings
    from tunery.pipeline.stages.synthesise import synthesise
    from tunery.synthesise.config import SynthesiseConfig

    teacher = endpoint_settings(endpoint, model, api_key_env, price_prompt, price_completion)
    values: dict[str, Any] = {
        "method": method,
        "rows": rows,
        "teacher": teacher,
        "labels": label or [],
        "budget_tokens": budget_tokens,
        "budget_usd": budget_usd,
    }
    if judge is not None:
        values["judge"] = {"threshold": judge}
    config = parse_settings(SynthesiseConfig, apply_overrides(values, settings or ()), where="synthesise")
    with (
        open_recipe(ctx, recipe, overrides) as context,
        until_asked(WAITING) as context.should_stop,
    ):
        output = synthesise(context, config, out)
    if output.stopped is not None:
        context.progress.event(_why_short(output), level="warn")
    answer(output, lambda: synthesised_text(output), as_json=as_json)


def synthesised_text(output: Synthesised) -> Iterable[Part]:
    """Return what a person reads of a file of synthetic rows."""
    from tunery.core.figures import listed_counts

    rejected = listed_counts(output.rejected)
    unsure = (
        f", {output.tokens_unsure:,} of them for requests without a known end" if output.tokens_unsure else ""
    )
    unmetered = f", {output.unmetered:,} answers at their ceiling" if output.unmetered else ""
    yield facts(
        [
            ("file", output.path),
            ("rows", f"{output.rows:,} of {output.rows_asked:,} requested"),
            ("rejected", rejected or "nothing"),
            (
                "scores",
                None if output.scores is None else ", ".join(f"{s}: {n}" for s, n in output.scores.items()),
            ),
            ("teacher", f"{output.teacher} at {output.endpoint}"),
            ("seeds", f"{output.seed_rows:,} training rows of {output.dataset_version}"),
            (
                "answers",
                f"{output.bought:,} paid for now, {output.retries:,} tried again, {output.failed:,} failed",
            ),
            ("tokens", f"{output.tokens:,}{unsure}{unmetered}"),
            ("cost", None if output.usd is None else f"${output.usd:,.4f}"),
        ]
    )
    yield "to train on them, list the file as a source behind your own: they never enter a held-out split"


def _why_short(output: Synthesised) -> str:
    what, more = {
        "budget": ("the budget does not pay for another request", "a larger budget"),
        "requests": ("as many requests were sent as max_requests allows", "--set max_requests=N"),
    }[output.stopped or "budget"]
    rows = f"{output.rows:,} of {output.rows_asked:,} rows"
    return f"{rows}: {what}; the same command with {more} goes on from here"
