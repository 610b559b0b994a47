"""Unverified: more rows than classifiers look at, said so that silence is not taken for praise."""

from __future__ import annotations

from tunery.core.columns import Columns
from tunery.core.finding import Finding, FindingKind
from tunery.inspect.evidence import finding

MOST_ROWS = 50_000
"""Rows that classifiers look at [rows]."""


def not_verified(what: str) -> FindingKind:
    """Return the kind that says that nobody looked."""
    return FindingKind(
        f"{what}_not_verified",
        f"{what.capitalize()} not verified",
        "low",
        f"Inspect a part: data.sources[0].limit={MOST_ROWS}.",
    )


def unverified(columns: Columns, kind: FindingKind, what: str, count: int) -> Finding:
    """Say that ``count`` rows were not looked at."""
    message = f"The {what} of {count:,} rows were not verified: classifiers look at up to {MOST_ROWS:,} rows."
    return finding(columns, kind, message, [], numbers={"rows": count})
