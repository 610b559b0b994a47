"""Stored completions: read a served call back, and rate it with a client that knows no feedback."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from tunery.api.json_route import JsonRoute
from tunery.api.services import Caller, Services, Shared, name_of, page_of, unix, wanted_metadata
from tunery.core.config import parse_settings
from tunery.core.errors import ConfigError
from tunery.core.rollout import Feedback, RequestRecord
from tunery.feedback.collect import GivenFeedback, record
from tunery.serve.openai.wire import Metadata, Wire

router = APIRouter(prefix="/chat/completions", route_class=JsonRoute)
_SCAN = 1_000
"""Newest records that a filtered list looks through [count]."""
_FEEDBACK_KEYS = {"rating", "correction", "preference", "rejected", "comment"}


class MetadataBody(Wire):
    """What an update carries."""

    metadata: Metadata


@router.get("")
def list_completions(
    request: Request,
    shared: Shared,
    after: str | None = None,
    model: str | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> dict[str, Any]:
    """List served calls, newest first; ``metadata[key]=value`` narrows."""
    shared.log.flush()
    wanted = wanted_metadata(request)
    records = [
        r
        for r in shared.workspace.requests.list(limit=_SCAN, model=model)
        if all(str(r.metadata.get(k)) == v for k, v in wanted.items())
    ]
    if after is not None:
        position = next((i for i, r in enumerate(records) if r.id == after), len(records))
        records = records[position + 1 :]
    return page_of([_object(r) for r in records[:limit]], has_more=len(records) > limit)


@router.get("/{completion_id}")
def retrieve_completion(completion_id: str, shared: Shared) -> dict[str, Any]:
    """Return a served call, personal data masked."""
    return _object(_get(shared, completion_id))


@router.get("/{completion_id}/messages")
def list_messages(completion_id: str, shared: Shared) -> dict[str, Any]:
    """Return the conversation that was answered."""
    found = _get(shared, completion_id)
    messages = [
        {"id": f"{found.id}-{i}", "role": m.role, "content": m.content} for i, m in enumerate(found.messages)
    ]
    return page_of(messages, has_more=False)


@router.post("/{completion_id}")
def update_completion(
    completion_id: str, body: MetadataBody, shared: Shared, caller: Caller
) -> dict[str, Any]:
    """Take feedback on a served call: ``metadata={"rating": "1"}`` or ``{"correction": "…"}``."""
    found = _get(shared, completion_id)
    record(shared.workspace, found.id, feedback_of(body.metadata), author=name_of(caller))
    return _object(found)


def feedback_of(metadata: dict[str, str]) -> GivenFeedback:
    """Read feedback from metadata, all of whose values are text.

    Raises:
        ConfigError: Other keys than those of feedback, or a rating that is neither 1 nor -1.
    """
    unknown = sorted(set(metadata) - _FEEDBACK_KEYS)
    if unknown or not metadata:
        raise ConfigError(
            f"metadata of a served call takes feedback: rating (1 or -1), correction, preference, rejected, "
            f"comment; not {', '.join(unknown) or 'nothing at all'}",
            param="metadata",
        )
    values: dict[str, Any] = {k: v for k, v in metadata.items() if k != "preference"}
    if "rating" in values:
        if values["rating"] not in {"1", "-1", "+1"}:
            raise ConfigError(f"rating is {values['rating']!r:.40}; write 1 or -1", param="metadata.rating")
        values["rating"] = int(values["rating"])
    if "preference" in metadata:
        values["correction"] = metadata["preference"]
    prefers = "preference" in metadata or "rejected" in metadata
    kind = "preference" if prefers else "rating" if "rating" in values else "correction"
    return parse_settings(GivenFeedback, {"kind": kind, **values}, where="metadata")


def _get(shared: Services, completion_id: str) -> RequestRecord:
    shared.log.flush()
    return shared.workspace.requests.get(completion_id)


def _object(found: RequestRecord) -> dict[str, Any]:
    reason = "length" if found.finish_reason in ("cancelled", None) else found.finish_reason
    return {
        "id": found.id,
        "object": "chat.completion",
        "created": unix(found.created_at),
        "model": found.model,
        "metadata": dict(found.metadata),
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": found.completion, "refusal": None},
                "finish_reason": reason,
                "logprobs": None,
            }
        ],
        "usage": {
            "prompt_tokens": found.prompt_tokens,
            "completion_tokens": found.completion_tokens,
            "total_tokens": found.prompt_tokens + found.completion_tokens,
        },
    }


def feedback_object(feedback: Feedback) -> dict[str, Any]:
    """Return a piece of feedback."""
    return {**feedback.model_dump(mode="json"), "object": "feedback", "created_at": unix(feedback.created_at)}
