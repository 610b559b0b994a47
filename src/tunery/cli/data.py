"""``tunery data``: dataset versions, from raw files to what training and evaluation read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tunery.cli.data_score import score
from tunery.cli.data_synthesise import synthesise_rows
from tunery.cli.data_text import (
    collected_text,
    diff_text,
    exported_text,
    fixed_text,
    inspection_text,
    rows_text,
    version_text,
)
from tunery.cli.output import answer, answer_table
from tunery.cli.parameters import ConsentKey, Json, Limit, Overrides, RecipePath, Replace, WithoutConsent
from tunery.cli.session import open_recipe, open_workspace
from tunery.core.plugins import plugin_names
from tunery.core.splits import SPLITS, SplitName

if TYPE_CHECKING:
    from tunery.core.finding import Finding
    from tunery.data.edits.review import Review
    from tunery.pipeline.context import RunContext
    from tunery.pipeline.stages.fix import Fixed

app = typer.Typer(
    no_args_is_help=True, help="Dataset versions: run, inspect, fix, compare, export, list, look into."
)
_EXAMPLES = 3
_DROPPED = 2

DatasetId = Annotated[str, typer.Argument(metavar="ID", help="A dataset version, as `tunery data ls` lists.")]
if TYPE_CHECKING:
    Format = str
else:
    Format = Literal[plugin_names("tunery.data.writers")]
# Repeated here, because loading what defines it costs more than all of `tunery --help`.


@app.command("run")
def data_run(
    ctx: typer.Context, recipe: RecipePath, overrides: Overrides = None, *, as_json: Json = False
) -> None:
    """Build the recipe's dataset version: read, clean, mask, deduplicate, split. Nothing is trained."""
    from tunery.pipeline.stages.data import make_dataset

    with open_recipe(ctx, recipe, overrides) as context, context.progress.task("data", None):
        version = make_dataset(context)
    answer(version, lambda: version_text(version), as_json=as_json)


@app.command("inspect")
def inspect(
    ctx: typer.Context,
    recipe: RecipePath,
    overrides: Overrides = None,
    *,
    thorough: Annotated[
        bool, typer.Option("--thorough", help="Compare what rows mean, too: finds more, takes minutes.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Look for what hurts in the recipe's rows; print the findings and write them as a page."""
    from tunery.pipeline.stages.inspect import inspect_data

    with open_recipe(ctx, recipe, overrides) as context:
        found = inspect_data(context, thorough=thorough)
    answer(
        {
            "inspection": found.id,
            "dataset_version": found.dataset.id,
            "page": found.page,
            "findings": found.findings,
        },
        lambda: inspection_text(found),
        as_json=as_json,
    )


@app.command("fix")
def fix(  # noqa: PLR0913 - one option a way to decide
    ctx: typer.Context,
    recipe: RecipePath,
    overrides: Overrides = None,
    *,
    apply: Annotated[
        list[str] | None, typer.Option("--apply", metavar="KIND", help="Make the changes of this finding.")
    ] = None,
    export_review: Annotated[
        Path | None,
        typer.Option("--export-review", metavar="FILE.csv", help="Write the rows for people to decide on."),
    ] = None,
    import_review: Annotated[
        Path | None,
        typer.Option("--import-review", metavar="FILE.csv", help="Make the changes people decided on."),
    ] = None,
    kind: Annotated[
        list[str] | None, typer.Option("--kind", metavar="KIND", help="Only these findings in the review.")
    ] = None,
    reviewer: Annotated[str, typer.Option("--reviewer", metavar="NAME", help="Who decided; recorded.")] = "",
    replace: Replace = False,
    inspection: Annotated[
        str | None,
        typer.Option("--inspection", metavar="ID", help="Findings of this inspection; else look again."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make the next dataset version from findings or from reviewers' decisions; the old one stays."""
    from tunery.core.errors import ConfigError
    from tunery.pipeline.stages.fix import apply_findings, write_review

    ways = [way for way in (apply, export_review, import_review) if way]
    if len(ways) != 1:
        raise ConfigError(
            "say what to do: one of --apply KIND, --export-review FILE.csv, --import-review FILE.csv",
            hint=f"tunery data inspect {recipe}",
        )
    with open_recipe(ctx, recipe, overrides) as context:
        if export_review is not None:
            rows = write_review(
                context,
                export_review,
                lambda: _findings(context, inspection),
                kind or (),
                replace=replace,
            )
            _answer_written(export_review, rows, as_json=as_json)
        elif import_review is not None:
            _import_review(context, recipe, import_review, reviewer, as_json=as_json)
        else:
            fixed = apply_findings(context, _findings(context, inspection), apply or ())
            _answer_fixed(fixed, recipe, None, as_json=as_json)


def _findings(context: RunContext, inspection: str | None) -> Sequence[Finding]:
    from tunery.pipeline.stages.data import make_dataset
    from tunery.pipeline.stages.inspect import inspect_data, stored_findings

    if inspection is None:
        return inspect_data(context).findings
    return stored_findings(context.workspace, inspection, make_dataset(context))


def _answer_written(path: Path, rows: int, *, as_json: bool) -> None:
    answer(
        {"path": path, "rows": rows},
        lambda: [
            f"{rows:,} rows in {path}",
            "Fill in the column decision: keep, drop or change; with change, the right answer in new_output.",
            f"try: tunery data fix RECIPE --import-review {path} --reviewer NAME",
        ],
        as_json=as_json,
    )


def _import_review(context: RunContext, recipe: Path, path: Path, reviewer: str, *, as_json: bool) -> None:
    from tunery.core.errors import ConfigError
    from tunery.pipeline.stages.fix import build_next, read_review

    review = read_review(context, path, reviewer)
    if not review.edits:
        raise ConfigError(
            f"{path}: nothing to change: {review.kept:,} rows kept, {review.undecided:,} undecided",
            hint="fill in the column decision",
        )
    _answer_fixed(build_next(context, review.edits), recipe, review, as_json=as_json)


def _answer_fixed(fixed: Fixed, recipe: Path, review: Review | None, *, as_json: bool) -> None:
    value: dict[str, Any] = {
        "edits": fixed.edits,
        "before": fixed.before.id,
        "after": fixed.after,
        "asked": fixed.requested,
        "overruled": fixed.overruled,
        "changed": fixed.changed,
        "run": ["tunery", "run", str(recipe), fixed.override],
    }
    if review is not None:
        value["review"] = {
            "kept": review.kept,
            "undecided": review.undecided,
            "notes": review.notes,
            "warnings": review.warnings,
        }
    answer(value, lambda: fixed_text(fixed, recipe, review), as_json=as_json)


@app.command("ls")
def list_datasets(ctx: typer.Context, *, limit: Limit = 50, as_json: Json = False) -> None:
    """List dataset versions, newest first."""
    with open_workspace(ctx) as workspace:
        found = workspace.datasets.list(limit=limit)
    rows = [
        (v.id, v.name, f"{v.rows_kept:,}", *(f"{v.splits.get(s, 0):,}" for s in SPLITS), v.created_at)
        for v in found
    ]
    columns = ["dataset", "name", ">rows", ">train", ">validation", ">test", "built"]
    answer_table(found, columns, rows, as_json=as_json)


@app.command("show")
def show_dataset(ctx: typer.Context, dataset_id: DatasetId, *, as_json: Json = False) -> None:
    """Show one dataset version: counts, splits, why rows were dropped, a few examples."""
    from tunery.store.dataset_files import read_dropped, read_examples

    with open_workspace(ctx) as workspace:
        version = workspace.datasets.get(dataset_id)
        folder = workspace.artifacts.path("datasets", version.id)
        examples = read_examples(folder, "train")[:_EXAMPLES]
        dropped = read_dropped(folder, per_reason=_DROPPED)
    answer(
        {**version.model_dump(mode="json"), "path": folder, "examples": examples, "dropped_rows": dropped},
        lambda: [*version_text(version), *rows_text(examples, dropped), f"files: {folder}"],
        as_json=as_json,
    )


@app.command("diff")
def diff(
    ctx: typer.Context,
    first: Annotated[str, typer.Argument(metavar="A", help="The older dataset version.")],
    second: Annotated[str, typer.Argument(metavar="B", help="The newer dataset version.")],
    *,
    as_json: Json = False,
) -> None:
    """Compare two dataset versions: rows that came, went, changed or moved between splits, and why."""
    from tunery.data.version.diff import diff_versions

    with open_workspace(ctx) as workspace:
        versions = [workspace.datasets.get(i) for i in (first, second)]
        one, other = (workspace.artifacts.path("datasets", v.id) for v in versions)
        found = diff_versions(versions[0], versions[1], (one, other))
    answer(found, lambda: diff_text(found), as_json=as_json)


@app.command("card")
def card(ctx: typer.Context, dataset_id: DatasetId, *, as_json: Json = False) -> None:
    """Print a dataset version's card: sources, licences, counts, drops, splits, how to make it again."""
    from tunery.data.version.card import data_card

    with open_workspace(ctx) as workspace:
        version = workspace.datasets.get(dataset_id)
    text = data_card(version)
    answer({"id": version.id, "card": text}, lambda: [text], as_json=as_json)


@app.command("export")
def export(  # noqa: PLR0913 - which version, in which form, to where
    ctx: typer.Context,
    dataset_id: DatasetId,
    *,
    form: Annotated[Format, typer.Option("--format", help="What to write.")],
    out: Annotated[Path, typer.Option("--out", help="File to write; a folder for all splits and for hf.")],
    split: Annotated[SplitName | None, typer.Option("--split", help="One split; else all.")] = None,
    replace: Replace = False,
    as_json: Json = False,
) -> None:
    """Write a dataset version for other programs, in a format that they read."""
    from tunery.data.writers.export import export_dataset

    with open_workspace(ctx) as workspace:
        version = workspace.datasets.get(dataset_id)
        written = export_dataset(
            version,
            workspace.artifacts.path("datasets", version.id),
            out,
            form=form,
            split=split,
            replace=replace,
        )
    answer(written, lambda: exported_text(written), as_json=as_json)


@app.command("collect")
def collect_traffic(  # noqa: PLR0913 - each is an option of its own
    ctx: typer.Context,
    *,
    out: Annotated[Path, typer.Option("--out", metavar="FILE.jsonl", help="File to write.")],
    model: Annotated[
        str | None, typer.Option("--model", metavar="NAME@N", help="Answers of this one only.")
    ] = None,
    share: Annotated[float, typer.Option("--share", help="Share of the requests, above 0 up to 1.")] = 1.0,
    per_user: Annotated[int, typer.Option("--per-user", min=1, help="Requests of one user at most.")] = 50,
    consent_key: ConsentKey = "training_consent",
    without_consent: WithoutConsent = False,
    replace: Replace = False,
    as_json: Json = False,
) -> None:
    """Write the gateway's own traffic as chat rows for training: sampled, capped per user, with consent.

    A recipe lists the file as a source; its rows never enter a held-out split.
    """
    from tunery.core.config import parse_settings
    from tunery.core.errors import ConflictError
    from tunery.data.config import TrafficConfig
    from tunery.data.readers.importers.request_log import write_traffic

    if out.exists() and not replace:
        raise ConflictError(f"{out} is there already", hint="add --replace, or name another file")
    values = {
        "share": share,
        "per_user": per_user,
        "consent_key": consent_key,
        "require_consent": not without_consent,
    }
    rule = parse_settings(TrafficConfig, values, where="data collect")
    with open_workspace(ctx) as workspace:
        written = write_traffic(workspace.requests.every(model=model), out, rule)
    value = {"path": str(out), "rows": written.rows, "skipped": dict(written.skipped)}
    answer(value, lambda: collected_text(str(out), written.rows, written.skipped), as_json=as_json)


app.command("score")(score)
app.command("synthesise")(synthesise_rows)
