"""Exports of other programs: recognised by their first row, and taken apart into plain rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain, islice
from typing import Any, Protocol, cast

from tunery.core.errors import ConfigError
from tunery.core.plugins import load_plugin, plugin_names
from tunery.data.config import IMPORTERS, SourceConfig
from tunery.data.rows.refused import Refused
from tunery.data.rows.row import RawRow

_LEADING = 1000
"""So many unusable rows may come before the first that shows how the file is read [count]."""


class Importer(Protocol):
    """What the file of one program's export offers; its name is what a source's ``export`` says."""

    def recognises(self, values: Mapping[str, Any]) -> bool:
        """Tell the program's rows by keys that no other kind of file has together."""
        ...

    def convert(self, rows: Iterator[RawRow], settings: SourceConfig) -> Iterator[RawRow]:
        """Take rows apart into rows of a known shape, numbered anew where one becomes several."""
        ...


def importer(name: str) -> Importer:
    """Return what reads the export of a program."""
    return cast(Importer, load_plugin(IMPORTERS, "export", name))


def recognise(values: Mapping[str, Any], path: str) -> str | None:
    """Return the name of the export that a row comes from, None where it is a row as any other.

    Raises:
        ConfigError: Several programs may have written it; nothing is guessed.
    """
    found = [name for name in plugin_names(IMPORTERS) if importer(name).recognises(values)]
    if len(found) > 1:
        raise ConfigError(
            f"{path}: its first row may be an export of {' or '.join(found)}",
            hint=f"set export: for this source to one of {', '.join(found)}, or to none",
        )
    return found[0] if found else None


def as_plain_rows(rows: Iterator[RawRow], settings: SourceConfig) -> Iterator[RawRow]:
    """Yield rows as shapes know them, whatever program wrote the file.

    Raises:
        ConfigError: Several programs may have written the file.
    """
    name = settings.export
    leading: list[RawRow] = []
    if name == "auto":
        leading = up_to_first_usable(rows)
        name = (leading and recognise(leading[-1].values, settings.path)) or "none"
    every = chain(leading, rows)
    yield from every if name == "none" else importer(name).convert(every, settings)


def up_to_first_usable(rows: Iterator[RawRow]) -> list[RawRow]:
    """Take rows up to the first that could be read, which is then the last; 1,000 at most."""
    leading: list[RawRow] = []
    for row in islice(rows, _LEADING):
        leading.append(row)
        if not isinstance(row.values, Refused):
            break
    return leading
