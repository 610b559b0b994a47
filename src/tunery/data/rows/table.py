"""Rows of a dataset version in the making: the columns kept of each, and the file that they lie in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tunery.core.errors import ResourceError
from tunery.core.example import (
    SPLIT_HINT,
    Drop,
    Example,
    Message,
    messages_text,
    prompt_text,
    short_id,
)
from tunery.core.ids import canonical_json
from tunery.data.rows.identity import wide_prompt
from tunery.store.dataset_files import MESSAGE, MESSAGES, dialogues
from tunery.text.normalise import hash64
from tunery.text.sameness import words_alone

ROWS_SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("messages", MESSAGES, nullable=False),
        pa.field("rejected", pa.string()),
        pa.field("desirable", pa.bool_()),
        pa.field("group_keys", pa.list_(pa.string()), nullable=False),
        pa.field("metadata", pa.string(), nullable=False),
        pa.field("hinted", pa.bool_(), nullable=False),  # asks for the train split
        pa.field("sha256", pa.binary(32), nullable=False),  # of the content
        pa.field("sampling_key", pa.binary(16)),  # where the source is limited
        # What repeats are found by.
        pa.field("text", pa.string(), nullable=False),  # the words alone of the prompt
        pa.field("text_key", pa.uint64(), nullable=False),
        pa.field("prompt_key", pa.uint64(), nullable=False),  # of roles and words alone
        pa.field("row_key", pa.uint64(), nullable=False),  # of prompt_key and what answer_key is of
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
CARRIED = ("group_keys", "sampling_key", "name_key")
"""Columns that are known before a row is an example, and that editing it leaves as they are."""
Integers = npt.NDArray[np.int64]
_NUMBER = re.compile(r"\d+")


def encode_rows(
    examples: Sequence[Example], hashes: Sequence[str], drops: Mapping[int, Drop], carried: Mapping[str, Any]
) -> pa.RecordBatch:
    """Return examples as columns, with the keys that repeats are found by.

    Args:
        examples: With ``source`` and ``row`` in their metadata.
        hashes: SHA-256 of each one's content.
        drops: Position to why a filter removes that row.
        carried: Columns that examples do not hold, :data:`CARRIED`; ``name_key`` only after edits.
    """
    texts = [words_alone(prompt_text(e)) for e in examples]
    text_keys = [hash64(text) for text in texts]
    prompts = [wide_prompt(e, text) for e, text in zip(examples, texts, strict=True)]
    answers = [e.answers for e in examples]
    numbers = [sorted(_NUMBER.findall(messages_text(e.messages))) for e in examples]
    removed = [drops.get(i) for i in range(len(examples))]
    columns = {
        "row": [e.metadata["row"] for e in examples],
        "messages": _message_lists(examples),
        "rejected": [e.rejected for e in examples],
        "desirable": [e.desirable for e in examples],
        "metadata": [canonical_json(dict(e.metadata)) for e in examples],
        "hinted": [SPLIT_HINT in e.metadata for e in examples],
        "sha256": [bytes.fromhex(sha256) for sha256 in hashes],
        "text": texts,
        "text_key": text_keys,
        "prompt_key": [hash64(prompt) for prompt in prompts],
        "row_key": [hash64(prompt, *mine) for prompt, mine in zip(prompts, answers, strict=True)],
        "answer_key": [hash64(*mine) for mine in answers],
        "numbers_key": [hash64(*found) if found else 0 for found in numbers],
        "name_key": text_keys,
        "turns": [len(e.messages) for e in examples],
        "reason": [drop and drop.reason for drop in removed],
        "detail": [drop and drop.detail for drop in removed],
        **carried,
    }
    return pa.RecordBatch.from_pydict(columns, schema=ROWS_SCHEMA)


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
    names = ("sha256", "messages", "rejected", "desirable", "metadata")
    columns = zip(*(rows[name].to_pylist() for name in names), strict=True)
    examples = []
    for sha256, messages, rejected, desirable, metadata in columns:
        identity = short_id(sha256.hex())
        turns = tuple(Message(**m) for m in messages)
        about = json.loads(metadata)
        examples.append(
            Example(
                id=identity,
                messages=turns,
                rejected=rejected,
                desirable=desirable,
                group=identity,
                metadata=about,
            )
        )
    return examples


class RowTable:
    """Rows on disk, so that memory grows little with text: appended in chunks first, then read by column."""

    def __init__(self, path: Path) -> None:
        """Begin an empty file at ``path``; it is gone when the ``with`` block ends, or the process."""
        self._path = path
        self._sink: Any = None
        self._writer: Any = None
        self._reader: Any = None
        self._lengths: list[int] = []
        self._sources: list[int] = []
        self._starts: Integers = np.zeros(1, dtype=np.int64)
        self._numbers: dict[str, npt.NDArray[Any]] = {}

    def __enter__(self) -> Self:
        try:
            self._sink = pa.OSFile(str(self._path), "wb")
            self._writer = pa.ipc.new_file(self._sink, ROWS_SCHEMA)
        except OSError as error:
            raise ResourceError(f"cannot write {self._path}: {error.strerror}") from None
        return self

    def __exit__(self, *_: object) -> None:
        self._close()
        self._reader = None
        self._path.unlink(missing_ok=True)

    def _close(self) -> None:
        for part in (self._writer, self._sink):
            if part is not None:
                part.close()
        self._writer = self._sink = None

    def add(self, rows: pa.RecordBatch, source: int) -> None:
        """Append a chunk.

        Args:
            rows: Of :data:`ROWS_SCHEMA`.
            source: Position of its source among the recipe's.
        """
        try:
            self._writer.write_batch(rows)
        except OSError as error:
            raise ResourceError(
                f"cannot write {self._path}: {error.strerror}", hint="free disk space"
            ) from None
        self._lengths.append(rows.num_rows)
        self._sources.append(source)

    def finish(self) -> None:
        """Go over from writing to reading."""
        self._close()
        self._reader = pa.ipc.open_file(pa.memory_map(str(self._path)))
        self._starts = np.concatenate([[0], np.cumsum(self._lengths, dtype=np.int64)]).astype(np.int64)

    def __len__(self) -> int:
        """Return the number of rows."""
        return sum(self._lengths)

    @cached_property
    def sources(self) -> npt.NDArray[np.int32]:
        """Position of each row's source among the recipe's, shape ``(rows,)``."""
        return np.repeat(np.asarray(self._sources, dtype=np.int32), self._lengths)

    def chunks(self) -> Iterator[tuple[int, int, pa.RecordBatch]]:
        """Yield each chunk with the position of its source and of its first row."""
        for i, source in enumerate(self._sources):
            yield source, int(self._starts[i]), self._reader.get_batch(i)

    def column(self, name: str) -> pa.ChunkedArray:
        """Return one column of all rows."""
        return pa.chunked_array([rows[name] for _, _, rows in self.chunks()], ROWS_SCHEMA.field(name).type)

    def numbers(self, name: str) -> npt.NDArray[Any]:
        """Return one column of numbers or truth values, shape ``(rows,)``; it stays in memory."""
        if name not in self._numbers:
            self._numbers[name] = np.asarray(self.column(name).to_numpy())
        return self._numbers[name]

    def column_at(self, name: str, positions: Integers) -> pa.ChunkedArray:
        """Return one column at ascending positions; of a column of texts no more than that is copied."""
        parts = [rows[name].take(inside) for rows, inside in self._parts(positions)]
        return pa.chunked_array(parts, ROWS_SCHEMA.field(name).type)

    def examples(self, positions: Iterable[int]) -> list[Example]:
        """Return the examples at ascending positions."""
        wanted = np.asarray(list(positions), dtype=np.int64)
        return [e for rows, inside in self._parts(wanted) for e in decode_rows(rows.take(inside))]

    def references(self, positions: Integers) -> list[str]:
        """Return the answers at the given positions, in any order."""
        order = np.argsort(positions, kind="stable")
        answers = dialogues(self.column_at("messages", positions[order])).answers
        back = np.empty(len(order), dtype=np.int64)
        back[order] = np.arange(len(order))
        return [answers[i] for i in back.tolist()]

    def texts(self, positions: Integers) -> Iterator[list[str]]:
        """Yield the words alone at ascending positions, a chunk at a time."""
        for rows, inside in self._parts(positions):
            yield rows["text"].take(inside).to_pylist()

    def _parts(self, positions: Integers) -> Iterator[tuple[pa.RecordBatch, pa.Array]]:
        """Yield the chunks that hold any of some ascending positions, and where in the chunk they are."""
        bounds = np.searchsorted(positions, self._starts)
        for i in np.flatnonzero(np.diff(bounds)).tolist():
            inside = positions[bounds[i] : bounds[i + 1]] - self._starts[i]
            yield self._reader.get_batch(i), pa.array(inside)
