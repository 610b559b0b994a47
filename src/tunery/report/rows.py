"""The data's story: what was read, what was dropped and why, what was masked, how it was split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from markupsafe import Markup

from tunery.core.dataset import DatasetVersion
from tunery.core.example import Dropped
from tunery.core.figures import count, counted, percent
from tunery.core.splits import SPLITS
from tunery.report.inputs import ReportInputs
from tunery.report.svg import meter
from tunery.report.text import Clipped, clip
from tunery.text.pii.mask import redact

_SAMPLES = 3
"""Dropped rows that the page shows of each reason [count]."""


class DroppedSample(NamedTuple):
    """One dropped row."""

    where: str
    detail: str
    text: Clipped


class DropReason(NamedTuple):
    """One reason."""

    reason: str
    rows: str
    share: str
    bar: Markup
    samples: tuple[DroppedSample, ...]


class CountRow(NamedTuple):
    """A name and its count."""

    name: str
    rows: str
    share: str | None
    bar: Markup | None


class DataSection(NamedTuple):
    """The data section."""

    sentence: str
    drops: tuple[DropReason, ...]
    masked: tuple[CountRow, ...]
    splits: tuple[CountRow, ...]
    warnings: tuple[str, ...]


def data_of(inputs: ReportInputs) -> DataSection | None:
    """Return the data's story; None where no dataset version was made."""
    return None if inputs.dataset is None else data_story(inputs.dataset, inputs.dropped_examples)


def data_story(dataset: DatasetVersion, dropped: Sequence[Dropped]) -> DataSection:
    """Return the story of a dataset version, with a few of its dropped rows."""
    return DataSection(
        _sentence(dataset),
        _drops(dataset, dropped),
        _tallies(dataset.masked),
        _splits(dataset),
        dataset.warnings,
    )


def _sentence(dataset: DatasetVersion) -> str:
    read, kept = dataset.rows_read, dataset.rows_kept
    files = counted(len(dataset.sources), "file")
    share = f" ({percent(kept / read)})" if read else ""
    labels = f", in {counted(len(dataset.labels), 'class', 'classes')}" if dataset.labels else ""
    return f"{counted(read, 'row')} read from {files}; {count(kept)} kept{share}{labels}."


def _drops(dataset: DatasetVersion, examples: Sequence[Dropped]) -> tuple[DropReason, ...]:
    most = max(dataset.dropped.values(), default=1)
    ordered = sorted(dataset.dropped.items(), key=lambda item: (-item[1], item[0]))
    return tuple(
        DropReason(
            reason.replace("_", " "),
            count(rows_dropped),
            percent(rows_dropped / dataset.rows_read) if dataset.rows_read else "",
            meter(rows_dropped / max(1, most), "meter quiet"),
            tuple(_sample(d) for d in examples if d.reason == reason)[:_SAMPLES],
        )
        for reason, rows_dropped in ordered
    )


def _sample(dropped: Dropped) -> DroppedSample:
    """Return a row for a page that may be passed on: without keys and personal data, whatever the recipe."""
    where = f"{dropped.source}, row {dropped.row}"
    return DroppedSample(where, redact(dropped.detail), clip(redact(dropped.text), 240))


def _tallies(counts: Mapping[str, int]) -> tuple[CountRow, ...]:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return tuple(CountRow(name.replace("_", " "), count(n), None, None) for name, n in ordered)


def _splits(dataset: DatasetVersion) -> tuple[CountRow, ...]:
    total = sum(dataset.splits.values())
    names = [name for name in SPLITS if dataset.splits.get(name)]
    shares = {name: dataset.splits[name] / total for name in names}
    return tuple(
        CountRow(name, count(dataset.splits[name]), percent(shares[name]), meter(shares[name]))
        for name in names
    )
