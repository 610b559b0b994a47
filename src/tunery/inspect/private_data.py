"""Private data: what a text must not hold, found, shown without itself, and replaced."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from tunery.core.columns import Columns
from tunery.core.figures import counted, listed_counts, percent_of
from tunery.core.finding import Edit, Finding, FindingKind
from tunery.inspect.evidence import Case, finding, text_columns


class Located(Protocol):
    """A place in a text."""

    @property
    def start(self) -> int:
        """Index of its first character."""
        ...

    @property
    def type(self) -> str:
        """What stands there."""
        ...


S = TypeVar("S", bound=Located)


@dataclass(frozen=True)
class PrivateData(Generic[S]):
    """One sort of it."""

    name: str
    """Completes 'rows hold …'."""
    detect: Callable[[Sequence[str]], Sequence[Sequence[S]]]
    """Texts to the places in each."""
    show: Callable[[str, Sequence[S]], str]
    """A text as evidence may quote it."""
    replace: Callable[[str, Sequence[S]], str]
    """A text as an edit puts it."""

    def find(self, columns: Columns, kind: FindingKind, inputs: Sequence[str] | None) -> list[Finding]:
        """Return at most one finding, with counts by type; its edits put placeholders in its place.

        Args:
            columns: The rows.
            kind: What it is reported as.
            inputs: The last user turn of each row, which an edit replaces; None where every prompt is one
                turn. What stands in earlier turns is reported without an edit.
        """
        cases: list[Case] = []
        edits: list[Edit] = []
        counts: Counter[str] = Counter()
        for part in text_columns(columns):
            for i, found in enumerate(self.detect(part.texts)):
                if not found:
                    continue
                text = part.texts[i]
                counts.update(place.type for place in found)
                types = ", ".join(dict.fromkeys(place.type for place in found))
                where = f"{types} in the {part.name} of {columns.where(i)}"
                cases.append(Case((i,), self.show(text, found), where, found[0].start))
                editable = inputs[i] if part.action == "set_input" and inputs is not None else text
                value = self.replace(editable, found if editable == text else self.detect([editable])[0])
                if value != editable:
                    edits.append(Edit(row=columns.ids[i], action=part.action, value=value, reason=kind.name))
        if not cases:
            return []
        rows = len({case.rows for case in cases})
        message = (
            f"{counted(rows, 'row holds', 'rows hold')} {self.name} ({percent_of(rows, len(columns))}): "
            f"{listed_counts(counts, 5)}."
        )
        return [
            finding(columns, kind, message, cases, edits=edits, numbers={"types": dict(counts), "rows": rows})
        ]
