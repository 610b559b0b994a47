"""A chunk: a few thousand rows from raw to clean, the unit of work that a core or a node takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa

from tunery.core.example import Drop, Dropped, Example
from tunery.core.ids import sampling_key
from tunery.data.clean.repair import clean_drafts, identified
from tunery.data.config import DataConfig, SourceConfig
from tunery.data.conversations.shapes import Mapped
from tunery.data.conversations.understand import Understood, understand
from tunery.data.filters.filters import filters
from tunery.data.rows.dropped import masked_raw
from tunery.data.rows.row import RawRow
from tunery.data.rows.table import encode_rows, with_verdicts
from tunery.text.pii.types import PiiType


class ChunkTask(NamedTuple):
    """Raw rows of one source and how to treat them."""

    settings: SourceConfig
    mapped: Mapped
    rows: list[RawRow]
    config: DataConfig
    filtered: bool = True
    """False leaves the filters for later, where edits come first."""


class ChunkResult(NamedTuple):
    """What became of a chunk's rows: each is in ``rows`` or in ``dropped``."""

    rows: pa.RecordBatch
    """Rows understood and cleaned, in reading order; of :data:`ROWS_SCHEMA`."""
    dropped: list[Dropped]
    """Rows that teach nothing or could not be understood, masked."""
    masked: Counter[PiiType]


def clean_chunk(task: ChunkTask) -> ChunkResult:
    """Understand, clean, mask and filter raw rows, and compute what repeats are found by."""
    understood: Understood = understand(task.rows, task.mapped, task.settings)
    masked: Counter[PiiType] = Counter()
    draws = None
    if task.settings.limit is not None:
        draws = [sampling_key(0, "limit", d.row, d.messages[-1].content) for d in understood.drafts]
    drafts = clean_drafts(understood.drafts, task.config.clean, masked)
    found = [identified(d, task.config.system_prompt) for d in drafts]
    examples = [f.example for f in found]
    rows = encode_rows(examples, [f.sha256 for f in found], [d.group_keys for d in drafts], draws)
    if task.filtered:
        rows = filter_rows(rows, examples, task.config)
    return ChunkResult(rows, masked_raw(understood.dropped, task.config.clean), masked)


def filter_rows(rows: pa.RecordBatch, examples: Sequence[Example], config: DataConfig) -> pa.RecordBatch:
    """Return the rows with a reason and a detail set for each one that a filter removes.

    Filters that need a tokenizer are not among them: it stays where it was loaded.
    """
    left = list(range(len(examples)))
    verdicts: dict[int, Drop] = {}
    for step in filters(config.clean, None, None):
        judged = step.judge([examples[i] for i in left])
        verdicts.update((i, v) for i, v in zip(left, judged, strict=True) if v)
        left = [i for i in left if i not in verdicts]
    return with_verdicts(rows, verdicts)
