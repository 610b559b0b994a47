"""Reading: one pass over a source, raw rows a few thousand at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from tunery.core.errors import ConfigError, did_you_mean, listed
from tunery.core.progress import Progress
from tunery.data.conversations.shapes import Mapped, map_columns, wanted_columns
from tunery.data.readers.source import Source, iterate
from tunery.data.rows.row import RawRow

CHUNK_ROWS = 5000
"""Rows worked on together: enough that starting costs nothing, few enough to keep memory small."""
_CHUNK_CHARS = 8_000_000


def missing_column(column: str, known: Sequence[str]) -> str:
    """Return a sentence with the columns there are, and the one that was perhaps meant."""
    return f"no column {column!r}{did_you_mean(column, known)} (there is: {listed([*map(repr, known)], 20)})"


class Reading:
    """One pass over a source: raw rows a few thousand at a time, and what was seen of its columns."""

    def __init__(self, source: Source, progress: Progress) -> None:
        self._source = source
        self._progress = progress
        self._mapped: Mapped | None = None
        self.rows = 0
        """Rows read so far [count]."""
        # In how many rows each column is, and has a value: a missing column is no empty one.
        self._present: Counter[str] = Counter()
        self._filled: Counter[str] = Counter()

    @property
    def mapped(self) -> Mapped:
        """How rows are read; known from the first chunk on."""
        if self._mapped is None:
            raise ConfigError(f"{self._source.name}: there is no row in the file")
        return self._mapped

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
                self.rows += 1
                self._present.update(raw.values.keys())
                self._filled.update(k for k, v in raw.values.items() if v is not None and v != "")
                if self._mapped is None:
                    self._mapped = map_columns(settings, raw.values)
                    if source.format in ("csv", "tsv", "parquet"):  # every row has the same columns
                        self._refuse([*self._missing()])
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
        present = [c for c in self.mapped.needed if c in self._present]
        empty = [f"column {c!r} is empty in all {self.rows} rows" for c in present if not self._filled[c]]
        self._refuse([*self._missing(), *empty])

    def _missing(self) -> Iterator[str]:
        known = list(self._present)
        return (missing_column(c, known) for c in self.mapped.needed if c not in self._present)

    def _refuse(self, problems: Sequence[str]) -> None:
        if problems:
            hint = "set columns: for this source to map them"
            raise ConfigError.of_problems(self._source.name, problems, hint=hint)
