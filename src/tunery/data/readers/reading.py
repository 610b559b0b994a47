"""Reading: one pass over a source, raw rows a few thousand at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

from tunery.core.errors import ConfigError, did_you_mean, listed
from tunery.core.figures import counted, most_first
from tunery.core.progress import Progress
from tunery.data.config import SourceConfig
from tunery.data.conversations.shapes import is_metadata, map_columns, wanted_columns
from tunery.data.readers.formats.csv import read_delimited
from tunery.data.readers.formats.json import read_json_array, read_jsonl
from tunery.data.readers.formats.parquet import read_arrow, read_parquet
from tunery.data.readers.importers.recognise import as_plain_rows
from tunery.data.readers.source import Source
from tunery.data.readers.storage.folders import Found
from tunery.data.rows.refused import Refused, leading
from tunery.data.rows.row import BadRow, RawRow
from tunery.store.urls import InputFile

CHUNK_ROWS = 5000
"""Rows worked on together: enough that starting costs nothing, few enough to keep memory small."""
_CHUNK_CHARS = 8_000_000


def iterate(source: Source, wanted: Sequence[str]) -> Iterator[RawRow]:
    """Yield a source's rows in file order, one batch in memory at a time.

    A row that cannot be used comes as a :class:`~tunery.data.rows.refused.Refused` one, whose error
    :func:`tunery.data.conversations.parse.parse_row` raises; the first row is always one that can be looked
    at. Numbers run on from file to file of a folder.

    Args:
        source: As :func:`locate` found it.
        wanted: Columns the mapping names; they help to recognise a CSV file's delimiter.

    Raises:
        ConfigError: A file is broken so that reading cannot go on; says where.
    """
    rows = as_plain_rows(_rows_of_files(source, wanted), source.settings)
    head = leading(rows)
    if head and isinstance(head[-1].values, Refused):
        raise ConfigError.of_problems(
            source.name,
            list(_reasons(head[:10])),
            total=len(head),
            hint="correct one of them: the first usable row shows how all are read",
        )
    return chain(head[-1:], head[:-1], rows)


def _rows_of_files(source: Source, wanted: Sequence[str]) -> Iterator[RawRow]:
    if len(source.files) == 1:
        return _rows_of(source, source.files[0], source.name, wanted)
    every = (_rows_of(source, file, f"{source.name}/{file.name}", wanted) for file in source.files)
    return (row._replace(number=n) for n, row in enumerate(chain.from_iterable(every), 1))


def _rows_of(source: Source, found: Found, name: str, wanted: Sequence[str]) -> Iterator[RawRow]:
    file = InputFile(found.file, name, source.settings.max_row_bytes)
    if source.format in ("csv", "tsv"):
        usual = "\t" if source.format == "tsv" else None
        return read_delimited(file, delimiter=source.settings.delimiter, usual=usual, wanted=wanted)
    if source.format in ("parquet", "arrow"):
        read = read_parquet if source.format == "parquet" else read_arrow
        return read(file, as_given=_as_given(source.settings))
    return read_jsonl(file) if source.format == "jsonl" else read_json_array(file)


def _as_given(settings: SourceConfig) -> str | None:
    """Return the column whose nulls may be meant: of answers that are objects. Elsewhere they say nothing."""
    return (settings.columns.output or "output") if settings.output_json else None


def _reasons(rows: Sequence[RawRow]) -> Iterator[str]:
    for row in rows:
        error = row.values.error if isinstance(row.values, Refused) else None
        if isinstance(error, BadRow):
            yield f"row {row.number}: {error.flaws[0].fix}"
        elif error is not None:
            yield f"row {row.number}: {error.drop.reason}, {error.drop.detail}"


def missing_column(column: str, known: Sequence[str]) -> str:
    """Return a sentence with the columns there are, and the one that was perhaps meant."""
    return f"no column {column!r}{did_you_mean(column, known)} (there is: {listed([*map(repr, known)], 20)})"


def _by_rows(counts: Mapping[str, int]) -> str:
    """Return names with their rows as part of a sentence, the most frequent first."""
    return listed([f"{name!r:.80} ({counted(n, 'row')})" for name, n in most_first(counts)], 12)


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
        self._nulls: Counter[str] = Counter()
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
                if raw.filled:
                    self._nulls.update(raw.filled)
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

    def warnings(self) -> list[str]:
        """Return what was passed over, a sentence each; call it after the last chunk."""
        found = []
        unused = {c: n for c, n in self._filled.items() if c not in self.mapped.used and not is_metadata(c)}
        if unused:
            fix = "map them, or list them under columns.metadata to keep them beside the rows"
            found.append(f"columns that nothing reads: {_by_rows(unused)}; {fix}")
        answer = f"{_as_given(self._source.settings)}."
        in_answers = {path: n for path, n in self._nulls.items() if path.startswith(answer)}
        elsewhere = {path: n for path, n in self._nulls.items() if path not in in_answers}
        fix = "write the value as JSON text to tell null from a key that a row does not have"
        if elsewhere:
            found.append(f"keys that are null in nested columns were left out: {_by_rows(elsewhere)}; {fix}")
        if in_answers:
            found.append(f"keys of answers are learnt as null: {_by_rows(in_answers)}; {fix}")
        return [f"{self._source.name}: {sentence}" for sentence in found]

    def _refuse_missing(self, known: Sequence[str], others: Sequence[str] = ()) -> None:
        problems = [*(missing_column(c, known) for c in self.mapped.needed if c not in known), *others]
        if problems:
            hint = "set columns: for this source to map them"
            raise ConfigError.of_problems(self._source.name, problems, hint=hint)
