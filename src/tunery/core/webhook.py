"""What happened that somebody elsewhere wants to know, and how far word of it has come."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, get_args

from tunery.core.access import DEFAULT_PROJECT
from tunery.core.config import Record

EventType = Literal[
    "fine_tuning.job.succeeded",
    "fine_tuning.job.failed",
    "fine_tuning.job.cancelled",
    "batch.completed",
    "batch.failed",
    "batch.expired",
    "batch.cancelled",
    "rollout.ended",
    "rollout.rolled_back",
    "gate.refused",
    "webhook.test",
]
"""Those of jobs and batches are OpenAI's, the others ours."""
EVENT_TYPES: tuple[EventType, ...] = get_args(EventType)
DeliveryStatus = Literal["pending", "delivered", "dead"]


class Event(Record):
    """Something that happened; written in the transaction that made it happen."""

    id: str
    """``evt-…``; the same in every delivery, so that whoever gets two of one knows it."""
    created_at: datetime
    type: EventType
    project: str = DEFAULT_PROJECT
    """Whose it is."""
    data: Mapping[str, Any]
    """``id`` of what it happened to, and what else is worth saying; no texts of anybody."""


class Delivery(Record):
    """One event on its way to one endpoint."""

    id: str
    """``whd-…``."""
    created_at: datetime
    endpoint: str
    """Name of the endpoint in the server's settings."""
    status: DeliveryStatus = "pending"
    due_at: datetime
    """When it is sent next."""
    event: Event
    attempts: int = 0
    """Times it was sent [count]."""
    answer: int | None = None
    """HTTP status of the last answer; None where there was none."""
    problem: str | None = None
    """Why the last attempt failed, or no more are made."""
    ended_at: datetime | None = None
