"""Exports of other programs: recognised by their first row, and taken apart into plain rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any, Protocol, cast

from tunery.core.errors import ConfigError
from tunery.core.plugins import load_plugin, plugin_names
from tunery.data.config import IMPORTERS, SourceConfig
from tunery.data.rows.refused import Refused, leading
from tunery.data.rows.row import RawRow


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
    """Return rows as shapes know them, whatever program wrote the file.

    Raises:
        ConfigError: Several programs may have written the file.
    """
    name: str | None = settings.export
    if name == "auto":
        head = leading(rows)
        rows = chain(head, rows)
        usable = [row.values for row in head[-1:] if not isinstance(row.values, Refused)]
        name = recognise(usable[0], settings.path) if usable else None
    return rows if name in (None, "none") else importer(name).convert(rows, settings)
