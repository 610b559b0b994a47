"""A chunk: a few thousand rows from raw to clean, the unit of work that a core or a node takes."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import pyarrow as pa

from tunery.core.example import Dropped
from tunery.data.clean.repair import clean_drafts, identified
from tunery.data.config import CleanConfig, SourceConfig
from tunery.data.conversations.shapes import Mapped
from tunery.data.conversations.understand import understand
from tunery.data.filters.filters import Filter, judge
from tunery.data.rows.dropped import masked_drops
from tunery.data.rows.row import RawRow
from tunery.data.rows.table import encode_rows
from tunery.text.pii.types import PiiType


class ChunkTask(NamedTuple):
    """Raw rows of one source and how to treat them."""

    settings: SourceConfig
    mapped: Mapped
    rows: list[RawRow]
    clean: CleanConfig
    system_prompt: str | None
    filters: tuple[Filter, ...] = ()
    """What removes rows; none where edits come first, or where every row is to stay."""


class ChunkResult(NamedTuple):
    """What became of a chunk's rows: each is in ``rows`` or in ``dropped``."""

    rows: pa.RecordBatch
    """Rows understood and cleaned, in reading order; of :data:`tunery.data.rows.table.ROWS_SCHEMA`."""
    dropped: list[Dropped]
    """Rows that teach nothing or could not be understood, masked."""
    masked: Counter[PiiType]
    """Type of personal data to spans masked [count]."""


def clean_chunk(task: ChunkTask) -> ChunkResult:
    """Understand, repair, mask, identify and filter raw rows, and compute what repeats are found by."""
    understood = understand(task.rows, task.mapped, task.settings)
    cleaned = clean_drafts(understood.drafts, task.clean)
    found = [identified(draft, task.system_prompt) for draft in cleaned.drafts]
    drops = judge(task.filters, [row.example for row in found])
    dropped = masked_drops(understood.dropped, task.clean.pii_sought)
    return ChunkResult(encode_rows(found, drops), dropped, cleaned.masked)
