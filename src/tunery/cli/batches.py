"""``tunery batches``: files of requests that a running server works off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tunery.cli.output import answer, answer_table, facts
from tunery.cli.parameters import After, Json, Limit
from tunery.cli.session import open_workspace

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tunery.core.batch import Batch, BatchTally

app = typer.Typer(no_args_is_help=True, help="Files of requests that a running 'tunery serve' answers.")
BatchId = Annotated[str, typer.Argument(metavar="BATCH", help="The batch_… id.")]


@app.command("ls")
def list_batches(
    ctx: typer.Context, *, limit: Limit = 20, after: After = None, as_json: Json = False
) -> None:
    """List batches, newest first."""
    with open_workspace(ctx) as workspace:
        found = workspace.batches.page(after=after, limit=limit).items
        tallies = [workspace.batches.tally(batch) for batch in found]
    rows = [
        (b.id, b.status, b.endpoint, f"{b.lines:,}", f"{t.answered:,}", f"{t.refused:,}", b.created_at)
        for b, t in zip(found, tallies, strict=True)
    ]
    objects = [_value(b, t) for b, t in zip(found, tallies, strict=True)]
    columns = ["batch", "status", "endpoint", ">lines", ">answered", ">refused", "created"]
    answer_table(objects, columns, rows, as_json=as_json)


@app.command("show")
def show_batch(ctx: typer.Context, batch_id: BatchId, *, as_json: Json = False) -> None:
    """Show one batch: how far it is, what is wrong with its file, where its answers are."""
    with open_workspace(ctx) as workspace:
        batch = workspace.batches.get(batch_id)
        tally = workspace.batches.tally(batch)
    answer(_value(batch, tally), lambda: _text(batch, tally), as_json=as_json)


@app.command("cancel")
def cancel_batch(ctx: typer.Context, batch_id: BatchId, *, as_json: Json = False) -> None:
    """Begin no more lines of a batch; what is answered stays, in its files."""
    with open_workspace(ctx) as workspace:
        batch = workspace.batches.cancel(batch_id)
        tally = workspace.batches.tally(batch)
    answer(_value(batch, tally), lambda: [f"{batch.id} is {batch.status}"], as_json=as_json)


def _value(batch: Batch, tally: BatchTally) -> dict[str, object]:
    return {**batch.model_dump(mode="json"), **tally._asdict()}


def _text(batch: Batch, tally: BatchTally) -> Iterable[str]:
    yield facts(
        [
            ("batch", batch.id),
            ("status", batch.status),
            ("endpoint", batch.endpoint),
            ("model", batch.model),
            ("lines", f"{batch.lines:,}"),
            ("answered", f"{tally.answered:,}"),
            ("refused", f"{tally.refused:,}"),
            ("tokens", f"{tally.prompt_tokens:,} + {tally.completion_tokens:,}"),
            ("created", batch.created_at),
            ("expires", batch.expires_at),
            ("ended", batch.ended_at),
            ("answers", batch.output_file_id),
            ("errors", batch.error_file_id),
        ]
    )
    for problem in batch.problems:
        yield f"line {problem.line}: {problem.message}" if problem.line else problem.message
