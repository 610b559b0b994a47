"""Served calls, and what they add up to for each arm of a rollout."""

from __future__ import annotations

import math
from typing import NamedTuple, get_args

from tunery.core.rollout import Arm, RequestRecord
from tunery.store.database import Database, Row, Transaction
from tunery.store.records import Records, TableLayout

_LAYOUT = TableLayout(
    "requests",
    RequestRecord,
    "request",
    ("model", "rollout_id", "arm", "status", "format_valid", "latency_ms"),
)

_COUNTS = """
SELECT COUNT(*) AS requests,
       COUNT(*) FILTER (WHERE status = 'error') AS errors,
       COUNT(*) FILTER (WHERE status = 'ok') AS answered,
       COUNT(format_valid) AS format_checked,
       COUNT(*) FILTER (WHERE format_valid IS TRUE) AS format_valid
FROM requests
WHERE rollout_id = :rollout_id AND arm = :arm AND status IN ('ok', 'error')
"""

_RATINGS = """
SELECT COUNT(*) AS rated, COUNT(*) FILTER (WHERE feedback.rating > 0) AS liked
FROM (SELECT MAX(seq) AS seq FROM feedback WHERE rating IS NOT NULL GROUP BY request_id) AS newest
CROSS JOIN feedback CROSS JOIN requests
WHERE feedback.seq = newest.seq AND requests.id = feedback.request_id
  AND requests.rollout_id = :rollout_id AND requests.arm = :arm
"""
"""CROSS, because SQLite then begins with the feedback, of which there is far less than of requests."""

_LATENCY = """
SELECT latency_ms FROM requests
WHERE rollout_id = :rollout_id AND arm = :arm AND status = 'ok'
ORDER BY latency_ms LIMIT 1 OFFSET :skipped
"""


class Tally(NamedTuple):
    """What one arm's requests add up to; calls that the client broke off are left out."""

    requests: int
    """Answered or failed [count]."""
    errors: int
    """Failed [count]."""
    format_checked: int
    """Answers of which a form was expected [count]."""
    format_valid: int
    """Of those, answers that had it [count]."""
    rated: int
    """Requests that somebody rated; the newest rating of each counts [count]."""
    liked: int
    """Of those, rated up [count]."""
    latency_ms_p50: float | None
    """Of answered requests, by nearest rank [ms]; None before the first."""
    latency_ms_p95: float | None
    """As ``latency_ms_p50``."""


class ServedRequests(Records[RequestRecord]):
    """The log of served calls."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, _LAYOUT)

    def tallies(self, rollout_id: str) -> dict[Arm, Tally]:
        """Return what each arm of a rollout adds up to, both at the same moment."""
        with self.database.snapshot() as transaction:
            return {arm: _tally(transaction, rollout_id, arm) for arm in get_args(Arm)}


def _tally(transaction: Transaction, rollout_id: str, arm: Arm) -> Tally:
    of_arm = {"rollout_id": rollout_id, "arm": arm}
    counts: Row = transaction.rows(_COUNTS, of_arm)[0]
    ratings: Row = transaction.rows(_RATINGS, of_arm)[0]
    answered = counts.pop("answered")

    def latency(share: float) -> float | None:
        if not answered:
            return None
        skipped = math.ceil(share * answered) - 1
        return float(transaction.rows(_LATENCY, {**of_arm, "skipped": skipped})[0]["latency_ms"])

    return Tally(**counts, **ratings, latency_ms_p50=latency(0.50), latency_ms_p95=latency(0.95))
