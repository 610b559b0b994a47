"""What flows through curation before it becomes examples: raw rows, and what can be wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tunery.core.errors import ConfigError
from tunery.core.example import Drop, Message
from tunery.core.tool_text import words_of
from tunery.text.pii import mask


class RawRow(NamedTuple):
    """One row as the file has it."""

    number: int
    """1-based, header and blank lines not counted."""
    values: Mapping[str, Any]
    """Column to value; a missing value is None or absent."""


class Flaw(NamedTuple):
    """Why a row cannot be understood."""

    field: str
    value: str
    """As found, shortened."""
    fix: str
    """What to do about it."""


class BadRow(Exception):  # noqa: N818 - never leaves this room; carries flaws to whoever collects them
    """Raised by a parser for a row it cannot read."""

    def __init__(self, *flaws: Flaw) -> None:
        super().__init__(flaws)
        self.flaws = flaws


class UnusableRow(Exception):  # noqa: N818 - as above
    """Raised by a parser for a row that is well formed but teaches nothing: dropped, with this reason."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.drop = Drop(reason, detail)


def no_prompt(field: str) -> UnusableRow:
    """Return what to raise where the prompt has no value."""
    return UnusableRow("empty_input", f"{field}: no value")


def no_answer(field: str) -> UnusableRow:
    """Return what to raise where the answer has no value."""
    return UnusableRow("empty_output", f"{field}: no value")


@dataclass(frozen=True, slots=True)
class Draft:
    """A row understood as a conversation, before cleaning gives it its identity."""

    source: str
    """The file, as the recipe wrote it."""
    row: int
    """As :attr:`RawRow.number`."""
    messages: tuple[Message, ...]
    rejected: str | None = None
    group_keys: tuple[str, ...] = ()
    """Values of the mapped group columns; any one in common ties two rows together."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Mapped extra columns."""

    @property
    def texts(self) -> list[str]:
        """Every text of the row that cleaning may change: of the turns in order, then of the other answer."""
        return [word for turn in self.turns for word in words_of(turn)]

    @property
    def turns(self) -> tuple[Message, ...]:
        """The conversation, and behind it the answer that was not preferred."""
        if self.rejected is None:
            return self.messages
        return (*self.messages, Message(role="assistant", content=self.rejected))


class FlawList:
    """Collects flaws by row and turns them into one error; keeps the first ten, counts the rest."""

    SHOWN = 10

    def __init__(self, path: str) -> None:
        self._path = path
        self._lines: list[str] = []
        self._count = 0

    def add(self, row: int, flaws: tuple[Flaw, ...]) -> None:
        """Remember what is wrong with ``row``."""
        for flaw in flaws:
            self._count += 1
            if len(self._lines) < self.SHOWN:
                self._lines.append(f"row {row}, {flaw.field}: {flaw.value}; {flaw.fix}")

    def raise_if_any(self) -> None:
        """Raise :class:`ConfigError` with every remembered flaw."""
        if not self._count:
            return
        more = self._count - len(self._lines)
        raise ConfigError.of_problems(
            self._path, [*self._lines, *([f"and {more:,} more like these"] if more else [])]
        )


RAW_CHARS = 12_000
"""What is kept of a value that is to be shortened until personal data is masked in it: the longest thing that
is known by its form, a private key, fits in before the cut [characters]."""
_SHOWN_CHARS = 60


def shown(value: Any) -> str:
    """Return a value as it appears in a message: its repr without personal data, at most 60 characters."""
    text = mask([repr(value)[:RAW_CHARS]]).texts[0]
    return text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 3] + "…"
