"""Diff: what happened to each row between two dataset versions, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq

from tunery.core.columns import Columns
from tunery.core.dataset import DatasetVersion
from tunery.core.figures import one_line
from tunery.core.finding import Changed
from tunery.core.splits import SPLITS
from tunery.data.config import current_settings
from tunery.data.edits.sets import read_changed
from tunery.data.rows.dropped import dropped_content
from tunery.store.dataset_files import DROPPED, read_columns, read_examples

_INSTANCES = 5
_CHARACTERS = 200


class Instance(NamedTuple):
    """One row that differs."""

    where: str
    """``row 7 of rows.csv``."""
    before: str | None
    """Question and answer in the first version, shortened; None where it was not in it."""
    after: str | None
    detail: str
    """Why, with its values."""


class Reason(NamedTuple):
    """Rows that differ for the same reason."""

    reason: str
    rows: int
    examples: tuple[Instance, ...]


class DatasetDiff(NamedTuple):
    """How the second version differs from the first."""

    a: str
    b: str
    same: int
    """Rows in both with equal content in the same split [count]."""
    came: tuple[Reason, ...]
    """Rows that only the second has, most frequent reason first."""
    went: tuple[Reason, ...]
    """Rows that only the first has."""
    changed: tuple[Reason, ...]
    """Rows of the same place in the same file with other content."""
    moved: tuple[Reason, ...]
    """Rows with equal content in another split; the reason names both."""
    settings: tuple[str, ...]
    """Data settings that differ, ``name: before -> after``."""


class _Side:
    """One version with what is needed to find its rows."""

    def __init__(self, version: DatasetVersion, folder: Path) -> None:
        self.version = version
        self.columns: Columns = read_columns(folder)
        self.position = {row: i for i, row in enumerate(self.columns.ids)}
        self.changed = read_changed(folder)
        self.folder = folder
        self._contents: dict[str, str] | None = None

    def content(self, i: int) -> str:
        """Return a row as the record of a dropped one would hold it."""
        if self._contents is None:
            examples = [e for split in SPLITS for e in read_examples(self.folder, split)]
            self._contents = {e.id: dropped_content(e) for e in examples}
        return self._contents[self.columns.ids[i]]

    def text(self, i: int) -> str:
        """Return question and answer of a row, shortened."""
        prompt, answer = self.columns.prompts[i], self.columns.answers[i]
        return f"{one_line(prompt, _CHARACTERS)} → {one_line(answer, _CHARACTERS)}"


class _RowChange(NamedTuple):
    reason: str
    instance: Instance


def diff_versions(first: DatasetVersion, second: DatasetVersion, folders: tuple[Path, Path]) -> DatasetDiff:
    """Compare two dataset versions row by row.

    Rows of equal content are the same row, wherever they stand. Of the others, those from the same row of the
    same file are one row that changed; a file is the same by its bytes, else by its path.

    Args:
        first: The older version.
        second: The newer.
        folders: Where each one's tables lie.

    Raises:
        NotFoundError: A folder holds no dataset version.
        ConfigError: A table cannot be read.
    """
    a, b = _Side(first, folders[0]), _Side(second, folders[1])
    names = _same_files(a.version, b.version)
    back = {there: here for here, there in names.items()}
    same, moved, went = 0, [], []
    for row, i in a.position.items():
        j = b.position.get(row)
        if j is None:
            went.append(i)
            continue
        before, after = a.columns.splits[i], b.columns.splits[j]
        if before == after:
            same += 1
        else:
            instance = Instance(b.columns.where(j), a.text(i), b.text(j), f"was in {before}, is in {after}")
            moved.append(_RowChange(f"{before} -> {after}", instance))
    came = [j for row, j in b.position.items() if row not in a.position]
    edited, undone = ({(c.source, c.row): c for c in side.changed} for side in (b, a))
    at = {(b.columns.sources[j], b.columns.rows[j]): j for j in came}
    changed, gone, matched = [], [], set()
    for i in went:
        place = (names.get(a.columns.sources[i], a.columns.sources[i]), a.columns.rows[i])
        j = at.get(place)
        if j is None:
            gone.append(i)
            continue
        matched.add(j)
        before, after = a.columns.splits[i], b.columns.splits[j]
        split = "" if before == after else f"; moved from {before} to {after}"
        reason, why = _why_changed(edited.get(place), undone.get((a.columns.sources[i], a.columns.rows[i])))
        changed.append(_RowChange(reason, Instance(b.columns.where(j), a.text(i), b.text(j), why + split)))
    new = [j for j in came if j not in matched]
    return DatasetDiff(
        a=first.id,
        b=second.id,
        same=same,
        came=_grouped(_unmatched(b, new, back, _DroppedRows(a, names, of=b), came=True)),
        went=_grouped(_unmatched(a, gone, names, _DroppedRows(b, back, of=a), came=False)),
        changed=_grouped(changed),
        moved=_grouped(moved),
        settings=tuple(_settings(first.config, second.config)),
    )


def _same_files(a: DatasetVersion, b: DatasetVersion) -> dict[str, str]:
    """Return each source of ``a`` under the name it has in ``b``; one that ``b`` lacks is left out."""
    paths = {s.path for s in b.sources}
    by_content = {s.sha256: s.path for s in reversed(b.sources)}
    found = {}
    for source in a.sources:
        name = source.path if source.path in paths else by_content.get(source.sha256)
        if name is not None:
            found[source.path] = name
    return found


def _why_changed(edit: Changed | None, undone: Changed | None) -> tuple[str, str]:
    if edit is not None:
        return edit.reason, f"{edit.action} by {edit.by} in {edit.edits}"
    if undone is not None:
        why = f"{undone.action} by {undone.by} in {undone.edits} is no longer made"
        return f"no_longer_{undone.reason}", why
    return "source_changed", "the file or its settings changed"


def _unmatched(
    side: _Side, rows: Sequence[int], names: Mapping[str, str], dropped: _DroppedRows, *, came: bool
) -> Iterable[_RowChange]:
    """Yield those rows of one version that the other lacks, each with why.

    Args:
        side: The version; the newer one where ``came``.
        rows: Positions in it.
        names: Its files to the names they have in the other version.
        dropped: What the other version dropped.
    """
    for i in rows:
        source = side.columns.sources[i]
        found = dropped.find(i)
        if found is not None:
            reason, detail = found
            if came:
                reason, detail = f"no_longer_{reason}", f"was dropped in {dropped.version}: {detail}"
        elif source not in names:
            reason = "new_source" if came else "source_removed"
            detail = f"{source} is no source of {dropped.version}"
        elif came:
            reason, detail = "new_row", f"{names[source]} did not have it there"
        else:
            reason, detail = "row_removed", f"{names[source]} no longer has it there"
        before, after = (None, side.text(i)) if came else (side.text(i), None)
        yield _RowChange(reason, Instance(side.columns.where(i), before, after, detail))


class _DroppedRows:
    """Why one version dropped rows that the other has.

    Where both read the same bytes a row is known by its place. In a file that changed rows may have shifted,
    so there it is known by its content, as far as dropped rows keep it.
    """

    def __init__(self, side: _Side, names: Mapping[str, str], *, of: _Side) -> None:
        """Look among what ``side`` dropped; ``names`` gives its files the names they have in ``of``."""
        self.version = side.version.id
        self._of = of
        bytes_of = {s.path: s.sha256 for s in of.version.sources}
        equal = {s.path for s in side.version.sources if bytes_of.get(names.get(s.path, "")) == s.sha256}
        self._places: dict[tuple[str, int], tuple[str, str]] = {}
        self._texts: dict[tuple[str, str], tuple[str, str]] = {}
        table = pq.read_table(side.folder / DROPPED)
        cells = (table[name].to_pylist() for name in ("source", "row", "reason", "detail", "text"))
        for source, row, reason, detail, text in zip(*cells, strict=True):
            if source in equal:
                self._places[names[source], row] = (reason, detail)
            elif source in names:
                self._texts.setdefault((names[source], text), (reason, detail))

    def find(self, i: int) -> tuple[str, str] | None:
        """Return reason and detail for a row of ``of``, None where it was not dropped."""
        source = self._of.columns.sources[i]
        found = self._places.get((source, self._of.columns.rows[i]))
        if found is not None or not self._texts:
            return found
        return self._texts.get((source, self._of.content(i)))


def _grouped(changes: Iterable[_RowChange]) -> tuple[Reason, ...]:
    counts: Counter[str] = Counter()
    examples: dict[str, list[Instance]] = {}
    for change in changes:
        counts[change.reason] += 1
        instances = examples.setdefault(change.reason, [])
        if len(instances) < _INSTANCES:
            instances.append(change.instance)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return tuple(Reason(reason, rows, tuple(examples[reason])) for reason, rows in ordered)


def _settings(a: Mapping[str, object], b: Mapping[str, object]) -> Iterable[str]:
    before, after = (dict(_leaves(current_settings(c))) for c in (a, b))
    for name in sorted(before.keys() | after.keys()):
        # A setting that is newer than one of the versions is not there; empty, it changes nothing.
        if before.get(name, "None") != after.get(name, "None"):
            yield f"{name}: {before.get(name, 'not set')} -> {after.get(name, 'not set')}"


def _leaves(value: object, path: str = "") -> Iterable[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, (list, tuple)) and value and isinstance(value[0], Mapping):
        for i, inner in enumerate(value):
            yield from _leaves(inner, f"{path}[{i}]")
    else:
        yield path, one_line(str(list(value) if isinstance(value, tuple) else value), _CHARACTERS)
