"""``tunery feedback``: what users said of answers, reviewed, as rows of the next dataset version."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from tunery.cli.output import answer, answer_table, facts
from tunery.cli.parameters import After, Json, Limit, Project
from tunery.cli.session import ACTOR, open_workspace

app = typer.Typer(no_args_is_help=True, help="Feedback on answers: add, review, export as training rows.")
_CHARACTERS = 60


@app.command("add")
def add_feedback(  # noqa: PLR0913 - each is an option of its own
    ctx: typer.Context,
    request_id: Annotated[str, typer.Argument(metavar="REQUEST", help="The chatcmpl-… id of the answer.")],
    *,
    rating: Annotated[
        Literal["up", "down"] | None, typer.Option("--rating", help="Thumb up or down.")
    ] = None,
    correction: Annotated[
        str | None, typer.Option("--correction", help="What the answer should have been.")
    ] = None,
    preferred: Annotated[
        str | None, typer.Option("--preferred", help="An answer that is better than the served one.")
    ] = None,
    rejected: Annotated[
        str | None, typer.Option("--rejected", help="An answer that is worse than the served one.")
    ] = None,
    comment: Annotated[str | None, typer.Option("--comment", help="Why.")] = None,
    author: Annotated[str, typer.Option("--author", help="Who says it.")] = ACTOR,
    as_json: Json = False,
) -> None:
    """Say something of one served answer: a rating, a correction, or which of two answers is better."""
    from tunery.core.config import parse_settings
    from tunery.core.errors import ConfigError
    from tunery.feedback.collect import GivenFeedback, record
    from tunery.pipeline.gateway.catch_up import settle

    values: dict[str, Any] = {}
    if rating is not None:
        values = {"kind": "rating", "rating": 1 if rating == "up" else -1}
    kinds = [rating is not None, correction is not None, preferred is not None or rejected is not None]
    if sum(kinds) != 1:
        raise ConfigError(
            "say one thing: --rating, or --correction, or --preferred and --rejected",
            hint=f"tunery feedback add {request_id} --rating up",
        )
    if correction is not None:
        values = {"kind": "correction", "correction": correction}
    elif rating is None:
        values = {"kind": "preference", "correction": preferred, "rejected": rejected}
    given = parse_settings(GivenFeedback, {**values, "comment": comment}, where="feedback")
    with open_workspace(ctx) as workspace:
        settle(workspace, request_id)
        stored = record(workspace, request_id, given, author=author)
    answer(
        stored,
        lambda: [f"{stored.id}: {stored.kind} on {stored.request_id} waits for a review"],
        as_json=as_json,
    )


@app.command("ls")
def list_feedback(
    ctx: typer.Context,
    *,
    status: Annotated[
        Literal["pending", "accepted", "declined"] | None, typer.Option("--status", help="Only these.")
    ] = None,
    project: Project = None,
    limit: Limit = 50,
    after: After = None,
    as_json: Json = False,
) -> None:
    """List feedback, newest first."""
    with open_workspace(ctx, project) as workspace:
        found = workspace.feedback.page(where={"status": status}, after=after, limit=limit).items
    rows = [(f.id, f.kind, _content(f), f.status, f.author, f.created_at) for f in found]
    columns = ["feedback", "kind", "says", "status", "author", "given"]
    answer_table(found, columns, rows, as_json=as_json)


@app.command("show")
def show_feedback(
    ctx: typer.Context, feedback_id: Annotated[str, typer.Argument(metavar="ID")], *, as_json: Json = False
) -> None:
    """Show one piece of feedback beside the prompt and the answer it is about."""
    with open_workspace(ctx) as workspace:
        found = workspace.feedback.get(feedback_id)
        request = workspace.requests.get(found.request_id)
    pairs = [
        ("feedback", found.id),
        ("status", found.status),
        ("model", request.model),
        *((m.role, m.content) for m in request.messages),
        ("answered", request.completion),
        ("rating", None if found.rating is None else ("up" if found.rating > 0 else "down")),
        ("better", found.correction),
        ("worse", found.rejected),
        ("comment", found.comment),
        ("by", found.author),
    ]
    answer({"feedback": found, "request": request}, lambda: [facts(pairs)], as_json=as_json)


@app.command("review")
def review_feedback(
    ctx: typer.Context,
    feedback_ids: Annotated[list[str], typer.Argument(metavar="ID")],
    *,
    accept: Annotated[
        bool,
        typer.Option("--accept/--decline", help="Let it become a training row, or keep it from being one."),
    ],
    reviewer: Annotated[str, typer.Option("--reviewer", help="Who reviews.")] = ACTOR,
    as_json: Json = False,
) -> None:
    """Accept or decline pieces of feedback."""
    with open_workspace(ctx) as workspace:
        review = workspace.feedback.review
        reviewed = [review(feedback_id, accepted=accept, reviewer=reviewer) for feedback_id in feedback_ids]
    answer(reviewed, lambda: [f"{f.id}: {f.status} by {f.reviewer}" for f in reviewed], as_json=as_json)


@app.command("export")
def export_feedback(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder to write.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Settings of the export, such as include_liked=true."),
    ] = None,
    *,
    model: Annotated[str | None, typer.Option("--model", metavar="NAME", help="Only on this model.")] = None,
    since: Annotated[datetime | None, typer.Option("--since", help="Only given since then.")] = None,
    as_json: Json = False,
) -> None:
    """Write accepted feedback as training rows; no row that is held out anywhere in the model's lineage."""
    from tunery.core.config import apply_overrides, parse_settings
    from tunery.core.figures import listed_counts
    from tunery.feedback.config import ExportConfig
    from tunery.feedback.export import export

    config = parse_settings(ExportConfig, apply_overrides({}, overrides or ()), where="export")
    with open_workspace(ctx) as workspace:
        # A time without a zone is the machine's own.
        exported = export(workspace, folder, model=model, since=since and since.astimezone(), config=config)
    skipped = listed_counts(exported.skipped)
    pairs = [
        ("export", exported.id),
        ("examples", f"{exported.examples:,}"),
        ("preferences", f"{exported.preferences:,}"),
        *([("ratings", f"{exported.ratings:,}")] if exported.ratings else []),
        ("skipped", skipped or "nothing"),
        ("folder", exported.path),
    ]
    answer(exported, lambda: [facts(pairs)], as_json=as_json)


def _content(feedback: Any) -> str:
    from tunery.core.figures import one_line

    if feedback.rating is not None:
        return "up" if feedback.rating > 0 else "down"
    return one_line(feedback.correction or "", _CHARACTERS)
