"""What people say of a served answer, written down beside its request."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, Self

from pydantic import Field, model_validator

from tunery.core.config import Settings
from tunery.core.errors import ConfigError
from tunery.core.ids import new_id
from tunery.core.rollout import Feedback, RequestRecord
from tunery.feedback.rows import text_was_kept
from tunery.store.workspace import Workspace


class GivenFeedback(Settings):
    """What a user thinks of an answer; one kind at a time."""

    kind: Literal["rating", "correction", "preference"]
    """A thumb up or down; what the answer should have been; or which of two answers is better."""
    rating: Literal[-1, 1] | None = None
    """In a rating: 1 for up, -1 for down."""
    correction: str | None = Field(None, max_length=200_000)
    """In a correction: what the answer should have been. In a preference: the better answer; left out when
    the served one is the better."""
    rejected: str | None = Field(None, max_length=200_000)
    """In a preference: the worse answer; left out when the served one is the worse."""
    comment: str | None = Field(None, max_length=10_000)
    """Why, in the person's words."""

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        allowed = {
            "rating": {"rating"},
            "correction": {"correction"},
            "preference": {"correction", "rejected"},
        }[self.kind]
        given = {n for n in ("rating", "correction", "rejected") if getattr(self, n) is not None}
        if extra := sorted(given - allowed):
            raise ValueError(f"a {self.kind} has no {' and no '.join(extra)}")
        if not given:
            raise ValueError(f"a {self.kind} needs {' or '.join(sorted(allowed))}")
        for name in ("correction", "rejected"):
            text = getattr(self, name)
            if text is not None and not text.strip():
                raise ValueError(f"{name} is empty")
        return self


def record(workspace: Workspace, request_id: str, given: GivenFeedback, *, author: str) -> Feedback:
    """Write feedback on one served request; it waits for a review before it becomes a row.

    More feedback on the same request is a second record: nothing is overwritten. Text is kept as given, and
    personal data in it is masked where the next dataset version is built, as in any other source.

    Args:
        request_id: The ``chatcmpl-…`` id that the client was given with the answer.
        author: Who says it: a key's name, a user, or ``cli``.

    Returns:
        The pending record. A preference has both answers filled in, the served one where it was left out.

    Raises:
        NotFoundError: No such request was served, or its record has expired.
        ConfigError: Both answers of a preference, or the answer and its correction, are the same; the request
            failed and so has no answer to rate or prefer; or its text was not kept, and a preference leaves
            out the served answer.
    """
    request = workspace.requests.get(request_id)
    return workspace.feedback.add(feedback_on(request, given, author=author, at=workspace.clock.now()))


def feedback_on(request: RequestRecord, given: GivenFeedback, *, author: str, at: datetime) -> Feedback:
    """Return feedback on one served request as it is to be stored; see :func:`record`.

    Raises:
        ConfigError: As :func:`record` says.
    """
    preferred, rejected = _answers(given, request)
    return Feedback(
        id=new_id("fb", at),
        request_id=request.id,
        kind=given.kind,
        rating=given.rating,
        correction=preferred,
        rejected=rejected,
        comment=given.comment,
        author=author,
        created_at=at,
        project=request.project,
    )


def _answers(given: GivenFeedback, request: RequestRecord) -> tuple[str | None, str | None]:
    """Return the better and the worse answer, as far as the kind of feedback has them."""
    served = request.completion if request.status == "ok" else None
    if given.kind == "correction":
        if served is not None and given.correction == served:
            raise ConfigError(
                f"the correction of {request.id} equals what was served",
                hint="rate it with a thumb up instead",
                param="correction",
            )
        return given.correction, None
    if served is None and (given.rating is not None or None in (given.correction, given.rejected)):
        raise ConfigError(
            f"request {request.id} ended with status {request.status!r}, so there is no answer to judge",
            hint="give a correction: what the answer should have been",
        )
    if given.kind == "rating":
        return None, None
    if not text_was_kept(request) and None in (given.correction, given.rejected):
        raise ConfigError(
            f"the text of request {request.id} was not kept, so there is no served answer to compare with",
            hint="rate it with a thumb, or send requests without store: false to learn from their feedback",
            param="rejected" if given.rejected is None else "correction",
        )
    preferred = served if given.correction is None else given.correction
    rejected = served if given.rejected is None else given.rejected
    if preferred == rejected:
        raise ConfigError(
            f"both answers of the preference on {request.id} are the same text", param="rejected"
        )
    return preferred, rejected
