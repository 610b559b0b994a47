"""A finding: something in the data that hurts, which rows it sits in, and what would repair it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from tunery.core.config import Record

Severity = Literal["high", "medium", "low"]
"""``high``: trains the model wrong or leaks the test; ``medium``: costs quality; ``low``: worth a look."""

Action = Literal["drop", "set_input", "set_output", "set_rejected"]


class FindingKind(NamedTuple):
    """One kind of trouble, as the detector that reports it declares it."""

    name: str
    """Stable word such as ``contradiction``; what ``inspect.ignore`` and ``--apply`` take."""
    title: str
    """What a page calls it."""
    severity: Severity
    """How bad it usually is; a detector may say otherwise of what it found."""
    fix: str
    """What to do, in one sentence."""
    is_guess: bool = False
    """Whether its edits are guesses, to be accepted one by one and never all at once."""
    is_private: bool = False
    """Whether its rows hold what no page may show."""


class Edit(Record):
    """One change to one row, asked for by a finding's fix or by a reviewer."""

    row: str
    """Id of the example, as it is before the change."""
    action: Action
    """``drop`` takes the row out; the others replace the last user turn, the answer, or the answer not
    preferred."""
    value: str | None = None
    """The new text; None for ``drop``."""
    reason: str
    """Kind of the finding, or ``review``; kept with the row it took out."""
    by: str = "fix"
    """Who requested it: ``fix``, or a reviewer's name."""

    @model_validator(mode="after")
    def _has_value(self) -> Self:
        if (self.action == "drop") == (self.value is not None):
            needs = "takes no" if self.action == "drop" else "needs a"
            raise ValueError(f"action {self.action} {needs} value")
        return self


class Evidence(Record):
    """One row, or one group of rows, that shows the finding."""

    rows: tuple[str, ...] = Field(min_length=1)
    """Example ids."""
    text: str
    """What is wrong there, as a person should see it: the words themselves, shortened."""
    detail: str = ""
    """Why it counts, with its numbers."""


class Finding(Record):
    """One kind of trouble and all rows that have it."""

    kind: str
    """Stable word such as ``contradiction``; what ``tunery data fix --apply`` takes."""
    severity: Severity
    message: str
    """One sentence with the numbers."""
    rows: tuple[str, ...] = ()
    """Ids of all examples concerned, most serious first; empty where the whole set is meant."""
    evidence: tuple[Evidence, ...] = ()
    """The plainest cases, ten at most."""
    fix: str
    """What to do, in one sentence."""
    edits: tuple[Edit, ...] = ()
    """What ``--apply`` would change; empty where only a person can tell."""
    numbers: Mapping[str, Any] = Field(default_factory=dict)
    """Figures behind the message, JSON-ready, for the page's charts."""


class Changed(Record):
    """One text of one row that an edit replaced."""

    source: str
    """File the row came from."""
    row: int
    """1-based row number in that file."""
    id: str
    """The example's id before."""
    became: str
    """Its id afterwards: the content is another, so the id is."""
    action: Action
    """Which text was replaced."""
    before: str
    """The text as it was."""
    after: str
    """The text as it is now."""
    reason: str
    """Kind of the finding, or ``review``."""
    by: str
    """Who requested it."""
    edits: str
    """The edits it was part of: an artifact's id or a file."""
