"""Personal data that cleaning left in, or was told to leave in; a finding never shows it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from tunery.core.columns import Columns
from tunery.core.finding import Finding, FindingKind
from tunery.inspect.private_data import PrivateData
from tunery.text.pii import detect, mask_spans
from tunery.text.pii.types import DEFAULT_PII, PiiType

_PERSONAL = FindingKind(
    "personal_data",
    "Personal data",
    "medium",
    "Have data.clean.mask_pii mask it, or apply the edits, which put placeholders in its place.",
)
KINDS = (_PERSONAL,)


def find(
    columns: Columns,
    *,
    pii_types: Collection[PiiType] = DEFAULT_PII,
    inputs: Sequence[str] | None = None,
) -> list[Finding]:
    """Find personal data of some types; by default what has a form of its own and belongs to somebody."""
    types = [t for t in pii_types if t != "SECRET"]  # keys and passwords are the secrets' detector's
    sought = PrivateData("personal data", lambda texts: detect(texts, types), mask_spans, mask_spans)
    return sought.find(columns, _PERSONAL, inputs)
