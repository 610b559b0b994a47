"""Private data that cleaning left in, or was told to leave in: secrets and personal data, never shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from tunery.core.columns import Columns
from tunery.core.figures import counted, listed_counts, percent_of
from tunery.core.finding import Edit, Finding, FindingKind
from tunery.inspect.evidence import Case, finding, text_columns
from tunery.text.pii import Span, detect, mask_spans
from tunery.text.pii.secrets import Secret, find_secrets, masked, replaced
from tunery.text.pii.types import DEFAULT_PII, PiiType

_SECRET = FindingKind(
    "secret",
    "Keys, tokens and passwords",
    "high",
    "Revoke them where they were issued, then apply the edits; a model can recite what it was trained on.",
    is_private=True,
)
_PERSONAL = FindingKind(
    "personal_data",
    "Personal data",
    "medium",
    "Have data.clean.mask_pii mask it, or apply the edits, which put placeholders in its place.",
)
KINDS = (_SECRET, _PERSONAL)

_Place = TypeVar("_Place", Secret, Span)


@dataclass(frozen=True)
class _Sought(Generic[_Place]):
    """One sort of private data."""

    name: str
    """Completes 'rows hold …'."""
    detect: Callable[[Sequence[str]], Sequence[Sequence[_Place]]]
    """Texts to the places in each."""
    show: Callable[[str, Sequence[_Place]], str]
    """A text as evidence may quote it."""
    replace: Callable[[str, Sequence[_Place]], str]
    """A text as an edit puts it."""


def find(
    columns: Columns,
    *,
    pii_types: Collection[PiiType] = DEFAULT_PII,
    inputs: Sequence[str] | None = None,
    ignore: Collection[str] = (),
) -> Iterator[Finding]:
    """Find keys, tokens and passwords of well-known shapes, and personal data.

    What stands in earlier turns of a conversation is reported without an edit.

    Returns:
        At most one ``secret`` and one ``personal_data``, with counts by type; edits put placeholders in their
        place. Four characters of a secret are shown at most, and nothing of personal data.
    """
    if _SECRET.name not in ignore:
        secrets = _Sought(
            "keys, tokens or passwords",
            lambda texts: [find_secrets(text) for text in texts],
            masked,
            replaced,
        )
        yield from _found(columns, _SECRET, secrets, inputs)
    if _PERSONAL.name not in ignore:
        types = [t for t in pii_types if t != "SECRET"]  # keys and passwords were looked for above
        personal = _Sought("personal data", lambda texts: detect(texts, types), mask_spans, mask_spans)
        yield from _found(columns, _PERSONAL, personal, inputs)


def _found(
    columns: Columns, kind: FindingKind, sought: _Sought[_Place], inputs: Sequence[str] | None
) -> Iterator[Finding]:
    cases: list[Case] = []
    edits: list[Edit] = []
    counts: Counter[str] = Counter()
    for part in text_columns(columns):
        for i, found in enumerate(sought.detect(part.texts)):
            if not found:
                continue
            text = part.texts[i]
            counts.update(place.type for place in found)
            types = ", ".join(dict.fromkeys(place.type for place in found))
            where = f"{types} in the {part.name} of {columns.where(i)}"
            cases.append(Case((i,), sought.show(text, found), where, found[0].start))
            editable = inputs[i] if part.action == "set_input" and inputs is not None else text
            value = sought.replace(editable, found if editable == text else sought.detect([editable])[0])
            if value != editable:
                edits.append(Edit(row=columns.ids[i], action=part.action, value=value, reason=kind.name))
    if cases:
        rows = len({case.rows for case in cases})
        message = (
            f"{counted(rows, 'row holds', 'rows hold')} {sought.name} ({percent_of(rows, len(columns))}): "
            f"{listed_counts(counts, 5)}."
        )
        numbers = {"types": dict(counts), "rows": rows}
        yield finding(columns, kind, message, cases, edits=edits, numbers=numbers)
