"""``tunery data``: dataset versions, from raw files to what training and evaluation read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from tunery.cli.data_synthesise import synthesise_rows
from tunery.cli.output import answer, facts, table
from tunery.cli.parameters import Json, Limit, Overrides, RecipePath
from tunery.cli.session import open_recipe, open_workspace

if TYPE_CHECKING:
    from tunery.cli.output import Part
    from tunery.core.dataset import DatasetVersion
    from tunery.core.example import Dropped, Example, SplitName

app = typer.Typer(no_args_is_help=True, help="Dataset versions: build, list, look into.")
_SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
_EXAMPLES = 3
_DROPPED = 2
_CHARACTERS = 300


@app.command("run")
def data_run(
    ctx: typer.Context, recipe: RecipePath, overrides: Overrides = None, *, as_json: Json = False
) -> None:
    """Build the recipe's dataset version: read, clean, mask, deduplicate, split. Nothing is trained."""
    from tunery.cli.progress import terminal_progress
    from tunery.pipeline.stages.data import make_dataset

    progress = terminal_progress()
    with open_recipe(ctx, recipe, overrides, progress) as context, progress.task("data", None):
        made = make_dataset(context)
    answer(made, lambda: version_text(made), as_json=as_json)


@app.command("ls")
def list_datasets(ctx: typer.Context, *, limit: Limit = 50, as_json: Json = False) -> None:
    """List dataset versions, newest first."""
    with open_workspace(ctx) as workspace:
        found = workspace.datasets.list(limit=limit)
    rows = [
        (v.id, v.name, f"{v.rows_kept:,}", *(f"{v.splits.get(s, 0):,}" for s in _SPLITS), v.created_at)
        for v in found
    ]
    columns = ["dataset", "name", ">rows", ">train", ">validation", ">test", "built"]
    answer(found, lambda: [table(columns, rows)], as_json=as_json)


@app.command("show")
def show_dataset(
    ctx: typer.Context, dataset_id: Annotated[str, typer.Argument(metavar="ID")], *, as_json: Json = False
) -> None:
    """Show one dataset version: counts, splits, why rows were dropped, a few examples."""
    from tunery.data.read import read_dropped, read_examples

    with open_workspace(ctx) as workspace:
        version = workspace.datasets.get(dataset_id)
        folder = workspace.artifacts.path("datasets", version.id)
        examples = read_examples(folder, "train")[:_EXAMPLES]
        dropped = read_dropped(folder, per_reason=_DROPPED)
    answer(
        {**version.model_dump(mode="json"), "path": folder, "examples": examples, "dropped_rows": dropped},
        lambda: [*version_text(version), *_rows_text(examples, dropped), f"files: {folder}"],
        as_json=as_json,
    )


def version_text(version: DatasetVersion) -> Iterable[Part]:
    """Return a dataset version as a person reads it."""
    yield facts(
        [
            ("dataset", version.id),
            ("name", version.name),
            *(
                ("from", f"{s.path} ({s.rows:,} rows, {s.shape}, sha256 {s.sha256[:12]})")
                for s in version.sources
            ),
            *(("grown from", parent) for parent in version.parents),
            ("rows", f"{version.rows_kept:,} kept of {version.rows_read:,} read"),
            ("splits", ", ".join(f"{name} {version.splits.get(name, 0):,}" for name in _SPLITS)),
            ("dropped", _counts(version.dropped) or "nothing"),
            ("masked", _counts(version.masked) or "nothing found"),
            ("labels", f"{len(version.labels):,} classes" if version.labels else "open text"),
            ("system prompt", version.system_prompt),
        ]
    )
    for warning in version.warnings:
        yield f"warning: {warning}"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _rows_text(examples: Sequence[Example], dropped: Sequence[Dropped]) -> Iterable[str]:
    for example in examples:
        yield f"\nexample {example.id}"
        for message in example.messages:
            yield f"  {message.role}: {_cut(message.content)}"
        if example.rejected is not None:
            yield f"  rejected: {_cut(example.rejected)}"
    for row in dropped:
        yield f"\ndropped ({row.reason}) {row.source} row {row.row}: {row.detail}\n  {_cut(row.text)}"
    yield ""


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _CHARACTERS else f"{line[:_CHARACTERS]} … ({len(text):,} characters)"


app.command("synthesise")(synthesise_rows)
