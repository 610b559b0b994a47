"""Batches: a file of requests in, a file of answers out."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal, get_args

from fastapi import APIRouter, Query, Request
from pydantic import StringConstraints

from tunery.api.json_route import JsonRoute
from tunery.api.routes.files import FileLife
from tunery.api.services import Caller, Services, Shared, page_of, unix
from tunery.api.unserved import is_served
from tunery.core.batch import BATCH_ENDS, Batch, BatchStatus, BatchTally
from tunery.core.errors import ConfigError, LimitError, did_you_mean
from tunery.core.ids import new_id
from tunery.pipeline.batches.config import BatchSettings
from tunery.serve.openai.wire import Metadata, Name, Wire
from tunery.store.workspace import Workspace

router = APIRouter(prefix="/batches", route_class=JsonRoute)
ENDPOINTS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses")
"""What lines may ask for, where the server serves it."""


class BatchBody(Wire):
    """``POST /batches``."""

    input_file_id: Annotated[Name, StringConstraints(min_length=1, max_length=128)]
    endpoint: Annotated[Name, StringConstraints(max_length=64)]
    completion_window: Literal["24h"]
    metadata: Metadata | None = None
    output_expires_after: FileLife | None = None


@router.post("")
def create_batch(body: BatchBody, request: Request, shared: Shared, caller: Caller) -> dict[str, Any]:
    """Take a batch; its file is looked at as a whole before the first line is sent."""
    served = [path for path in ENDPOINTS if is_served(request, "POST", path)]
    if body.endpoint not in served:
        raise ConfigError(
            f"endpoint is {body.endpoint!r}; batches are served for {', '.join(served)}", param="endpoint"
        )
    _check_file(shared.workspace, body.input_file_id, shared.settings.batches)
    _check_room(shared.workspace, shared.settings.batches.max_open)
    now = shared.workspace.clock.now()
    life = body.output_expires_after
    batch = shared.workspace.batches.add(
        Batch(
            id=new_id("batch", now).replace("-", "_"),  # as OpenAI writes it
            created_at=now,
            status="validating",
            endpoint=body.endpoint,
            input_file_id=body.input_file_id,
            metadata=body.metadata,
            key_id=caller.key_id,
            expires_at=now + timedelta(hours=shared.settings.batches.window_hours),
            output_expires_after_s=life.seconds if life else None,
        )
    )
    shared.batches.look()
    return _object(shared, batch)


@router.get("")
def list_batches(
    shared: Shared, after: str | None = None, limit: Annotated[int, Query(ge=1, le=100)] = 20
) -> dict[str, Any]:
    """List batches, newest first."""
    page = shared.workspace.batches.page(after=after, limit=limit)
    return page_of([_object(shared, b) for b in page.items], has_more=page.has_more)


@router.get("/{batch_id}")
def retrieve_batch(batch_id: str, shared: Shared) -> dict[str, Any]:
    """Describe one batch, with how many of its lines are answered."""
    return _object(shared, shared.workspace.batches.get(batch_id))


@router.post("/{batch_id}/cancel")
def cancel_batch(batch_id: str, shared: Shared) -> dict[str, Any]:
    """Begin no more lines of a batch; what is answered stays, in its files."""
    batch = shared.workspace.batches.cancel(batch_id)
    shared.batches.look()
    return _object(shared, batch)


def _check_file(workspace: Workspace, file_id: str, settings: BatchSettings) -> None:
    file = workspace.files.find(file_id)
    if file is None:
        known = [f.id for f in workspace.files.list(limit=1_000, purpose="batch")]
        raise ConfigError(
            f"input_file_id {file_id!r:.80} does not exist{did_you_mean(file_id, known)}",
            param="input_file_id",
        )
    if file.purpose != "batch":
        raise ConfigError(
            f"input_file_id {file.id} has purpose {file.purpose!r}, not 'batch'", param="input_file_id"
        )
    if file.bytes > settings.max_bytes:
        raise ConfigError(
            f"{file.id} has {file.bytes:,} bytes, and a batch's file {settings.max_bytes:,} at most",
            param="input_file_id",
        )


def _check_room(workspace: Workspace, most: int) -> None:
    at_work = (status for status in get_args(BatchStatus) if status not in BATCH_ENDS)
    found = sum(len(workspace.batches.list(limit=most, status=status)) for status in at_work)
    if found >= most:
        raise LimitError(
            f"{found} batches have not ended, and that is the limit (batches.max_open)",
            hint="wait for one to end, or cancel one",
        )


def _object(shared: Services, batch: Batch) -> dict[str, Any]:
    return batch_object(batch, shared.workspace.batches.tally(batch))


def batch_object(batch: Batch, tally: BatchTally) -> dict[str, Any]:
    """Return OpenAI's batch object."""
    ended = {f"{status}_at": None for status in ("completed", "failed", "expired", "cancelled")}
    if batch.ended_at is not None:
        ended[f"{batch.status}_at"] = unix(batch.ended_at)  # type: ignore[assignment]
    problems = [problem.model_dump(mode="json") for problem in batch.problems]
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "model": batch.model,
        "errors": {"object": "list", "data": problems} if problems else None,
        "input_file_id": batch.input_file_id,
        "completion_window": "24h",
        "status": batch.status,
        "output_file_id": batch.output_file_id,
        "error_file_id": batch.error_file_id,
        "created_at": unix(batch.created_at),
        "in_progress_at": unix(batch.in_progress_at),
        "expires_at": unix(batch.expires_at),
        "finalizing_at": unix(batch.finalizing_at),
        "cancelling_at": unix(batch.cancelling_at),
        **ended,
        "request_counts": {"total": batch.lines, "completed": tally.answered, "failed": tally.refused},
        "usage": {
            "input_tokens": tally.prompt_tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": tally.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": tally.prompt_tokens + tally.completion_tokens,
        },
        "metadata": dict(batch.metadata) if batch.metadata else None,
    }
