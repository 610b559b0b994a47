"""Feedback on served calls."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import StringConstraints

from tunery.api.json_route import JsonRoute
from tunery.api.routes.stored import feedback_object, give
from tunery.api.services import Caller, Shared, page_of
from tunery.core.config import parse_settings
from tunery.feedback.collect import GivenFeedback
from tunery.serve.openai.wire import Text, Wire

router = APIRouter(prefix="/feedback", route_class=JsonRoute)


class FeedbackBody(Wire):
    """One piece of feedback; its kind follows from what is given where it is left out."""

    request_id: Annotated[Text, StringConstraints(min_length=1, max_length=128)]
    kind: Literal["rating", "correction", "preference"] | None = None
    rating: Literal[-1, 1] | None = None
    correction: Text | None = None
    rejected: Text | None = None
    comment: Text | None = None
    author: Annotated[Text, StringConstraints(max_length=128)] | None = None
    """Who says it, written down behind the name of the key that vouches for it."""


@router.post("")
def create_feedback(body: FeedbackBody, shared: Shared, caller: Caller) -> dict[str, Any]:
    """Record a rating, correction or preference on a served call; a person reviews it later."""
    guessed = "preference" if body.rejected else "correction" if body.correction else "rating"
    values = body.model_dump(exclude={"request_id", "author"}, exclude_none=True)
    given = parse_settings(GivenFeedback, {"kind": guessed, **values}, where="feedback")
    author = f"{caller.name}: {body.author}" if body.author else caller.name
    return feedback_object(give(shared, body.request_id, given, author=author))


@router.get("")
def list_feedback(
    shared: Shared,
    status: Literal["pending", "accepted", "declined"] | None = None,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
) -> dict[str, Any]:
    """List feedback, newest first."""
    page = shared.workspace.feedback.page(where={"status": status}, after=after, limit=limit)
    return page_of([feedback_object(f) for f in page.items], has_more=page.has_more)
