"""Markdown from other people's words: no text of a user can end a table, a code block or a line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~])")
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")


def without_controls(text: str) -> str:
    """Return text on one line: runs of control characters and line ends become a space."""
    return _CONTROLS.sub(" ", text)


def inline(text: str) -> str:
    """Return text fit for the middle of a line, shown as it is.

    >>> inline("a|b*")
    'a\\\\|b\\\\*'
    """
    return _SPECIAL.sub(r"\\\1", without_controls(text))


def code(text: str) -> str:
    """Return text fit for the inside of a code span within a table."""
    if not text.strip():
        return "(empty)"
    return without_controls(text).replace("`", "'").replace("|", "\\|")


def fenced(text: str, language: str = "text") -> str:
    """Return a code block whose fence is longer than any run of backticks in it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.strip(chr(10))}\n{fence}"


def bullets(lines: Iterable[str]) -> str:
    """Return a list; its lines are Markdown already."""
    return "\n".join(f"- {line}" for line in lines) or "None."


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; its cells are Markdown already."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
