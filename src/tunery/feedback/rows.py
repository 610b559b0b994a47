"""Rows: what one piece of feedback becomes in OpenAI's chat and preference formats."""

from __future__ import annotations

from typing import Any, NamedTuple

from tunery.core.example import LIKED, REQUEST_ID, SPLIT_HINT
from tunery.core.rollout import Feedback, RequestRecord
from tunery.feedback.config import ExportConfig
from tunery.feedback.lineage import Objection


class FeedbackRows(NamedTuple):
    """Rows by the file they go to."""

    examples: list[dict[str, Any]]
    """Chat rows."""
    preferences: list[dict[str, Any]]
    """Preference rows."""
    ratings: list[dict[str, Any]]
    """Chat rows whose answer is judged: unpaired preferences."""


def text_was_kept(request: RequestRecord) -> bool:
    """Return whether the request's record holds its text; ``RequestRecord.text`` says why it does not.

    Every request has a turn, so one without any had its text left out; an empty answer alone says nothing.
    """
    return bool(request.messages)


def not_wanted(feedback: Feedback, request: RequestRecord, settings: ExportConfig) -> Objection | None:
    """Return the reason and the detail why feedback gives no row by what it is, None where it does."""
    if feedback.status != "accepted":
        review = "declined it" if feedback.status == "declined" else "is open"
        return Objection(feedback.status, f"the review {review}")
    if not text_was_kept(request):
        return Objection(
            "text_not_kept", f"the text of {request.id} was not kept, so there is no prompt to learn from"
        )
    if feedback.kind == "rating":
        if not settings.ratings and feedback.rating == -1:
            why = "a thumb down says what is wrong, not what is right; ratings=true exports it for kto"
            return Objection("no_better_answer", why)
        if not settings.ratings and not settings.include_liked:
            why = "liked answers are exported with include_liked or ratings only"
            return Objection("liked_not_asked_for", why)
        if request.status != "ok" or not request.completion.strip():
            return Objection("no_answer", f"the request ended with status {request.status!r}")
    return None


def rows_of(feedback: Feedback, request: RequestRecord, settings: ExportConfig) -> FeedbackRows:
    """Return the rows that accepted feedback gives."""
    served = request.completion
    if feedback.kind == "preference":
        pair = _preference(feedback, request, feedback.correction or "", feedback.rejected or "")
        return FeedbackRows([], [pair], [])
    if feedback.kind == "rating":
        liked, example = feedback.rating == 1, _example(feedback, request, served)
        judged = [{**example, LIKED: liked}] if settings.ratings else []
        return FeedbackRows([example] if liked and settings.include_liked else [], [], judged)
    answer = feedback.correction or ""
    as_pair = settings.corrections_as_preferences and request.status == "ok"
    pairs = [_preference(feedback, request, answer, served)] if as_pair else []
    return FeedbackRows([_example(feedback, request, answer)], pairs, [])


def _example(feedback: Feedback, request: RequestRecord, answer: str) -> dict[str, Any]:
    turns = [{**t, "weight": 0} if t["role"] == "assistant" else t for t in _turns(request)]
    return {"messages": [*turns, _assistant(answer)], "metadata": _metadata(feedback)}


def _preference(feedback: Feedback, request: RequestRecord, better: str, worse: str) -> dict[str, Any]:
    return {
        "input": {"messages": _turns(request)},
        "preferred_output": [_assistant(better)],
        "non_preferred_output": [_assistant(worse)],
        "metadata": _metadata(feedback),
    }


def _turns(request: RequestRecord) -> list[dict[str, Any]]:
    return [{"role": m.role, "content": m.content} for m in request.messages]


def _assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def _metadata(feedback: Feedback) -> dict[str, Any]:
    own = {REQUEST_ID: feedback.request_id, "feedback_id": feedback.id}
    return {SPLIT_HINT: "train", "held_out": False, **own}
