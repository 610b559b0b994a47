"""Stored completions: read a served call back, and rate it with a client that knows no feedback."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request

from tunery.api.json_route import JsonRoute
from tunery.api.services import Caller, Services, Shared, page_of, part_of, unix, wanted_metadata
from tunery.core.config import parse_settings
from tunery.core.errors import ConfigError, ResourceError
from tunery.core.rollout import Feedback, RequestRecord
from tunery.feedback.collect import GivenFeedback, feedback_on, record
from tunery.serve.openai.wire import Metadata, Wire

router = APIRouter(prefix="/chat/completions", route_class=JsonRoute)
FEEDBACK_KEYS = frozenset({"rating", "correction", "preference", "rejected", "comment"})
"""Keys of metadata that are taken as feedback, and kept as that."""


class MetadataBody(Wire):
    """What an update carries."""

    metadata: Metadata | None


@router.get("")
def list_completions(
    request: Request,
    shared: Shared,
    after: str | None = None,
    model: str | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "desc",
) -> dict[str, Any]:
    """List served calls, newest first unless asked otherwise; ``metadata[key]=value`` narrows."""
    shared.log.flush()
    page = shared.workspace.requests.heads(
        model=model,
        metadata=wanted_metadata(request),
        after=after,
        limit=limit,
        oldest_first=order == "asc",
    )
    return page_of([_object(r) for r in page.items], has_more=page.has_more)


@router.get("/{completion_id}")
def retrieve_completion(completion_id: str, shared: Shared) -> dict[str, Any]:
    """Return a served call, personal data masked."""
    return _object(get_call(shared, completion_id))


@router.get("/{completion_id}/messages")
def list_messages(
    completion_id: str,
    shared: Shared,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "asc",
) -> dict[str, Any]:
    """Return the conversation that was answered, its first turn first unless asked otherwise."""
    found = get_call(shared, completion_id)
    messages = [
        {"id": f"{found.id}-{i}", "role": m.role, "content": m.content} for i, m in enumerate(found.messages)
    ]
    part = part_of(messages, after=after, limit=limit, order=order, of=found.id)
    return page_of(part.items, has_more=part.has_more)


@router.delete("/{completion_id}")
def delete_completion(completion_id: str, shared: Shared, caller: Caller) -> dict[str, Any]:
    """Delete a served call: its texts are gone, and only its figures are kept for tallies."""
    shared.conversations.forget(caller.project, completion_id)
    shared.log.forget(completion_id)
    return {"id": completion_id, "object": "chat.completion.deleted", "deleted": True}


@router.post("/{completion_id}")
def update_completion(
    completion_id: str, body: MetadataBody, shared: Shared, caller: Caller
) -> dict[str, Any]:
    """Take feedback on a call, as in ``metadata={"rating": "1"}``, and replace its metadata by the rest.

    Feedback alone leaves the metadata as it is.
    """
    given = body.metadata or {}
    said = {key: value for key, value in given.items() if key in FEEDBACK_KEYS}
    rest = {key: value for key, value in given.items() if key not in FEEDBACK_KEYS}
    feedback = feedback_of(said) if said else None
    if rest or not said:
        shared.log.set_metadata(completion_id, rest)
    if feedback is not None:
        give(shared, completion_id, feedback, author=caller.name)
    return _object(get_call(shared, completion_id))


def feedback_of(metadata: dict[str, str]) -> GivenFeedback:
    """Read feedback from the keys of metadata that are feedback, all of whose values are text.

    Raises:
        ConfigError: A rating is neither 1 nor -1, or the keys do not go together.
    """
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


def give(shared: Services, request_id: str, given: GivenFeedback, *, author: str) -> Feedback:
    """Take feedback on a served call, be its record in the database yet or not.

    Raises:
        NotFoundError: No such call was served, or it was deleted.
        ConfigError: The feedback does not go with the call.
        ResourceError: Neither the database nor the journal can be written.
    """
    request = _waiting(shared, request_id)
    if request is None:
        return record(shared.workspace, request_id, given, author=author)
    feedback = feedback_on(request, given, author=author, at=shared.workspace.clock.now())
    shared.log.write_feedback(feedback)
    return feedback


def get_call(shared: Services, completion_id: str) -> RequestRecord:
    """Return a served call, be its record in the database yet or not.

    Raises:
        NotFoundError: There is none of that id.
    """
    return _waiting(shared, completion_id) or shared.workspace.requests.get(completion_id)


def _waiting(shared: Services, request_id: str) -> RequestRecord | None:
    """Return a call whose record the database does not have yet, None where it has it or there is none."""
    shared.log.flush()
    found = shared.log.find(request_id)
    if found is not None:
        return found
    try:
        if shared.workspace.requests.find(request_id) is not None:
            return None
    except ResourceError:
        return shared.log.find_anywhere(request_id)
    return shared.log.find_anywhere(request_id)


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
