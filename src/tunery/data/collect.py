"""Collect: every row of a source, understood as a conversation or dropped with a reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from tunery.core.dataset import Shape
from tunery.core.errors import ConfigError, nearest
from tunery.core.example import Dropped
from tunery.core.progress import Progress
from tunery.data.config import SourceConfig
from tunery.data.draw import draw_key
from tunery.data.formats import json_ready, parse_row
from tunery.data.rows import (
    SEED_PROMPTS,
    SPLIT_HINT,
    BadRow,
    Draft,
    Drop,
    Flaw,
    FlawList,
    RawRow,
    UnusableRow,
    dropped_messages,
    dropped_row,
    shown,
)
from tunery.data.shapes import Mapped, map_columns, shape_of_keys, wanted_columns
from tunery.data.sources import Source, iterate

_REPORT_EVERY = 1000


class Collected(NamedTuple):
    """What one source gave."""

    drafts: list[Draft]
    dropped: list[Dropped]
    rows: int
    """Rows read [count]."""
    shape: Shape


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
    """Read a source to its end.

    Args:
        source: A located source.
        progress: Where rows are reported to.

    Raises:
        ConfigError: No rows, a column missing or empty throughout, rows of several shapes, rows that cannot
            be understood; all of them at once, with row numbers.
    """
    name = source.name
    flaws = FlawList(name)
    census = _Census()
    drafts: list[Draft] = []
    dropped: list[Dropped] = []
    mapped: Mapped | None = None
    with progress.task(f"Reading {name}", None) as task:
        for raw in iterate(source, wanted_columns(source.settings.columns)):
            if mapped is None:
                mapped = map_columns(source.settings, raw.values)
                if source.format in ("csv", "tsv", "parquet"):
                    _check_header(name, mapped, raw)
            census.count(raw.values)
            try:
                drafts.append(_draft(raw, mapped, source.settings))
            except BadRow as bad:
                flaws.add(raw.number, bad.flaws)
            except UnusableRow as unusable:
                dropped.append(dropped_row(name, raw.number, unusable.drop, dict(raw.values)))
            if census.rows % _REPORT_EVERY == 0:
                task.advance(_REPORT_EVERY)
    if mapped is None:
        raise ConfigError(f"{name}: there is no row in the file")
    flaws.raise_if_any()
    census.check(name, mapped.needed)
    drafts, surplus = _sample(drafts, source)
    return Collected(drafts, dropped + surplus, census.rows, mapped.shape)


def _check_header(name: str, mapped: Mapped, first: RawRow) -> None:
    known = list(first.values)
    problems = [missing_column(c, known) for c in mapped.needed if c not in first.values]
    if problems:
        raise ConfigError.of_problems(name, problems, hint="set columns: for this source to map them")


def _draft(raw: RawRow, mapped: Mapped, settings: SourceConfig) -> Draft:
    _check_shape(raw, mapped, settings)
    conversation = parse_row(raw.values, mapped, settings)
    group = raw.values.get(settings.columns.group) if settings.columns.group else None
    return Draft(
        source=settings.path,
        row=raw.number,
        messages=conversation.messages,
        rejected=conversation.rejected,
        group_key=None if group is None else str(group),
        metadata={c: json_ready(raw.values.get(c)) for c in settings.columns.metadata} | _hint(raw),
    )


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


def _sample(drafts: list[Draft], source: Source) -> tuple[list[Draft], list[Dropped]]:
    """Keep ``limit`` rows, drawn by hash so that a file sorted by class still gives all classes."""
    limit = source.settings.limit
    if limit is None or len(drafts) <= limit:
        return drafts, []
    order = sorted(drafts, key=lambda d: draw_key(0, "limit", d.row, d.messages[-1].content))
    chosen = {d.row for d in order[:limit]}
    drop = Drop("over_limit", f"the source is limited to {limit} rows")
    surplus = [
        dropped_messages(d.source, d.row, drop, d.messages, d.rejected) for d in drafts if d.row not in chosen
    ]
    return [d for d in drafts if d.row in chosen], surplus
