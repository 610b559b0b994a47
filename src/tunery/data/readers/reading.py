"""Reading: one pass over a source, raw rows a few thousand at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from tunery.core.errors import ConfigError, did_you_mean, listed
from tunery.core.progress import Progress
from tunery.data.conversations.shapes import Mapped, map_columns, wanted_columns
from tunery.data.readers.source import Source, iterate
from tunery.data.rows.row import RawRow

CHUNK_ROWS = 5000
"""Rows worked on together: enough that starting costs nothing, few enough to keep memory small."""
_CHUNK_CHARS = 8_000_000


class _Census:
    """Counts in how many rows each column is and has a value: a missing column is no empty one."""

    def __init__(self) -> None:
        self.rows = 0
        self.present: Counter[str] = Counter()
        self.filled: Counter[str] = Counter()

    def count(self, values: Mapping[str, Any]) -> None:
        self.rows += 1
        self.present.update(values.keys())
        self.filled.update(k for k, v in values.items() if v is not None and v != "")

    def check(self, name: str, needed: Iterable[str], *, first_row_only: bool = False) -> None:
        """Raise :class:`ConfigError` for needed columns that no row has, or that are empty in all rows."""
        known = list(self.present)
        problems = [missing_column(c, known) for c in needed if c not in self.present]
        if not first_row_only:
            empty = [c for c in needed if c in self.present and not self.filled[c]]
            problems += [f"column {c!r} is empty in all {self.rows} rows" for c in empty]
        if problems:
            raise ConfigError.of_problems(name, problems, hint="set columns: for this source to map them")


def missing_column(column: str, known: Sequence[str]) -> str:
    """Return a sentence with the columns there are, and the one that was perhaps meant."""
    return f"no column {column!r}{did_you_mean(column, known)} (there is: {listed([*map(repr, known)], 20)})"


class Reading:
    """One pass over a source: raw rows a few thousand at a time, and what was seen of its columns."""

    def __init__(self, source: Source, progress: Progress) -> None:
        self._source = source
        self._progress = progress
        self._census = _Census()
        self._mapped: Mapped | None = None

    @property
    def mapped(self) -> Mapped:
        """How rows are read; known from the first chunk on."""
        if self._mapped is None:
            raise ConfigError(f"{self._source.name}: there is no row in the file")
        return self._mapped

    @property
    def rows(self) -> int:
        """Rows read so far [count]."""
        return self._census.rows

    def chunks(self) -> Iterator[list[RawRow]]:
        """Yield all rows in runs of :data:`CHUNK_ROWS`, less where rows are long.

        Raises:
            ConfigError: The file cannot be read, or its columns do not fit the mapping.
        """
        source, settings = self._source, self._source.settings
        with self._progress.task(f"Reading {source.name}", None) as task:
            chunk: list[RawRow] = []
            size = 0
            for raw in iterate(source, wanted_columns(settings.columns)):
                self._census.count(raw.values)
                if self._mapped is None:
                    self._mapped = map_columns(settings, raw.values)
                    if source.format in ("csv", "tsv", "parquet"):  # every row has the same columns
                        self._census.check(source.name, self._mapped.needed, first_row_only=True)
                chunk.append(raw)
                size += sum(len(v) for v in raw.values.values() if isinstance(v, str))
                if len(chunk) == CHUNK_ROWS or size > _CHUNK_CHARS:
                    task.advance(len(chunk))
                    yield chunk
                    chunk, size = [], 0
            if chunk:
                task.advance(len(chunk))
                yield chunk

    def check(self) -> None:
        """Refuse a source whose rows lack a column, or that has none; call it after the last chunk.

        Raises:
            ConfigError: Says which columns, and which there are.
        """
        self._census.check(self._source.name, self.mapped.needed)
