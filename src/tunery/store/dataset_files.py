"""The tables of a dataset version: their names and columns, written and read here only."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from tunery.core.columns import Columns
from tunery.core.errors import ConfigError, NotFoundError
from tunery.core.example import REQUEST_ID, Dropped, Example
from tunery.core.splits import SplitName

MESSAGE = pa.struct(
    [
        pa.field("role", pa.string(), nullable=False),
        pa.field("content", pa.string(), nullable=False),
        pa.field("weight", pa.int8(), nullable=False),
    ]
)
MESSAGES = pa.list_(MESSAGE)
EXAMPLES = "examples.parquet"
DROPPED = "dropped.parquet"
EXAMPLE_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("messages", MESSAGES, nullable=False),
        pa.field("rejected", pa.string()),
        pa.field("desirable", pa.bool_()),
        pa.field("group", pa.string(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("metadata", pa.string(), nullable=False),  # JSON: its keys differ from recipe to recipe
    ]
)
DROPPED_SCHEMA = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
    ]
)


def open_table(
    path: Path, *, columns: list[str] | None = None, filters: list[tuple[str, str, str]] | None = None
) -> pa.Table:
    """Read a table of a dataset version.

    Raises:
        NotFoundError: The folder holds no dataset version.
        ConfigError: The table cannot be read.
    """
    if not path.is_file():
        raise NotFoundError(f"{path.parent} holds no dataset version", hint="tunery data ls")
    try:
        return pq.read_table(path, columns=columns, filters=filters)
    except (pa.ArrowException, OSError) as error:
        raise ConfigError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None


def read_examples(dataset_version: Path, split: SplitName) -> list[Example]:
    """Read one split of the dataset version in an artifact folder, in its order.

    Raises:
        NotFoundError: The folder holds no dataset version.
        ConfigError: Its table cannot be read.
    """
    table = open_table(dataset_version / EXAMPLES, filters=[("split", "=", split)])
    return [
        Example(
            id=row["id"],
            messages=tuple(row["messages"]),
            rejected=row["rejected"],
            desirable=row.get("desirable"),  # versions of before it was read have no such column
            group=row["group"],
            label=row["label"],
            metadata=json.loads(row["metadata"]),
        )
        for row in table.to_pylist()
    ]


def read_dropped(dataset_version: Path, *, per_reason: int | None = None) -> list[Dropped]:
    """Read the rows that a dataset version left out, in reading order.

    Args:
        dataset_version: Its artifact folder.
        per_reason: Keep the first so many of each reason; all when None [rows].

    Raises:
        NotFoundError: The folder holds no dataset version.
    """
    rows = [Dropped(**row) for row in open_table(dataset_version / DROPPED).to_pylist()]
    if per_reason is None:
        return rows
    seen: Counter[str] = Counter()
    kept = []
    for row in rows:
        seen[row.reason] += 1
        if seen[row.reason] <= per_reason:
            kept.append(row)
    return kept


_COLUMNS = ["id", "messages", "rejected", "label", "split", "group", "source", "row"]


def read_columns(dataset_version: Path) -> Columns:
    """Read the dataset version in an artifact folder as columns, in its order; no record is made per row.

    Raises:
        NotFoundError: The folder holds no dataset version.
        ConfigError: Its table cannot be read.
    """
    table = open_table(dataset_version / EXAMPLES, columns=[*_COLUMNS, *_later_columns(dataset_version)])
    judged = table["desirable"].to_pylist() if "desirable" in table.column_names else None
    prompts, answers = dialogues(table["messages"])
    return Columns(
        ids=table["id"].to_pylist(),
        prompts=prompts,
        answers=answers,
        rejected=table["rejected"].to_pylist(),
        labels=table["label"].to_pylist(),
        splits=table["split"].to_pylist(),
        groups=table["group"].to_pylist(),
        sources=table["source"].to_pylist(),
        rows=table["row"].to_pylist(),
        desirable=judged if judged is not None and any(one is not None for one in judged) else None,
    )


def _later_columns(dataset_version: Path) -> list[str]:
    """Return the columns of a table that versions of before they were read do not have."""
    path = dataset_version / EXAMPLES
    try:
        there = pq.read_schema(path).names if path.is_file() else []
    except (pa.ArrowException, OSError) as error:
        raise ConfigError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None
    return [name for name in ("desirable",) if name in there]


_REQUEST_ID = re.compile(rf'"{REQUEST_ID}": ?"([A-Za-z0-9_-]+)"')


def read_request_ids(dataset_version: Path) -> set[str]:
    """Read which served calls became rows of the dataset version in an artifact folder.

    Raises:
        NotFoundError: The folder holds no dataset version.
        ConfigError: Its table cannot be read.
    """
    metadata = open_table(dataset_version / EXAMPLES, columns=["metadata"])["metadata"]
    return {id for text in metadata.to_pylist() for id in _REQUEST_ID.findall(text)}


class HeldOutRow(NamedTuple):
    """A row that the model is measured on."""

    example_id: str
    split: str
    prompt: str
    """As :func:`~tunery.core.example.prompt_text` gives it."""


def read_held_out(dataset_version: Path) -> list[HeldOutRow]:
    """Read the prompts of the validation and the test split of the dataset version in an artifact folder.

    Raises:
        NotFoundError: The folder holds no dataset version.
        ConfigError: Its table cannot be read.
    """
    columns = ["id", "split", "messages"]
    table = open_table(dataset_version / EXAMPLES, columns=columns, filters=[("split", "!=", "train")])
    prompts = dialogues(table["messages"]).prompts
    return list(map(HeldOutRow, table["id"].to_pylist(), table["split"].to_pylist(), prompts))


def read_inputs(dataset_version: Path) -> list[str]:
    """Read the last user turn of every row, which ``set_input`` replaces; ordered as :func:`read_columns`.

    Raises:
        NotFoundError: The folder holds no dataset version.
    """
    messages = open_table(dataset_version / EXAMPLES, columns=["messages"])["messages"]
    return [
        next((content for role, content in reversed(turns) if role == "user"), "")
        for turns in _conversations(messages)
    ]


class Dialogues(NamedTuple):
    """Conversations as two texts each."""

    prompts: list[str]
    """As :func:`~tunery.core.example.prompt_text` gives them."""
    answers: list[str]
    """The last turn of each."""


def dialogues(messages: pa.ChunkedArray) -> Dialogues:
    """Return prompts and answers of a column of :data:`MESSAGES`."""
    prompts, answers = [], []
    for turns in _conversations(messages):
        prompts.append("\n".join(content for role, content in turns[:-1] if role != "system"))
        answers.append(turns[-1][1])
    return Dialogues(prompts, answers)


def _conversations(messages: pa.ChunkedArray) -> Iterator[list[tuple[str, str]]]:
    """Yield role and content of each conversation's turns, cut out of flat lists: no turn becomes a dict."""
    for chunk in messages.chunks:
        flat = chunk.flatten()
        turns = zip(flat.field("role").to_pylist(), flat.field("content").to_pylist(), strict=True)
        for length in chunk.value_lengths().to_pylist():
            yield list(islice(turns, length))


def write_examples(dataset_version: Path, parts: Iterable[Mapping[str, Any]]) -> None:
    """Write the examples of a dataset version, one part in memory at a time.

    Args:
        dataset_version: Its folder.
        parts: Each of :data:`EXAMPLE_SCHEMA`'s columns as a list or an array.
    """
    with pq.ParquetWriter(dataset_version / EXAMPLES, EXAMPLE_SCHEMA, compression="zstd") as writer:
        for part in parts:
            writer.write_batch(pa.RecordBatch.from_pydict(part, schema=EXAMPLE_SCHEMA))


def write_dropped(dataset_version: Path, parts: Iterable[Sequence[Dropped]]) -> None:
    """Write the rows that a dataset version left out, one part in memory at a time."""
    with pq.ParquetWriter(dataset_version / DROPPED, DROPPED_SCHEMA, compression="zstd") as writer:
        for part in parts:
            rows = [dropped.model_dump() for dropped in part]
            writer.write_table(pa.Table.from_pylist(rows, schema=DROPPED_SCHEMA))


def write_parquet(rows: Sequence[Mapping[str, Any]], path: Path, schema: pa.Schema) -> None:
    """Write ``rows`` as a zstd-compressed Parquet file of exactly this schema."""
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for start in range(0, len(rows), 50_000):
            writer.write_table(pa.Table.from_pylist(list(rows[start : start + 50_000]), schema=schema))
        if not rows:
            writer.write_table(schema.empty_table())
