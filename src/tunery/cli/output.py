"""The answer on stdout: one JSON value for a program, or text and tables for a person."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    Part: TypeAlias = str | Table | Text

_PIPE_WIDTH = 10_000
"""Columns where nobody looks: a row that is cut or folded for no screen is lost to grep and awk."""


def answer(value: Any, text: Callable[[], Iterable[Part]], *, as_json: bool) -> None:
    """Print the answer of a command.

    Args:
        value: Records, mappings and lists of them; what ``--json`` prints.
        text: Makes the parts to print for a person, one under the other.
        as_json: Which of the two.
    """
    if as_json:
        write(json.dumps(plain(value), ensure_ascii=not can_write("✓"), indent=2) + "\n")
    else:
        write("".join(_rendered(list(text()))))


def answer_table(
    value: Any, columns: Sequence[str], rows: Sequence[Sequence[object]], *, as_json: bool
) -> None:
    """Print the answer of a command that lists something; see :func:`answer` and :func:`table`."""
    answer(value, lambda: [table(columns, rows)], as_json=as_json)


def write(text: str) -> None:
    """Write to stdout now.

    Raises:
        BrokenPipeError: Nobody reads it any more.
    """
    sys.stdout.write(text)
    sys.stdout.flush()


def plain(value: Any) -> Any:
    """Return a value made of what JSON has; a number that is none becomes null."""
    if hasattr(value, "model_dump"):
        return plain(value.model_dump(mode="json"))
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return plain(value._asdict())
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, Path) else value


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table | Text:
    """Return a table, or a note that there is nothing yet.

    Args:
        columns: Their names; one that begins with ``>`` is set flush right.
        rows: Cells by column.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    if not rows:
        return Text("none yet", style="dim")
    drawn = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        right = column.startswith(">")
        drawn.add_column(
            Text(column.removeprefix(">")),
            justify="right" if right else "left",
            no_wrap=right,
            overflow="fold",
        )
    for row in rows:
        # As Text: what users wrote may hold square brackets, which a plain string would read as markup.
        drawn.add_row(*(cell if isinstance(cell, Text) else Text(_cell(cell)) for cell in row))
    return drawn


def facts(pairs: Iterable[tuple[str, object]]) -> str:
    """Return names and values, one pair a line, values under each other; pairs without value are left out."""
    kept = [(name, _cell(value)) for name, value in pairs if value is not None]
    width = max((len(name) for name, _ in kept), default=0)
    return "".join(f"{name:<{width}}  {value}\n" for name, value in kept)


def styled(text: str, style: str) -> Text:
    """Return text in a colour, where the terminal has colours."""
    from rich.text import Text

    return Text(text, style=style)


def can_write(text: str, stream: object = None) -> bool:
    """Tell whether the encoding of a stream, stdout where None, has these characters."""
    try:
        text.encode(getattr(stream or sys.stdout, "encoding", None) or "utf-8")  # text in memory has none
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def mark(passed: bool) -> str:  # noqa: FBT001 - the one thing it is about
    """Return the sign of something that passed or did not, in what stdout can write."""
    if can_write("✓✗"):
        return "✓" if passed else "✗"
    return "ok" if passed else "NO"


def moment(at: datetime | None) -> str:
    """Return a time as a person on this machine reads it, to the minute."""
    return at.astimezone().strftime("%Y-%m-%d %H:%M") if at else ""


def _rendered(parts: Sequence[Part]) -> Iterable[str]:
    console: Console | None = None
    for part in parts:
        if isinstance(part, str):
            yield part if part.endswith("\n") else f"{part}\n"
            continue
        console = console or _console()
        with console.capture() as captured:
            console.print(part)
        # Cells are padded to their column's width; nobody wants the spaces at the end of a line.
        yield "".join(f"{line.rstrip()}\n" for line in captured.get().splitlines())


def _console() -> Console:
    from rich.console import Console

    terminal = sys.stdout.isatty()
    return Console(file=sys.stdout, highlight=False, width=None if terminal else _PIPE_WIDTH)


def _cell(value: object) -> str:
    if isinstance(value, datetime):
        return moment(value)
    return "" if value is None else str(value)
