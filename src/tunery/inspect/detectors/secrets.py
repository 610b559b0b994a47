"""Secrets: keys, tokens and passwords of well-known shapes; a finding never shows one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from tunery.core.columns import Columns
from tunery.core.figures import counted, listed_counts
from tunery.core.finding import Edit, Finding
from tunery.inspect.evidence import Case, Verdict, made, parts
from tunery.text.pii.secrets import find_secrets, masked, replaced


def secrets(columns: Columns, *, inputs: Sequence[str] | None = None) -> list[Finding]:
    """Find keys, tokens and passwords; the finding and its messages show four characters of each at most.

    Args:
        columns: The rows.
        inputs: The last user turn of each row, which an edit replaces; None where every prompt is one turn.
            What stands in earlier turns is reported without an edit.

    Returns:
        At most one finding, ``secret`` (high), with counts by type. Edits put placeholders in their place.
    """
    cases: list[Case] = []
    edits: list[Edit] = []
    counts: dict[str, int] = defaultdict(int)
    rows: set[int] = set()
    for part in parts(columns):
        editable = inputs if part.action == "set_input" and inputs is not None else part.texts
        for i, text in enumerate(part.texts):
            found = find_secrets(text)
            if not found:
                continue
            rows.add(i)
            for secret in found:
                counts[secret.type] += 1
            types = ", ".join(dict.fromkeys(s.type for s in found))
            cases.append(
                Case(
                    (i,),
                    masked(text, found),
                    f"{types} in the {part.name} of {columns.where(i)}",
                    found[0].start,
                )
            )
            mended = replaced(editable[i], found if editable is part.texts else find_secrets(editable[i]))
            if mended != editable[i]:
                edits.append(Edit(row=columns.ids[i], action=part.action, value=mended, reason="secret"))
    if not cases:
        return []
    message = (
        f"{counted(len(rows), 'row holds', 'rows hold')} keys, tokens or passwords: "
        f"{listed_counts(counts, 5)}."
    )
    fix = (
        "Revoke them where they were issued, then apply the edits; a model can recite what it was trained on."
    )
    verdict = Verdict("secret", "high", message, fix)
    return [made(columns, verdict, cases, edits=edits, numbers={"types": dict(counts), "rows": len(rows)})]
