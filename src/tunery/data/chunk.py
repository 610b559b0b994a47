"""A chunk: a few thousand rows from raw to clean, the unit of work that a core or a node takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pyarrow as pa

from tunery.core.dataset import TextChange
from tunery.core.example import Drop, Dropped, Example, Message, content_sha256, short_id
from tunery.core.tool_text import with_system_prompt
from tunery.data.clean import Cleaned, Text, clean_texts, texts_of, with_texts
from tunery.data.config import CleanConfig, SourceConfig
from tunery.data.conversations.parse import understand
from tunery.data.conversations.shapes import Mapped
from tunery.data.filters.filters import Filter
from tunery.data.rows.changes import merged
from tunery.data.rows.dropped import masked_drops
from tunery.data.rows.row import Draft, RawRow
from tunery.data.rows.table import encode_rows
from tunery.text.pii.types import PiiType


class Treatment(NamedTuple):
    """How the rows of one source are read, cleaned and filtered."""

    settings: SourceConfig
    mapped: Mapped
    clean: CleanConfig
    system_prompt: str | None
    """Put first where a row has no system turn of its own."""
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
    changes: list[TextChange]
    """What cleaning did to texts."""
    notes: Counter[str]
    """What a person should know of the rows, a sentence each, to rows [count]."""


def clean_chunk(rows: Sequence[RawRow], treatment: Treatment) -> ChunkResult:
    """Understand, repair, mask, identify and filter raw rows, and compute what repeats are found by."""
    understood = [understand(raw, treatment.mapped, treatment.settings) for raw in rows]
    drafts = [row for row in understood if isinstance(row, Draft)]
    dropped = [row for row in understood if isinstance(row, Dropped)]
    given = [[*texts_of(d.turns)] for d in drafts]
    cleaned = clean_texts([t for row in given for t in row], treatment.clean)
    texts = iter(cleaned.texts)
    contents = [_content(draft, texts, treatment.system_prompt) for draft in drafts]
    hashes = [content_sha256(*content, d.desirable) for content, d in zip(contents, drafts, strict=True)]
    examples = [
        Example(
            id=short_id(sha256),
            messages=messages,
            rejected=rejected,
            desirable=draft.desirable,
            group=short_id(sha256),
            metadata={"source": draft.source, "row": draft.row, **draft.metadata},
        )
        for draft, (messages, rejected), sha256 in zip(drafts, contents, hashes, strict=True)
    ]
    carried = {"group_keys": [d.group_keys for d in drafts], "sampling_key": [d.sampling_key for d in drafts]}
    batch = encode_rows(examples, hashes, judge(treatment.filters, examples), carried)
    masked = masked_drops(dropped, treatment.clean.pii_sought)
    notes = Counter(note for d in drafts for note in d.notes)
    return ChunkResult(batch, masked, cleaned.masked, _changes(given, cleaned, examples), notes)


def _changes(
    given: Sequence[Sequence[Text]], cleaned: Cleaned, examples: Sequence[Example]
) -> list[TextChange]:
    """Return what cleaning did to the texts of each row, counted."""
    kinds_of = iter(cleaned.changes)
    every = [
        TextChange(
            kind=kind,
            prompts=int(not text.is_answer),
            answers=int(text.is_answer),
            example=example.id,
            source=example.metadata["source"],
            row=example.metadata["row"],
        )
        for row, example in zip(given, examples, strict=True)
        for text, kinds in zip(row, kinds_of, strict=False)
        for kind in kinds
    ]
    return merged(every)


def _content(
    draft: Draft, texts: Iterator[str], system_prompt: str | None
) -> tuple[tuple[Message, ...], str | None]:
    """Return what a draft says with its texts replaced by the next ones: messages and rejected answer."""
    turns = [with_texts(turn, texts) for turn in draft.turns]
    rejected = turns.pop().content if draft.is_pair else None
    return with_system_prompt(tuple(turns), system_prompt) if system_prompt else tuple(turns), rejected


def judge(filters: Sequence[Filter], examples: Sequence[Example]) -> dict[int, Drop]:
    """Return why examples go, by position; what one filter drops the next ones do not look at."""
    left = list(range(len(examples)))
    drops: dict[int, Drop] = {}
    for one in filters:
        judged = one.judge([examples[i] for i in left])
        drops.update((i, drop) for i, drop in zip(left, judged, strict=True) if drop)
        left = [i for i in left if i not in drops]
    return drops
