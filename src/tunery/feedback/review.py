"""A person's look at feedback before it may teach the next version."""

from __future__ import annotations

from typing import NamedTuple

from tunery.core.rollout import Feedback, RequestRecord
from tunery.store.workspace import Workspace


class Pending(NamedTuple):
    """One piece of feedback with what it is about."""

    feedback: Feedback
    request: RequestRecord
    """The prompt, and the answer as served."""


def pending(workspace: Workspace, *, limit: int = 100) -> list[Pending]:
    """Return feedback that waits for a review, newest first, each with its request.

    Args:
        workspace: Where feedback lies.
        limit: At most this many [count].
    """
    waiting = workspace.feedback.list(status="pending", limit=limit)
    return [Pending(f, workspace.requests.get(f.request_id)) for f in waiting]


def accept(workspace: Workspace, feedback_id: str, *, reviewer: str) -> Feedback:
    """Let feedback become a row of the next dataset version; accepting twice changes nothing.

    Raises:
        NotFoundError: No such feedback.
        ConflictError: It was declined before.
    """
    return workspace.feedback.review(feedback_id, accepted=True, reviewer=reviewer)


def decline(workspace: Workspace, feedback_id: str, *, reviewer: str) -> Feedback:
    """Keep feedback from becoming a row; its record stays, and declining twice changes nothing.

    Raises:
        NotFoundError: No such feedback.
        ConflictError: It was accepted before.
    """
    return workspace.feedback.review(feedback_id, accepted=False, reviewer=reviewer)
