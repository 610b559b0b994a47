"""Feedback: on a request that was served, decided once."""

from __future__ import annotations

import pytest

from tests.unit.store import samples
from tunery.core.errors import ConflictError, NotFoundError
from tunery.store.workspace import Workspace


def test_feedback_on_a_request_that_was_not_served_is_refused(workspace: Workspace) -> None:
    with pytest.raises(NotFoundError, match="'chatcmpl-1' was served"):
        workspace.feedback.add(samples.feedback())
    assert workspace.feedback.list() == []


def test_feedback_is_listed_by_state_and_by_request(workspace: Workspace) -> None:
    workspace.requests.add(samples.request())
    workspace.requests.add(samples.request("chatcmpl-2"))
    first = workspace.feedback.add(samples.feedback("fb-1"))
    second = workspace.feedback.add(samples.feedback("fb-2", request_id="chatcmpl-2"))
    assert workspace.feedback.list() == [second, first]
    assert workspace.feedback.list(request_id="chatcmpl-1") == [first]
    accepted = workspace.feedback.review("fb-1", accepted=True, reviewer="ann")
    assert workspace.feedback.list(status="accepted") == [accepted]
    assert workspace.feedback.list(status="pending") == [second]
    assert workspace.feedback.list(status="declined") == []


def test_a_decision_is_made_once(workspace: Workspace) -> None:
    workspace.requests.add(samples.request())
    workspace.feedback.add(samples.feedback())
    declined = workspace.feedback.review("fb-1", accepted=False, reviewer="ann")
    assert (declined.status, declined.reviewer, declined.reviewed_at) == (
        "declined",
        "ann",
        workspace.clock.now(),
    )
    assert workspace.feedback.review("fb-1", accepted=False, reviewer="bob") == declined
    with pytest.raises(ConflictError, match="declined by ann at 2026-03-01 12:00 UTC"):
        workspace.feedback.review("fb-1", accepted=True, reviewer="bob")
    with pytest.raises(NotFoundError):
        workspace.feedback.review("fb-2", accepted=True, reviewer="bob")
