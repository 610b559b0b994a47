"""Reading: one pass over a source, raw rows a few thousand at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain

from tunery.core.errors import ConfigError, did_you_mean, listed
from tunery.core.progress import Progress
from tunery.data.conversations.shapes import map_columns, wanted_columns
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
        """Read the first row, which shows how all others are read.

        Raises:
            ConfigError: The file cannot be read, has no row, or its columns do not fit the mapping.
        """
        self._source = source
        self._progress = progress
        rows = iterate(source, wanted_columns(source.settings.columns))
        first = next(rows, None)
        if first is None:
            raise ConfigError(f"{source.name}: there is no row in the file")
        self._rows = chain([first], rows)
        self.mapped = map_columns(source.settings, first.values)
        """How rows are read."""
        self.rows = 0
        """Rows read so far [count]."""
        # A missing column is no empty one.
        self._present: Counter[str] = Counter()
        self._filled: Counter[str] = Counter()
        if source.format in ("csv", "tsv", "parquet"):  # every row has the same columns
            self._refuse_missing([*first.values])

    def chunks(self) -> Iterator[list[RawRow]]:
        """Yield all rows in runs of :data:`CHUNK_ROWS`, less where rows are long; to be called once.

        Raises:
            ConfigError: The file cannot be read.
        """
        with self._progress.task(f"Reading {self._source.name}", None) as task:
            chunk: list[RawRow] = []
            size = 0
            for raw in self._rows:
                self.rows += 1
                self._present.update(raw.values.keys())
                self._filled.update(k for k, v in raw.values.items() if v is not None and v != "")
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
        """Refuse a source whose rows lack a column, or have it always empty; call it after the last chunk.

        Raises:
            ConfigError: Says which columns, and which there are.
        """
        empty = [c for c in self.mapped.needed if c in self._present and not self._filled[c]]
        self._refuse_missing(
            [*self._present], [f"column {c!r} is empty in all {self.rows} rows" for c in empty]
        )

    def _refuse_missing(self, known: Sequence[str], others: Sequence[str] = ()) -> None:
        problems = [*(missing_column(c, known) for c in self.mapped.needed if c not in known), *others]
        if problems:
            hint = "set columns: for this source to map them"
            raise ConfigError.of_problems(self._source.name, problems, hint=hint)
