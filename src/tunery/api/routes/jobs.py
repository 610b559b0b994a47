"""Fine-tuning jobs: create, look, pause, resume, cancel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from tunery.api.json_route import JsonRoute
from tunery.api.services import Caller, Services, Shared, count_in, page_of, part_of, wanted_metadata
from tunery.core.ids import in_order
from tunery.core.job import Job
from tunery.pipeline.gateway.names import answering_steps
from tunery.pipeline.jobs.openai_job import (
    JobBody,
    base_spec_of,
    checkpoint_object,
    event_object,
    job_object,
    new_job,
    request_of,
)
from tunery.pipeline.jobs.room import require_place
from tunery.store.jobs import QUEUED, Line

router = APIRouter(prefix="/fine_tuning/jobs", route_class=JsonRoute)
_MOST_CHECKPOINTS = 10_000
_RETRY_WINDOW_S = 3600
"""How long after a job's creation a repeated request is taken for a retry of it [s]."""


@router.post("")
def create_job(body: JobBody, request: Request, shared: Shared, caller: Caller) -> dict[str, Any]:
    """Queue a job; a client's retry of a request that had arrived gets the job it made."""
    submitted_by = caller.key_id or "api"
    earlier = _recognise(shared, body, submitted_by) if _is_retry(request) else _nobody
    base = shared.bases.default
    spec = base_spec_of(base, shared.settings.base)
    terms = shared.settings.job_terms
    with shared.job_creation:
        job = new_job(body, shared.workspace, base, base_spec=spec, submitted_by=submitted_by, terms=terms)
        if not any(map(earlier, shared.workspace.jobs.list())):
            require_place(shared.workspace, shared.settings.limits.open_jobs)
        if caller.key_name is not None:
            shared.workspace.model_names.claim(job.recipe["name"], caller.key_name)
        validation = f" and validation file: {body.validation_file}" if body.validation_file else ""
        lines = (
            Line(f"Created fine-tuning job: {job.id}"),
            Line(f"Validating training file: {body.training_file}{validation}"),
            Line(QUEUED),
        )
        return job_object(shared.workspace.jobs.create(job, lines, is_same=earlier))


@router.get("")
def list_jobs(
    request: Request,
    shared: Shared,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> dict[str, Any]:
    """List jobs, newest first; ``metadata[key]=value`` narrows, ``metadata=null`` takes those without any."""
    wanted = wanted_metadata(request)
    without = request.query_params.get("metadata") == "null"

    def is_meant(job: Job) -> bool:
        given = job.request.get("metadata") or {}
        return not given if without else wanted.items() <= given.items()

    jobs = shared.workspace.jobs
    if wanted or without:
        page = jobs.filtered(is_meant, after=after, limit=limit)
    else:
        page = jobs.page(after=after, limit=limit)
    return page_of([job_object(j) for j in page.items], has_more=page.has_more)


@router.get("/{job_id}")
def retrieve_job(job_id: str, shared: Shared) -> dict[str, Any]:
    """Describe one job."""
    return job_object(shared.workspace.jobs.get(job_id))


@router.post("/{job_id}/cancel")
def cancel_job(job_id: str, shared: Shared) -> dict[str, Any]:
    """Ask a job to stop: one that waits ends now, one that runs at its next step."""
    return job_object(shared.workspace.jobs.request_cancel(job_id))


@router.post("/{job_id}/pause")
def pause_job(job_id: str, shared: Shared) -> dict[str, Any]:
    """Ask a job to wait: one in the queue leaves it now, one that runs stops at its next step."""
    return job_object(shared.workspace.jobs.request_pause(job_id))


@router.post("/{job_id}/resume")
def resume_job(job_id: str, shared: Shared) -> dict[str, Any]:
    """Let a paused job go on where it was."""
    return job_object(shared.workspace.jobs.resume(job_id, ended=False))


@router.get("/{job_id}/events")
def list_events(
    job_id: str,
    shared: Shared,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 20,
) -> dict[str, Any]:
    """List a job's events, newest first."""
    page = shared.workspace.jobs.events(job_id, after=after, limit=limit)
    return page_of([event_object(e) for e in page.items], has_more=page.has_more)


@router.get("/{job_id}/checkpoints")
def list_checkpoints(
    job_id: str,
    shared: Shared,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 10,
) -> dict[str, Any]:
    """List the points of a job's training that answer by the names they are listed with, newest first."""
    workspace = shared.workspace
    job = workspace.jobs.get(job_id)
    steps = answering_steps(workspace, job)
    noted = workspace.jobs.checkpoints(job_id, limit=_MOST_CHECKPOINTS).items
    answering = [checkpoint_object(c, job) for c in reversed(noted) if c.step_number in steps]
    part = part_of(answering, after=after, limit=limit, order="desc", of=job.id)
    return page_of(part.items, has_more=part.has_more)


def _is_retry(request: Request) -> bool:
    return count_in(request.headers.get("x-stainless-retry-count", "")) > 0


def _recognise(shared: Services, body: JobBody, submitted_by: str) -> Callable[[Job], bool]:
    """Return what knows the job that the first try of this request made, if it arrived."""
    wanted, now = request_of(body), shared.workspace.clock.now()

    def is_same(job: Job) -> bool:
        recent = (now - job.created_at).total_seconds() <= _RETRY_WINDOW_S
        same = in_order(job.request) == in_order(wanted)
        return recent and job.submitted_by == submitted_by and same

    return is_same


def _nobody(job: Job) -> bool:
    return False
