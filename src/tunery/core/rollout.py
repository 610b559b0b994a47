"""Traffic: what was served, how it is split between versions, and what users thought of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from tunery.core.access import DEFAULT_PROJECT
from tunery.core.config import Record
from tunery.core.example import Message

Arm = Literal["champion", "challenger"]
TextState = Literal["kept", "not_asked", "no_answer", "too_long", "not_masked", "removed"]
"""Whether a request's texts are there, else why not: the client sent ``store: false``; the call came to no
answer; they are over the size that is kept; personal data could not be masked in them; they expired or were
purged."""
RolloutStatus = Literal["running", "promoted", "rolled_back", "cancelled"]


FORWARDED = 0
"""In place of a champion's version: what answers is no version of ours."""
CALL_IDS = "call_ids"
"""Where :attr:`RequestRecord.response` has the ids of an answer's calls, if they are of a server behind."""


class RequestRecord(Record):
    """One served call."""

    id: str
    """``chatcmpl-…``; the id the client saw and gives feedback on."""
    created_at: datetime
    endpoint: str
    """Name the client asked for, such as ``support-bot`` or ``base``."""
    model: str
    """What answered: ``name@N`` or the base's name."""
    arm: Arm | None = None
    rollout_id: str | None = None
    subject: str
    """Hash of the user (or key) that requests stick by."""
    messages: tuple[Message, ...]
    """The prompt, personal data masked."""
    completion: str
    """The answer, personal data masked."""
    status: Literal["ok", "error", "cancelled"]
    finish_reason: str | None = None
    format_valid: bool | None = None
    """Whether the answer was in the labels / parsed as JSON; None where nothing was expected."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float = 0.0
    """What it cost by the prices of the server's settings; nothing where none is set [US dollars]."""
    latency_ms: float = 0.0
    ttft_ms: float | None = None
    """Time to first token [ms]."""
    metadata: Mapping[str, Any] = {}
    response: Mapping[str, Any] | None = None
    """Of a call of ``/v1/responses``: the settings that its object repeats; None of any other."""
    altered: bool = False
    """Whether a text was changed before it was kept, because personal data was masked in it."""
    text: TextState = "kept"
    """Whether ``messages`` and ``completion`` are there; both are empty where they are not."""
    deleted_at: datetime | None = None
    """When its client deleted it; from then on it only counts, in tallies and bills."""
    project: str = DEFAULT_PROJECT
    """Of the key that it came with."""
    key_id: str | None = None
    """The key that it came with; None with auth off."""
    fallback_from: str | None = None
    """What failed before this answered in its place, such as ``support-bot@4``."""
    fallback_reason: str | None = None
    """How that failed."""
    upstream: str | None = None
    """Which of several servers behind the engine answered; None where there is one."""
    attempt_of: str | None = None
    """The call that this failed to answer and another version did."""


class Rollout(Record):
    """Traffic moved to a challenger under a rule, and how it ended."""

    id: str
    """``rollout-…``."""
    name: str
    """Model name whose champion is challenged."""
    champion: int
    """Version; :data:`FORWARDED` where it is the old model of a forwarded name that is challenged."""
    challenger: int
    traffic_percent: float
    """Share of subjects that the challenger answers [%]."""
    rule: Mapping[str, Any]
    """Canary settings as they were at the start."""
    status: RolloutStatus
    reason: str | None = None
    """Why it ended, with the numbers."""
    actor: str
    created_at: datetime
    ended_at: datetime | None = None

    @property
    def challenged(self) -> str:
        """What the challenger is held against, as people read it."""
        return "the old model" if self.champion == FORWARDED else f"{self.name}@{self.champion}"


class Feedback(Record):
    """A rating, correction or preference tied to one served request."""

    id: str
    """``fb-…``."""
    request_id: str
    kind: Literal["rating", "correction", "preference"]
    rating: Literal[-1, 1] | None = None
    correction: str | None = None
    """What the answer should have been."""
    rejected: str | None = None
    """In a preference: the answer that was worse (the served one or another)."""
    comment: str | None = None
    author: str
    status: Literal["pending", "accepted", "declined"] = "pending"
    reviewer: str | None = None
    reviewed_at: datetime | None = None
    created_at: datetime
    project: str = DEFAULT_PROJECT
    """That of its request."""
