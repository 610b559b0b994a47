"""One delivery: the body, its signature, and what the answer means."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import random
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

import httpx2

import tunery
from tunery.core.webhook import Delivery, Event
from tunery.pipeline.webhooks.config import WebhookSettings

_PAUSES_S = (5, 300, 1_800, 7_200, 18_000, 36_000, 36_000, 36_000)
"""Pauses behind the first, second … attempt, as the Standard Webhooks specification proposes them [s]."""
_GONE = 410
_LONGEST_S = 86_400
"""Pause that an endpoint may ask for at most [s]."""


class Outcome(NamedTuple):
    """What came of an attempt."""

    status: Literal["delivered", "pending", "dead"]
    answer: int | None
    """HTTP status; None where there was no answer."""
    problem: str | None
    pause_s: float = 0.0
    """Until the next attempt [s]."""


def body_of(event: Event) -> str:
    """Return an event as it is sent."""
    return json.dumps(
        {
            "id": event.id,
            "object": "event",
            "created_at": int(event.created_at.timestamp()),
            "type": event.type,
            "data": dict(event.data),
        },
        ensure_ascii=False,
        separators=(",", ":"),
    )


def signed(event_id: str, at: datetime, body: str, secret: bytes) -> dict[str, str]:
    """Return the headers that let a receiver know that the body came from here, and when.

    Source:
        https://github.com/standard-webhooks/standard-webhooks, spec/standard-webhooks.md; OpenAI's clients
        verify the same (``client.webhooks.unwrap``).
    """
    timestamp = str(int(at.timestamp()))
    digest = hmac.new(secret, f"{event_id}.{timestamp}.{body}".encode(), hashlib.sha256).digest()
    return {
        "webhook-id": event_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


def send(client: httpx2.Client, endpoint: WebhookSettings, delivery: Delivery, now: datetime) -> Outcome:
    """Post a delivery and say what came of it.

    A redirect is not followed: whoever answers could send it anywhere. No more is read than the status.
    """
    body = body_of(delivery.event)
    headers = signed(delivery.event.id, now, body, endpoint.secret())
    headers |= {"content-type": "application/json", "user-agent": f"tunery/{tunery.__version__}"}
    try:
        with client.stream("POST", endpoint.url, content=body.encode(), headers=headers) as response:
            answer, after = response.status_code, response.headers.get("retry-after", "")
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
        return _failed(endpoint, delivery, None, f"{type(error).__name__}: {error}"[:300])
    if 200 <= answer < 300:
        return Outcome("delivered", answer, None)
    if answer == _GONE:
        return Outcome("dead", answer, "the endpoint says that it is gone (410)")
    asked_s = int(after) if after.isdecimal() and len(after) < 7 else 0
    return _failed(endpoint, delivery, answer, f"it answered with {answer}", asked_s)


def _failed(
    endpoint: WebhookSettings, delivery: Delivery, answer: int | None, problem: str, asked_s: int = 0
) -> Outcome:
    if delivery.attempts >= endpoint.attempts:
        return Outcome("dead", answer, f"given up after {delivery.attempts} attempts: {problem}")
    pause_s = _PAUSES_S[min(delivery.attempts, len(_PAUSES_S)) - 1]
    # Drawn anew each time, or all that an outage left would come back at one moment.
    pause = max(pause_s * random.uniform(0.9, 1.1), min(asked_s, _LONGEST_S))  # noqa: S311 - nothing to guess
    return Outcome("pending", answer, problem, pause)


def after_attempt(delivery: Delivery, outcome: Outcome, now: datetime) -> Delivery:
    """Return a delivery as an attempt left it; one that was given up meanwhile can only have arrived."""
    if delivery.status == "dead" and outcome.status != "delivered":
        return delivery
    return delivery.with_(
        status=outcome.status,
        answer=outcome.answer,
        problem=outcome.problem,
        due_at=now + timedelta(seconds=outcome.pause_s),
        ended_at=None if outcome.status == "pending" else now,
    )
