"""Rows of a dataset version in the making: on disk, read by column, so that memory grows little with text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tunery.core.errors import ResourceError
from tunery.core.example import Example
from tunery.data.rows.table import ROWS_SCHEMA, decode_rows
from tunery.store.dataset_files import dialogues

Integers = npt.NDArray[np.int64]


class RowFile:
    """Chunks of rows, appended first and read afterwards; use it in a ``with`` block."""

    def __init__(self, path: Path) -> None:
        """Begin an empty file at ``path``; it is gone when the block ends, or the process."""
        self._path = path
        self._sink: Any = None
        self._writer: Any = None
        self._reader: Any = None
        self._lengths: list[int] = []
        self._sources: list[int] = []
        self._starts: Integers = np.zeros(1, dtype=np.int64)
        self._numbers: dict[str, npt.NDArray[Any]] = {}

    def __enter__(self) -> Self:
        try:
            self._sink = pa.OSFile(str(self._path), "wb")
            self._writer = pa.ipc.new_file(self._sink, ROWS_SCHEMA)
        except OSError as error:
            raise ResourceError(f"cannot write {self._path}: {error.strerror}") from None
        return self

    def __exit__(self, *_: object) -> None:
        self._close()
        self._reader = None
        self._path.unlink(missing_ok=True)

    def _close(self) -> None:
        for part in (self._writer, self._sink):
            if part is not None:
                part.close()
        self._writer = self._sink = None

    def add(self, rows: pa.RecordBatch, source: int) -> None:
        """Append a chunk.

        Args:
            rows: Of :data:`ROWS_SCHEMA`.
            source: Position of its source among the recipe's.
        """
        try:
            self._writer.write_batch(rows)
        except OSError as error:
            raise ResourceError(
                f"cannot write {self._path}: {error.strerror}", hint="free disk space"
            ) from None
        self._lengths.append(rows.num_rows)
        self._sources.append(source)

    def finish(self) -> None:
        """Go over from writing to reading."""
        self._close()
        self._reader = pa.ipc.open_file(pa.memory_map(str(self._path)))
        self._starts = np.concatenate([[0], np.cumsum(self._lengths, dtype=np.int64)]).astype(np.int64)

    def __len__(self) -> int:
        """Return the number of rows."""
        return sum(self._lengths)

    @cached_property
    def sources(self) -> npt.NDArray[np.int32]:
        """Position of each row's source among the recipe's, shape ``(rows,)``."""
        return np.repeat(np.asarray(self._sources, dtype=np.int32), self._lengths)

    def chunks(self) -> Iterator[tuple[int, int, pa.RecordBatch]]:
        """Yield each chunk with the position of its source and of its first row."""
        for i, source in enumerate(self._sources):
            yield source, int(self._starts[i]), self._reader.get_batch(i)

    def column(self, name: str) -> pa.ChunkedArray:
        """Return one column of all rows."""
        return pa.chunked_array([rows[name] for _, _, rows in self.chunks()], ROWS_SCHEMA.field(name).type)

    def numbers(self, name: str) -> npt.NDArray[Any]:
        """Return one column of numbers or truth values, shape ``(rows,)``; it stays in memory."""
        if name not in self._numbers:
            self._numbers[name] = np.asarray(self.column(name).to_numpy())
        return self._numbers[name]

    def column_at(self, name: str, positions: Integers) -> pa.ChunkedArray:
        """Return one column at ascending positions; of a column of texts no more than that is copied."""
        parts = [rows[name].take(inside) for rows, inside in self._parts(positions)]
        return pa.chunked_array(parts, ROWS_SCHEMA.field(name).type)

    def examples(self, positions: Iterable[int]) -> list[Example]:
        """Return the examples at ascending positions."""
        wanted = np.asarray(list(positions), dtype=np.int64)
        return [e for rows, inside in self._parts(wanted) for e in decode_rows(rows.take(inside))]

    def references(self, positions: Integers) -> list[str]:
        """Return the answers at the given positions, in any order."""
        order = np.argsort(positions, kind="stable")
        answers = dialogues(self.column_at("messages", positions[order])).answers
        back = np.empty(len(order), dtype=np.int64)
        back[order] = np.arange(len(order))
        return [answers[i] for i in back.tolist()]

    def texts(self, positions: Integers) -> Iterator[list[str]]:
        """Yield the fingerprints at ascending positions, a chunk at a time."""
        for rows, inside in self._parts(positions):
            yield rows["text"].take(inside).to_pylist()

    def _parts(self, positions: Integers) -> Iterator[tuple[pa.RecordBatch, pa.Array]]:
        """Yield the chunks that hold any of some ascending positions, and where in the chunk they are."""
        bounds = np.searchsorted(positions, self._starts)
        for i in np.flatnonzero(np.diff(bounds)).tolist():
            inside = positions[bounds[i] : bounds[i + 1]] - self._starts[i]
            yield self._reader.get_batch(i), pa.array(inside)
