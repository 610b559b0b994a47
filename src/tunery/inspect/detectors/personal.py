"""Personal data that cleaning left in, or was told to leave in; a finding never shows it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from tunery.core.columns import Columns
from tunery.core.figures import counted, listed_counts, percent_of
from tunery.core.finding import Edit, Finding
from tunery.inspect.evidence import Case, Verdict, made, parts
from tunery.text.pii import detect, mask_spans
from tunery.text.pii.types import DEFAULT_PII, PiiType


def personal_data(
    columns: Columns, types: Collection[PiiType] = DEFAULT_PII, *, inputs: Sequence[str] | None = None
) -> list[Finding]:
    """Find personal data, counted by type.

    Args:
        columns: The rows.
        types: What to look for; by default what has a form of its own and belongs to somebody.
        inputs: The last user turn of each row, which an edit replaces; None where every prompt is one turn.
            What stands in earlier turns is reported without an edit.

    Returns:
        At most one finding, ``personal_data`` (medium). Edits put placeholders in its place, as masking does.
    """
    types = [t for t in types if t != "SECRET"]  # keys and passwords are the secrets' detector's
    cases: list[Case] = []
    edits: list[Edit] = []
    counts: Counter[str] = Counter()
    rows: set[int] = set()
    for part in parts(columns):
        for i, spans in enumerate(detect(part.texts, types)):
            if not spans:
                continue
            rows.add(i)
            counts.update(s.type for s in spans)
            text = part.texts[i]
            named = ", ".join(dict.fromkeys(s.type for s in spans))
            cases.append(
                Case(
                    (i,),
                    mask_spans(text, spans),
                    f"{named} in the {part.name} of {columns.where(i)}",
                    spans[0].start,
                )
            )
            editable = inputs[i] if part.action == "set_input" and inputs is not None else text
            mended = mask_spans(editable, spans if editable == text else detect([editable], types)[0])
            if mended != editable:
                edits.append(
                    Edit(row=columns.ids[i], action=part.action, value=mended, reason="personal_data")
                )
    if not cases:
        return []
    message = (
        f"{counted(len(rows), 'row holds', 'rows hold')} personal data "
        f"({percent_of(len(rows), len(columns))}): {listed_counts(counts, 5)}."
    )
    fix = "Have data.clean.mask_pii mask it, or apply the edits, which put placeholders in its place."
    verdict = Verdict("personal_data", "medium", message, fix)
    return [made(columns, verdict, cases, edits=edits, numbers={"types": dict(counts), "rows": len(rows)})]
