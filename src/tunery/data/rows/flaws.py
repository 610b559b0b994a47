"""Flaws in words: what a person reads of a row that could not be understood, without personal data."""

from __future__ import annotations

from collections.abc import Sequence

from tunery.core.errors import ConfigError
from tunery.core.example import Dropped
from tunery.data.rows.row import NO_VALUE, Flaw
from tunery.text.pii.mask import redacted_repr

BAD_ROW = "bad_row"
"""Drop reason of a row that could not be understood."""
_LISTED = 10


def sentence(flaw: Flaw) -> str:
    """Return a flaw in words: the field, its value shortened and redacted, and the fix.

    >>> sentence(Flaw("messages[0].content", None, "must be text"))
    'messages[0].content: missing; must be text'
    """
    value = "missing" if flaw.value is None else redacted_repr(flaw.value)
    found = flaw.fix if flaw.value is NO_VALUE else f"{value}; {flaw.fix}"
    return f"{flaw.field}: {found}" if flaw.field else found


def refuse_bad(dropped: Sequence[Dropped], name: str, rows: int, *, strict: bool) -> None:
    """Refuse a file with rows that could not be understood.

    Args:
        dropped: All its dropped rows, for whatever reason.
        name: What the user calls the file.
        rows: Its rows [count].
        strict: Whether one such row is enough; else it takes half of the file, for then the mapping is wrong.

    Raises:
        ConfigError: Lists them.
    """
    bad = [d for d in dropped if d.reason == BAD_ROW]
    if bad and (strict or 2 * len(bad) >= rows):
        raise refusal(name, bad)


def refusal(name: str, dropped: Sequence[Dropped]) -> ConfigError:
    """Return the error that lists rows a file must not have: the first ten, and how many more there are.

    Args:
        name: What the user calls the file.
        dropped: At least one row.
    """
    problems = [f"row {d.row}: {d.detail}" for d in dropped[:_LISTED]]
    return ConfigError.of_problems(name, problems, total=len(dropped))
