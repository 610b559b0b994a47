"""Files of answers that other systems wrote: one file here a kind, found by its name.

A reader is a module with a ``READER``; it turns what a file holds into rows with the keys ``id``,
``prediction``, ``reference``, ``correct``, ``scores``, ``cluster`` and ``asked``, which
:mod:`tunery.evaluate.predictions` then checks, one rule for all kinds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tunery.core.errors import ConfigError
from tunery.core.ids import sha256_text
from tunery.core.plugins import load_plugin, plugin_names
from tunery.evaluate.readers.files import Numbered, load

SHARED = ("files", "table")
"""What opens files, and the kind that takes whatever no other recognises."""


class Reader(NamedTuple):
    """How one system writes its answers down."""

    recognises: Callable[[Mapping[str, Any]], bool]
    """Says by a file's first value whether it is of this kind."""
    rows: Callable[[Sequence[Numbered]], Iterable[Numbered]]
    """All values of a file to its answers; raises ConfigError where the file as a whole cannot be used."""


def read_answers(path: Path, problems: list[str]) -> list[Numbered]:
    """Return the answers in a file of any known kind, each with the number of its row.

    Args:
        path: JSON lines, JSON, CSV, TSV or Parquet; told apart by the ending, and by what is in them.
        problems: Takes a sentence for each row that cannot be parsed.

    Raises:
        ConfigError: The file cannot be read, or is of a known kind and lacks what is needed.
    """
    from tunery.evaluate.readers.table import READER as TABLE

    values = load(path, problems)
    first = values[0].value if values else None
    name, reader = "table", TABLE
    if isinstance(first, Mapping):
        readers = {n: load_plugin(__name__, "reader", n).READER for n in plugin_names(__name__)}
        name, reader = next(((n, r) for n, r in readers.items() if r.recognises(first)), (name, reader))
    try:
        return [_told_by(name, row) for row in reader.rows(values)]
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.message}", hint=error.hint) from None
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        shape = f"{type(error).__name__}: {error!s:.80}"
        raise ConfigError(
            f"{path}: looks like a file of {name}, and is not shaped like one ({shape})"
        ) from None


def _told_by(reader: str, row: Numbered) -> Numbered:
    """Return a row whose question is marked with its kind: kinds write the same question in their own way."""
    if not isinstance(row.value, Mapping) or row.value.get("asked") is None:
        return row
    return row._replace(value={**row.value, "asked": f"{reader} {sha256_text(str(row.value['asked']))}"})
