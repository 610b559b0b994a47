"""Inspect: every detector over the rows of a dataset, worst findings first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import get_args

from tunery.core.columns import Columns
from tunery.core.finding import Finding, Severity
from tunery.core.quality import RowQuality
from tunery.core.row_losses import RowLosses
from tunery.inspect.config import InspectConfig
from tunery.inspect.detectors import detectors
from tunery.inspect.evidence import closed
from tunery.inspect.likeness import compare_prompts
from tunery.text.embeddings import Encoder
from tunery.text.pii.types import DEFAULT_PII, PiiType


@dataclass(frozen=True, slots=True)
class Given:
    """What the caller knows beyond the rows; each piece is optional."""

    inputs: Sequence[str] | None = None
    """The last user turn of each row, the text an edit of the input replaces; None means that every prompt
    is one user turn."""
    pii_types: tuple[PiiType, ...] = DEFAULT_PII
    """Kinds of personal data to look for."""
    encoder: Encoder | None = None
    """Gives embeddings; without one no semantic duplicates are looked for, and labels are judged by words."""
    references: Sequence[tuple[str, Sequence[str]]] = ()
    """Names and texts of benchmarks that training must not have seen."""
    lengths: Sequence[int] | None = None
    """Tokens of each row [tokens]."""
    max_tokens: int | None = None
    """Most that training takes [tokens]."""
    scores: Sequence[RowQuality] | None = None
    """What the base or a judge says of the rows."""
    row_losses: RowLosses | None = None
    """What the newest training on the rows recorded."""


def inspect_columns(
    columns: Columns, settings: InspectConfig, given: Given | None = None
) -> tuple[Finding, ...]:
    """Run every detector that reports a kind which is not ignored.

    Args:
        columns: The rows.
        settings: What to look for.
        given: What else is known.

    Returns:
        Findings by severity, then by the number of rows; no evidence shows a secret or personal data.
    """
    wanted = [d for d in detectors() if not {kind.name for kind in d.kinds} <= set(settings.ignore)]
    known = {
        **{name: getattr(settings, name) for name in type(settings).model_fields},
        # ``scores`` and ``references`` are names of files in the settings and what they hold here.
        **{field.name: getattr(given or Given(), field.name) for field in fields(Given)},
        "columns": columns,
        "labels": columns.labels if closed(columns) else None,
        "rejected": columns.rejected if any(text is not None for text in columns.rejected) else None,
        "likeness": compare_prompts(columns, settings.near_threshold),
    }
    found = (f for detector in wanted for f in detector.run(known) if f.kind not in settings.ignore)
    return worst_first(found)


def worst_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return findings by severity, then by the number of rows, then by kind."""
    order = get_args(Severity)
    return tuple(sorted(findings, key=lambda f: (order.index(f.severity), -len(f.rows), f.kind)))
