"""Inspect: every detector over the rows of a dataset, worst findings first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import get_args

from tunery.core.columns import Columns
from tunery.core.finding import Finding, Severity
from tunery.inspect.config import InspectConfig
from tunery.inspect.detectors.answers import bad_answers
from tunery.inspect.detectors.bounds import bounds
from tunery.inspect.detectors.contamination import contamination
from tunery.inspect.detectors.contradictions import contradictions
from tunery.inspect.detectors.damage import text_damage
from tunery.inspect.detectors.duplicates import duplicates
from tunery.inspect.detectors.languages import language_mix
from tunery.inspect.detectors.lengths import token_lengths
from tunery.inspect.detectors.personal import personal_data
from tunery.inspect.detectors.secrets import secrets
from tunery.inspect.detectors.style import output_style
from tunery.inspect.likeness import likeness
from tunery.text.embeddings import Encoder
from tunery.text.pii.types import DEFAULT_PII, PiiType

Detector = Callable[[], Iterable[Finding]]


@dataclass(frozen=True, slots=True)
class Given:
    """What the caller knows beyond the rows; each piece is optional."""

    inputs: Sequence[str] | None = None
    """The last user turn of each row, the text an edit of the input replaces; None means that every prompt
    is one user turn."""
    pii_types: tuple[PiiType, ...] = DEFAULT_PII
    """Kinds of personal data to look for."""
    encoder: Encoder | None = None
    """Gives embeddings; without one no semantic duplicates are looked for."""
    references: Sequence[tuple[str, Sequence[str]]] = ()
    """Names and texts of benchmarks that training must not have seen."""
    lengths: Sequence[int] | None = None
    """Tokens of each row [tokens]."""
    max_tokens: int | None = None
    """Most that training takes [tokens]."""


def inspect_columns(
    columns: Columns,
    settings: InspectConfig,
    given: Given | None = None,
    *,
    more: Sequence[Callable[[Columns], Iterable[Finding]]] = (),
) -> tuple[Finding, ...]:
    """Run every detector.

    Args:
        columns: The rows.
        settings: What to look for.
        given: What else is known.
        more: Detectors that need something of their own, such as a classifier's opinion of the labels.

    Returns:
        Findings by severity, then by the number of rows; no evidence shows a secret or personal data.
    """
    detectors: list[Detector] = [
        *_detectors(columns, settings, given or Given()),
        *(partial(detector, columns) for detector in more),
    ]
    found = [f for detector in detectors for f in detector() if f.kind not in settings.ignore]
    order = get_args(Severity)
    found.sort(key=lambda f: (order.index(f.severity), -len(f.rows), f.kind))
    return tuple(found)


def _detectors(columns: Columns, settings: InspectConfig, given: Given) -> list[Detector]:
    like = likeness(columns, settings.near_threshold)
    chosen: list[Detector] = [
        partial(text_damage, columns, inputs=given.inputs),
        partial(output_style, columns, majority=settings.majority),
        partial(contradictions, columns, like),
        partial(bad_answers, columns),
        partial(secrets, columns, inputs=given.inputs),
        partial(personal_data, columns, given.pii_types, inputs=given.inputs),
        partial(bounds, columns, settings),
        partial(
            duplicates,
            columns,
            like,
            encoder=given.encoder,
            semantic_threshold=settings.semantic_threshold,
        ),
        partial(contamination, columns, given.references, words=settings.overlap_words),
        partial(language_mix, columns, majority=settings.majority),
    ]
    if given.lengths is not None and given.max_tokens is not None:
        chosen.append(partial(token_lengths, columns, given.lengths, given.max_tokens))
    return chosen
