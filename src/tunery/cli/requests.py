"""``tunery requests``: the log of served calls; list, show, take back."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from tunery.cli.output import answer, answer_table, facts
from tunery.cli.parameters import After, Json, Limit, Project
from tunery.cli.session import open_workspace

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tunery.pipeline.gateway.purge import Taken

app = typer.Typer(no_args_is_help=True, help="Served calls: list, show, delete them or their texts.")


@app.command("ls")
def list_requests(
    ctx: typer.Context,
    *,
    model: Annotated[
        str | None, typer.Option("--model", metavar="NAME@N", help="Answered by this one only.")
    ] = None,
    project: Project = None,
    limit: Limit = 50,
    after: After = None,
    as_json: Json = False,
) -> None:
    """List served calls, newest first; prompts are not read."""
    from tunery.pipeline.gateway.catch_up import move_abandoned

    with open_workspace(ctx, project) as workspace:
        move_abandoned(workspace)
        found = workspace.requests.heads(model=model, after=after, limit=limit).items
    rows = [
        (r.id, r.model, r.status, f"{r.prompt_tokens:,}", f"{r.completion_tokens:,}", r.text, r.created_at)
        for r in found
    ]
    objects = [r.model_dump(mode="json", exclude={"messages"}) for r in found]
    columns = ["request", "model", "status", ">prompt", ">answer", "text", "asked"]
    answer_table(objects, columns, rows, as_json=as_json)


@app.command("show")
def show_request(
    ctx: typer.Context,
    request_id: Annotated[
        str, typer.Argument(metavar="REQUEST", help="The id of the answer: chatcmpl-…, cmpl-… or resp_….")
    ],
    *,
    as_json: Json = False,
) -> None:
    """Show one served call with its prompt and answer, personal data masked."""
    from tunery.pipeline.gateway.catch_up import settle

    with open_workspace(ctx) as workspace:
        settle(workspace, request_id)
        found = workspace.requests.get(request_id)
    pairs = [
        ("request", found.id),
        ("asked", found.created_at),
        ("for", found.endpoint),
        ("model", found.model),
        ("status", found.status),
        ("tokens", f"{found.prompt_tokens:,} + {found.completion_tokens:,}"),
        ("text", None if found.text == "kept" else found.text.replace("_", " ")),
        *((m.role, m.content) for m in found.messages),
        ("answered", found.completion if found.text == "kept" else None),
    ]
    answer(found, lambda: [facts(pairs)], as_json=as_json)


@app.command("purge")
def purge_requests(  # noqa: PLR0913 - each is an option of its own
    ctx: typer.Context,
    *,
    before: Annotated[datetime | None, typer.Option("--before", help="Asked before then.")] = None,
    ids: Annotated[
        list[str] | None, typer.Option("--id", metavar="REQUEST", help="This one; may be repeated.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="NAME[@N]", help="Answered by this version, or this name."),
    ] = None,
    project: Project = None,
    texts_only: Annotated[
        bool, typer.Option("--texts-only", help="Keep the figures, delete prompts and answers.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do it without asking.")] = False,
    as_json: Json = False,
) -> None:
    """Delete served calls that meet every condition given, with the feedback on them.

    They go from the database and from the journals. Dataset versions that were made of them stay, and are
    named.
    """
    from tunery.core.errors import ConfigError
    from tunery.core.figures import counted
    from tunery.pipeline.gateway.purge import purge
    from tunery.store.requests import Chosen

    if before is None and not ids and model is None and project is None:
        raise ConfigError("say which calls: --before, --id, --model or --project", hint="tunery requests ls")
    # A time without a zone is the machine's own.
    chosen = Chosen(tuple(ids or ()), before and before.astimezone(), model)
    with open_workspace(ctx, project) as workspace:
        if not yes:
            meant = counted(sum(1 for _ in workspace.requests.chosen_ids(chosen)), "call")
            what = f"the texts of {meant}" if texts_only else f"{meant} and the feedback on them"
            if not sys.stdin.isatty():
                raise ConfigError(f"this deletes {what} for good", hint="add --yes")
            typer.confirm(f"Delete {what} for good?", abort=True, err=True)
        taken = purge(workspace, chosen, texts_only=texts_only)
    value = {
        **taken.purged._asdict(),
        "journalled": taken.journalled,
        "datasets": dict(taken.datasets),
        "unreadable": list(taken.unreadable),
    }
    answer(value, lambda: _taken_text(taken), as_json=as_json)


def _taken_text(taken: Taken) -> Iterable[str]:
    from tunery.core.figures import counted

    purged = taken.purged
    yield (
        f"deleted: {counted(purged.requests, 'call')}, the texts of {counted(purged.texts, 'call')}, "
        f"{counted(purged.feedback, 'piece')} of feedback; {counted(taken.journalled, 'line')} in journals"
    )
    for dataset, rows in taken.datasets.items():
        yield f"{dataset} holds {counted(rows, 'of them', 'of them')} among its rows: build it anew without"
    for dataset in taken.unreadable:
        yield f"{dataset} cannot be read: whether it holds any is not known"
