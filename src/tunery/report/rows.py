"""The data's story: what was read, what was dropped and why, what was masked, how it was split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tunery.core.dataset import DatasetVersion
from tunery.core.example import Dropped
from tunery.core.figures import count, counted, percent
from tunery.core.splits import SPLITS, SplitName
from tunery.text.pii.mask import redact

_SAMPLES = 3
"""Dropped rows that the page shows of each reason [count]."""


class DataSection(NamedTuple):
    """The data section."""

    sentence: str
    dataset: DatasetVersion
    splits: Mapping[SplitName, int]
    """Those that have rows, in their order."""
    samples: Mapping[str, Sequence[Dropped]]
    """A few dropped rows of each reason; a page may be passed on, so they are without keys and personal data,
    whatever the recipe."""


def data_story(dataset: DatasetVersion, dropped: Sequence[Dropped]) -> DataSection:
    """Return the story of a dataset version, with a few of its dropped rows."""
    samples = {
        reason: [
            row.with_(detail=redact(row.detail), text=redact(row.text))
            for row in [d for d in dropped if d.reason == reason][:_SAMPLES]
        ]
        for reason in dataset.dropped
    }
    splits = {name: dataset.splits[name] for name in SPLITS if dataset.splits.get(name)}
    return DataSection(_sentence(dataset), dataset, splits, samples)


def _sentence(dataset: DatasetVersion) -> str:
    read, kept = dataset.rows_read, dataset.rows_kept
    files = counted(len(dataset.sources), "file")
    share = f" ({percent(kept / read)})" if read else ""
    labels = f", in {counted(len(dataset.labels), 'class', 'classes')}" if dataset.labels else ""
    return f"{counted(read, 'row')} read from {files}; {count(kept)} kept{share}{labels}."
