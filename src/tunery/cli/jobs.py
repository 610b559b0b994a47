"""``tunery jobs``: recipes that wait for, or run under, a server."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from itertools import takewhile
from typing import TYPE_CHECKING, Annotated

import typer

from tunery.cli.changes import changed
from tunery.cli.output import answer, answer_table, facts, moment, write
from tunery.cli.parameters import Json, Limit, Overrides, Project, RecipePath
from tunery.cli.session import ACTOR, folder_of, open_workspace

if TYPE_CHECKING:
    from tunery.core.job import Job, JobEvent
    from tunery.store.workspace import Workspace

app = typer.Typer(no_args_is_help=True, help="The queue that a running 'tunery serve' works off.")
JobId = Annotated[str, typer.Argument(metavar="JOB", help="The ftjob-… id.")]
_EVENTS = 20
_POLL_S = 0.5


@app.command("start")
def start_job(
    ctx: typer.Context,
    recipe: RecipePath,
    overrides: Overrides = None,
    *,
    project: Project = None,
    as_json: Json = False,
) -> None:
    """Put a recipe into the queue; a running 'tunery serve' takes it."""
    from tunery.pipeline.jobs.submit import start_job as start
    from tunery.pipeline.recipe import load_recipe

    loaded = load_recipe(recipe, overrides or ())
    with open_workspace(ctx, project) as workspace:
        job = start(workspace, loaded, base_dir=folder_of(recipe), recipe_path=recipe, actor=ACTOR)
        changed(ctx, job.id)
    answer(job, lambda: [f"{job.id} is queued\nnext: tunery jobs status {job.id} --follow"], as_json=as_json)


@app.command("resume")
def resume_job(ctx: typer.Context, job_id: JobId, *, as_json: Json = False) -> None:
    """Queue a paused, failed or cancelled job again; it continues from its last checkpoint."""
    from tunery.pipeline.jobs.submit import resume_job as resume

    with open_workspace(ctx) as workspace:
        job = resume(workspace, job_id)
    state = "goes on" if job.status == "running" else f"is {job.status}"
    answer(job, lambda: [f"{job.id} {state}\nnext: tunery jobs status {job.id} --follow"], as_json=as_json)


@app.command("pause")
def pause_job(ctx: typer.Context, job_id: JobId, *, as_json: Json = False) -> None:
    """Ask a job to wait until it is resumed: a waiting one leaves the queue, a running one stops."""
    with open_workspace(ctx) as workspace:
        job = workspace.jobs.request_pause(job_id)
    pausing = "stops at its next step" if job.status == "running" else f"is {job.status}"
    answer(job, lambda: [f"{job.id} {pausing}\nnext: tunery jobs resume {job.id}"], as_json=as_json)


@app.command("ls")
def list_jobs(
    ctx: typer.Context, *, project: Project = None, limit: Limit = 20, as_json: Json = False
) -> None:
    """List jobs, newest first."""
    with open_workspace(ctx, project) as workspace:
        found = workspace.jobs.list(limit)
    rows = [
        (j.id, j.status, str(j.recipe.get("name", "")), j.model_version, j.submitted_by, j.created_at)
        for j in found
    ]
    answer_table(found, ["job", "status", "name", "version", "by", "created"], rows, as_json=as_json)


@app.command("show")
def show_job(ctx: typer.Context, job_id: JobId, *, as_json: Json = False) -> None:
    """Show one job with its checkpoints and its newest events."""
    with open_workspace(ctx) as workspace:
        job = workspace.jobs.get(job_id)
        events = workspace.jobs.events(job_id, limit=_EVENTS).items
        checkpoints = workspace.jobs.checkpoints(job_id).items
    value = {**job.model_dump(mode="json"), "events": events, "checkpoints": checkpoints}
    answer(value, lambda: [*_job_text(job), *(_event_text(e) for e in reversed(events))], as_json=as_json)


@app.command("status")
def follow_job(
    ctx: typer.Context,
    job_id: JobId,
    *,
    follow: Annotated[
        bool, typer.Option("--follow", help="Print events as they come, until the job ends.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show how far a job is; with --follow wait for its end and show its events as they come."""
    with open_workspace(ctx) as workspace:
        followed: list[JobEvent] = []
        if follow:
            for event in _events_until_the_end(workspace, job_id):
                followed.append(event)
                if not as_json:
                    write(f"{_event_text(event)}\n")
        job = workspace.jobs.get(job_id)
        newest = [] if follow else workspace.jobs.events(job_id, limit=1).items
    value = {
        "id": job.id,
        "status": job.status,
        "model_version": job.model_version,
        "error": job.error,
        "events": followed or newest,
    }
    answer(value, lambda: [*(_event_text(e) for e in newest), f"{job.id}: {job.status}"], as_json=as_json)


@app.command("cancel")
def cancel_job(ctx: typer.Context, job_id: JobId, *, as_json: Json = False) -> None:
    """Ask a job to stop: a waiting one ends now, a running one at its next step."""
    with open_workspace(ctx) as workspace:
        job = workspace.jobs.request_cancel(job_id)
    stopping = "is asked to stop" if job.status == "running" else f"is {job.status}"
    answer(job, lambda: [f"{job.id} {stopping}"], as_json=as_json)


def _events_until_the_end(workspace: Workspace, job_id: str) -> Iterator[JobEvent]:
    from tunery.core.job import FINAL_STATUSES

    seen: set[str] = set()
    while True:
        # Asked before the events are read, so that the last event is not missed.
        over = workspace.jobs.get(job_id).status in FINAL_STATUSES
        newest_first = workspace.jobs.every_event(job_id)
        for event in reversed([*takewhile(lambda event: event.id not in seen, newest_first)]):
            seen.add(event.id)
            yield event
        if over:
            return
        time.sleep(_POLL_S)


def _job_text(job: Job) -> Iterable[str]:
    yield facts(
        [
            ("job", job.id),
            ("status", job.status),
            ("name", job.recipe.get("name")),
            ("version", job.model_version),
            ("run", job.run_id),
            ("created", job.created_at),
            ("started", job.started_at),
            ("finished", job.finished_at),
            ("attempts", job.attempts or None),
            ("trained tokens", f"{job.trained_tokens:,}" if job.trained_tokens else None),
            ("error", job.error.get("message") if job.error else None),
            ("by", job.submitted_by),
        ]
    )


def _event_text(event: JobEvent) -> str:
    level = "" if event.level == "info" else f"{event.level}: "
    return f"{moment(event.created_at)}  {level}{event.message}"
