"""Collect: every row of a source, understood as a conversation or dropped with a reason."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tunery.core.dataset import Shape
from tunery.core.errors import ConfigError, nearest
from tunery.core.example import SEED_PROMPTS, SPLIT_HINT, Dropped
from tunery.core.progress import Progress
from tunery.data.config import SourceConfig
from tunery.data.dropped import dropped_row
from tunery.data.files.sources import Source, iterate
from tunery.data.formats import json_ready, parse_row
from tunery.data.rows import BadRow, Draft, Flaw, FlawList, RawRow, UnusableRow, shown
from tunery.data.shapes import Mapped, map_columns, shape_of_keys, wanted_columns
from tunery.text.normalise import HALF_A_PAIR, is_unicode

CHUNK_ROWS = 5000
"""Rows worked on together: enough that starting costs nothing, few enough to keep memory small."""
_CHUNK_CHARS = 8_000_000


class Collected(NamedTuple):
    """What one source gave."""

    drafts: list[Draft]
    dropped: list[Dropped]
    rows: int
    """Rows read [count]."""
    shape: Shape


class Understood(NamedTuple):
    """What raw rows mean; each is in one of the three lists."""

    drafts: list[Draft]
    unusable: list[Dropped]
    """Rows that are well formed but teach nothing."""
    flawed: list[tuple[RawRow, tuple[Flaw, ...]]]
    """Rows that cannot be understood."""


class _Census:
    """Counts rows in which a column stands and has a value: tells a missing column from an empty one."""

    def __init__(self) -> None:
        self.rows = 0
        self.present: Counter[str] = Counter()
        self.filled: Counter[str] = Counter()

    def count(self, values: Mapping[str, Any]) -> None:
        self.rows += 1
        self.present.update(values.keys())
        self.filled.update(k for k, v in values.items() if v is not None and v != "")

    def check(self, name: str, needed: Iterable[str]) -> None:
        """Raise :class:`ConfigError` for needed columns that no row has, or that are empty in all rows."""
        problems = []
        for column in needed:
            if column not in self.present:
                problems.append(missing_column(column, list(self.present)))
            elif not self.filled[column]:
                problems.append(f"column {column!r} is empty in all {self.rows} rows")
        if problems:
            raise ConfigError.of_problems(name, problems, hint="set columns: for this source to map them")


def missing_column(column: str, known: Sequence[str]) -> str:
    """Return a sentence that says which columns there are, and which one was perhaps meant."""
    near = nearest(column, known)
    meant = f"; did you mean {near!r}?" if near else ""
    listed = ", ".join(map(repr, known[:20])) + (f" and {len(known) - 20} more" if len(known) > 20 else "")
    return f"no column {column!r}{meant} (there is: {listed})"


def collect(source: Source, progress: Progress) -> Collected:
    """Read a source to its end, all of it in memory; every row must be understood.

    Args:
        source: A located source.
        progress: Where rows are reported to.

    Raises:
        ConfigError: No rows, a column missing or empty throughout, rows of several shapes, rows that cannot
            be understood; all of them at once, with row numbers.
    """
    reading = Reading(source, progress)
    flaws = FlawList(source.name)
    drafts: list[Draft] = []
    dropped: list[Dropped] = []
    for rows in reading.chunks():
        found = understand(rows, reading.mapped, source.settings)
        drafts += found.drafts
        dropped += found.unusable
        for raw, what in found.flawed:
            flaws.add(raw.number, what)
    flaws.raise_if_any()
    reading.check()
    return Collected(drafts, dropped, reading.rows, reading.mapped.shape)


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
                if self._mapped is None:
                    self._mapped = map_columns(settings, raw.values)
                    if source.format in ("csv", "tsv", "parquet"):
                        _check_header(source.name, self._mapped, raw)
                self._census.count(raw.values)
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


def understand(rows: Sequence[RawRow], mapped: Mapped, settings: SourceConfig) -> Understood:
    """Read raw rows as conversations."""
    found = Understood([], [], [])
    for raw in rows:
        try:
            found.drafts.append(_draft(raw, mapped, settings))
        except BadRow as bad:
            found.flawed.append((raw, bad.flaws))
        except UnusableRow as unusable:
            found.unusable.append(dropped_row(settings.path, raw.number, unusable.drop, dict(raw.values)))
    return found


def _check_header(name: str, mapped: Mapped, first: RawRow) -> None:
    known = list(first.values)
    problems = [missing_column(c, known) for c in mapped.needed if c not in first.values]
    if problems:
        raise ConfigError.of_problems(name, problems, hint="set columns: for this source to map them")


def _draft(raw: RawRow, mapped: Mapped, settings: SourceConfig) -> Draft:
    _check_shape(raw, mapped, settings)
    conversation = parse_row(raw.values, mapped, settings)
    draft = Draft(
        source=settings.path,
        row=raw.number,
        messages=conversation.messages,
        rejected=conversation.rejected,
        group_keys=_group_keys(raw, settings.columns.groups),
        metadata={c: json_ready(raw.values.get(c)) for c in settings.columns.metadata} | _hint(raw),
    )
    for column, value in (("group", draft.group_keys), ("metadata", draft.metadata)):
        if value and not is_unicode(written := json.dumps(value, ensure_ascii=False, default=str)):
            raise BadRow(Flaw(column, shown(written), HALF_A_PAIR))
    return draft


def _group_keys(raw: RawRow, columns: Sequence[str]) -> tuple[str, ...]:
    """Return a row's values in the group columns, with the column's name before them.

    A single column gives its bare value too, first: so files tie together whose columns have other names.
    """
    values = [(c, raw.values.get(c)) for c in columns]
    named = tuple(f"{column}={value}" for column, value in values if value is not None)
    return (str(values[0][1]), *named) if len(columns) == 1 and named else named


def _hint(raw: RawRow) -> dict[str, Any]:
    """Return what a row says of its own split: rows from feedback or a teacher are for training only."""
    about = raw.values.get("metadata")
    if not isinstance(about, Mapping) or about.get(SPLIT_HINT) != "train":
        return {}
    prints = about.get(SEED_PROMPTS)
    if not isinstance(prints, list):
        return {SPLIT_HINT: "train"}
    return {SPLIT_HINT: "train", SEED_PROMPTS: [str(p) for p in prints]}


def _check_shape(raw: RawRow, mapped: Mapped, settings: SourceConfig) -> None:
    """Refuse a row that lacks this file's columns but has those of another shape."""
    if all(column in raw.values for column in mapped.needed) or settings.shape != "auto":
        return
    other = shape_of_keys(raw.values)
    if other is not None and other != mapped.shape:
        keys = ", ".join(list(raw.values)[:6])
        fix = f"this is a {other} row among {mapped.shape} rows; put one shape in each file"
        raise BadRow(Flaw("(columns)", shown(keys), fix))
