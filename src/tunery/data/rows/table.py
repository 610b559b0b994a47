"""Rows as columns: what curation keeps of each, and the keys that repeats are found by."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from tunery.core.example import (
    SPLIT_HINT,
    Drop,
    Dropped,
    Example,
    Message,
    messages_text,
    prompt_text,
    short_id,
    without_system,
)
from tunery.core.ids import canonical_json
from tunery.data.rows.dropped import dropped_messages, masked_drops
from tunery.data.rows.row import CleanRow
from tunery.store.dataset_files import MESSAGE, MESSAGES
from tunery.text.normalise import fingerprint, hash64
from tunery.text.pii.types import PiiType

ROWS_SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("messages", MESSAGES, nullable=False),
        pa.field("rejected", pa.string()),
        pa.field("group_keys", pa.list_(pa.string()), nullable=False),
        pa.field("metadata", pa.string(), nullable=False),
        pa.field("hinted", pa.bool_(), nullable=False),  # asks for the train split
        pa.field("sha256", pa.binary(32), nullable=False),  # of the content
        pa.field("sampling_key", pa.binary(16)),  # where the source is limited
        # What repeats are found by.
        pa.field("text", pa.string(), nullable=False),  # fingerprint of the prompt
        pa.field("text_key", pa.uint64(), nullable=False),
        pa.field("prompt_key", pa.uint64(), nullable=False),  # of roles and fingerprints
        pa.field("row_key", pa.uint64(), nullable=False),  # of prompt_key and both answers
        pa.field("answer_key", pa.uint64(), nullable=False),
        pa.field("numbers_key", pa.uint64(), nullable=False),
        # What a group is named after: the prompt's key, as it was before any edit.
        pa.field("name_key", pa.uint64(), nullable=False),
        pa.field("turns", pa.int32(), nullable=False),
        # Set where a filter removed the row.
        pa.field("reason", pa.string()),
        pa.field("detail", pa.string()),
    ]
)
_NUMBER = re.compile(r"\d+")


def encode_rows(found: Sequence[CleanRow], drops: Mapping[int, Drop]) -> pa.RecordBatch:
    """Return examples as columns, with the keys that repeats are found by.

    Args:
        found: With ``source`` and ``row`` in the examples' metadata.
        drops: Position to why a filter removes that row.
    """
    examples = [row.example for row in found]
    keys = [_Keys.of(e) for e in examples]
    removed = [drops.get(i) for i in range(len(examples))]
    columns: list[Any] = [
        pa.array([e.metadata["row"] for e in examples], pa.int64()),
        _message_lists(examples),
        pa.array([e.rejected for e in examples], pa.string()),
        pa.array([row.group_keys for row in found], pa.list_(pa.string())),
        pa.array([canonical_json(dict(e.metadata)) for e in examples], pa.string()),
        pa.array([SPLIT_HINT in e.metadata for e in examples], pa.bool_()),
        pa.array([bytes.fromhex(row.sha256) for row in found], pa.binary(32)),
        pa.array([row.sampling_key and bytes.fromhex(row.sampling_key) for row in found], pa.binary(16)),
        pa.array([k.text for k in keys], pa.string()),
        *(pa.array([k[i] for k in keys], pa.uint64()) for i in range(1, 6)),
        pa.array(
            [k.text_key if r.name_key is None else r.name_key for k, r in zip(keys, found, strict=True)],
            pa.uint64(),
        ),
        pa.array([len(e.messages) for e in examples], pa.int32()),
        pa.array([drop and drop.reason for drop in removed], pa.string()),
        pa.array([drop and drop.detail for drop in removed], pa.string()),
    ]
    columns = [c.cast(f.type) for c, f in zip(columns, ROWS_SCHEMA, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=ROWS_SCHEMA)


class _Keys(NamedTuple):
    text: str
    text_key: int
    prompt_key: int
    row_key: int
    answer_key: int
    numbers_key: int

    @classmethod
    def of(cls, example: Example) -> _Keys:
        spoken = without_system(example.prompt)
        text = fingerprint(prompt_text(example))
        if len(example.messages) - len(spoken) == 1 and len(spoken) == 1:
            prompt = f"{spoken[0].role}:{text}"
        else:
            prompt = "\n".join(f"{m.role}:{fingerprint(m.content)}" for m in example.prompt)
        numbers = sorted(_NUMBER.findall(messages_text(example.messages)))
        answers = (example.reference, example.rejected or "")
        return cls(
            text,
            hash64(text),
            hash64(prompt),
            hash64(prompt, *answers),
            hash64(*answers),
            hash64(*numbers) if numbers else 0,
        )


def _message_lists(examples: Sequence[Example]) -> pa.Array:
    turns = [m for e in examples for m in e.messages]
    ends = [0]
    for e in examples:
        ends.append(ends[-1] + len(e.messages))
    fields = [
        pa.array([m.role for m in turns], pa.string()),
        pa.array([m.content for m in turns], pa.string()),
        pa.array([m.weight for m in turns], pa.int8()),
    ]
    structs = pa.StructArray.from_arrays(fields, fields=list(MESSAGE))
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), structs).cast(MESSAGES)


def decode_rows(rows: pa.RecordBatch) -> list[Example]:
    """Return the examples of a chunk."""
    columns = zip(
        *(rows[name].to_pylist() for name in ("sha256", "messages", "rejected", "metadata")), strict=True
    )
    examples = []
    for sha256, messages, rejected, metadata in columns:
        identity = short_id(sha256.hex())
        turns = tuple(Message(**m) for m in messages)
        about = json.loads(metadata)
        examples.append(
            Example(id=identity, messages=turns, rejected=rejected, group=identity, metadata=about)
        )
    return examples


def decode_clean(rows: pa.RecordBatch) -> list[CleanRow]:
    """Return the rows of a chunk as they were encoded."""
    names = ("sha256", "group_keys", "sampling_key", "name_key")
    columns = zip(*(rows[name].to_pylist() for name in names), strict=True)
    return [
        CleanRow(example, sha256.hex(), groups, key and key.hex(), name)
        for example, (sha256, groups, key, name) in zip(decode_rows(rows), columns, strict=True)
    ]


def dropped_texts(rows: pa.RecordBatch, drops: dict[int, Drop], types: Sequence[PiiType]) -> list[Dropped]:
    """Return the records of removed rows, by position in the chunk; personal data of ``types`` is masked."""
    positions = sorted(drops)
    records = [
        dropped_messages(e.metadata["source"], e.metadata["row"], drops[i], e.messages, e.rejected)
        for i, e in zip(positions, decode_rows(rows.take(pa.array(positions, pa.int64()))), strict=True)
    ]
    return masked_drops(records, types)
