"""``tunery evaluate review``: answers judged by people, blind, on sheets for spreadsheets."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunery.cli.output import answer, facts, table
from tunery.cli.parameters import Json
from tunery.cli.session import open_workspace

if TYPE_CHECKING:
    from tunery.cli.output import Part
    from tunery.pipeline.stages.review import Reviewed
    from tunery.review.outcome import HumanReview

app = typer.Typer(no_args_is_help=True, help="Answers judged by people: sheets out, opinions back.")


@app.command("export")
def export_sheets(  # noqa: PLR0913 - each is an option of its own
    ctx: typer.Context,
    sources: Annotated[
        list[str] | None,
        typer.Argument(metavar="SOURCE", help="A run, or evaluations and files of answers: each a system."),
    ] = None,
    *,
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where the sheets go.")],
    reviewers: Annotated[
        int, typer.Option("--reviewers", min=2, help="People who see every answer, a sheet each.")
    ] = 2,
    pairwise: Annotated[
        bool, typer.Option("--pairwise", help="Two systems side by side: which answer is better?")
    ] = False,
    third: Annotated[
        bool, typer.Option("--third", help="A sheet for one more person, with what the others disagree on.")
    ] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Further settings, such as limit=100 or apart=1."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write one sheet a person, the systems' answers mixed and blind, in another order on each.

    key.json says which answer is whose: keep it from those who review.
    """
    from tunery.core.config import apply_overrides, parse_settings
    from tunery.core.errors import ConfigError
    from tunery.pipeline.stages.review import export_review, export_third
    from tunery.review.config import ReviewConfig

    if third == bool(sources):
        raise ConfigError(
            "name a run, evaluations or files; or --third alone, for a review that came back",
            hint=f"tunery evaluate review export RUN --out {out}",
        )
    given: dict[str, Any] = {"reviewers": reviewers, "pairwise": pairwise}
    config = parse_settings(ReviewConfig, apply_overrides(given, settings or ()), where="review")
    with open_workspace(ctx) as workspace:
        files = export_third(out) if third else export_review(workspace, sources or [], config, out)
    value = {"review": files.plan.id, "cards": len(files.plan.cards), "sheets": files.sheets}
    answer(value, lambda: [f"{sheet}\n" for sheet in files.sheets], as_json=as_json)


@app.command("import")
def import_sheets(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the filled sheets are.")],
    *,
    as_json: Json = False,
) -> None:
    """Read the sheets of a review: ratings with intervals, agreement, disagreements, rows for training.

    Gate rules such as 'human.accuracy >= 4.2 with alpha >= 0.6' look at the newest review of the tuned model;
    run the recipe again and its gate judges by it. No row that is held out becomes a training row.
    """
    from tunery.pipeline.stages.review import import_review

    with open_workspace(ctx) as workspace:
        found = import_review(workspace, folder)
    answer(
        {"review": found.review, "feedback": found.feedback},
        lambda: review_text(found, folder),
        as_json=as_json,
    )


def review_text(found: Reviewed, folder: Path) -> Iterable[Part]:
    """Return what people read of a review."""
    from tunery.core.figures import count, listed_counts

    review, rows = found.review, found.feedback
    yield facts(
        [
            ("review", review.id),
            ("answers", f"{count(review.cards)}, each by {review.reviewers} people"),
            ("apart on", f"{count(len(review.disagreements))} of them" if review.disagreements else "none"),
        ]
    )
    yield _ratings_table(review)
    if review.disagreements:
        yield f"a third person may decide: tunery evaluate review export --third --out {folder}\n"
    skipped = f"; not taken: {listed_counts(rows.skipped)}" if rows.skipped else ""
    made = f"{count(rows.examples)} examples, {count(rows.preferences)} pairs, {count(rows.ratings)} ratings"
    yield f"training rows in {rows.path}: {made}{skipped}\n"


def _ratings_table(review: HumanReview) -> Part:
    from tunery.core.figures import metric_interval, metric_value, number

    rows = []
    for system, metrics in review.metrics.items():
        for name, metric in metrics.items():
            alpha = review.agreement.get(name)
            written = (
                "unknown"
                if alpha is None
                else f"{number(alpha.value)} ({number(alpha.ci95[0])} to {number(alpha.ci95[1])})"
            )
            rows.append((system, name, metric_value(metric), metric_interval(metric), written))
    return table(["system", "criterion", ">rating", ">95 % interval", ">alpha (95 % interval)"], rows)
