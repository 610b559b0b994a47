"""Tables of a dataset version: examples and dropped rows as typed Parquet."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tunery.core.errors import ConfigError, NotFoundError
from tunery.core.example import Dropped, Example, SplitName
from tunery.core.ids import canonical_json
from tunery.data.parquet import write_parquet

EXAMPLES = "examples.parquet"
DROPPED = "dropped.parquet"

_MESSAGE = pa.struct(
    [
        pa.field("role", pa.string(), nullable=False),
        pa.field("content", pa.string(), nullable=False),
        pa.field("weight", pa.int8(), nullable=False),
    ]
)
EXAMPLE_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("messages", pa.list_(_MESSAGE), nullable=False),
        pa.field("rejected", pa.string()),
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


def write_examples(examples: Sequence[Example], splits: Sequence[SplitName], folder: Path) -> None:
    """Write ``examples.parquet``; one row per example, in order."""
    rows = [
        {
            "id": e.id,
            "split": split,
            "source": e.metadata["source"],
            "row": e.metadata["row"],
            "messages": [{"role": m.role, "content": m.content, "weight": m.weight} for m in e.messages],
            "rejected": e.rejected,
            "group": e.group,
            "label": e.label,
            "metadata": canonical_json(dict(e.metadata)),
        }
        for e, split in zip(examples, splits, strict=True)
    ]
    write_parquet(rows, folder / EXAMPLES, EXAMPLE_SCHEMA)


def write_dropped(dropped: Sequence[Dropped], folder: Path) -> None:
    """Write ``dropped.parquet``: every removed row with its reason."""
    write_parquet([d.model_dump() for d in dropped], folder / DROPPED, DROPPED_SCHEMA)


def read_examples(dataset_version: Path, split: SplitName) -> list[Example]:
    """Read one split of a dataset version, in its order.

    Args:
        dataset_version: The version's artifact folder.
        split: Which rows.

    Raises:
        NotFoundError: The folder holds no dataset version.
        ConfigError: Its table cannot be read.
    """
    path = dataset_version / EXAMPLES
    if not path.is_file():
        raise NotFoundError(f"{dataset_version} holds no dataset version", hint="tunery data ls")
    try:
        table = pq.read_table(path, filters=[("split", "=", split)])
    except (pa.ArrowException, OSError) as error:
        raise ConfigError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None
    return [
        Example(
            id=row["id"],
            messages=tuple(row["messages"]),
            rejected=row["rejected"],
            group=row["group"],
            label=row["label"],
            metadata=json.loads(row["metadata"]),
        )
        for row in table.to_pylist()
    ]


def read_dropped(dataset_version: Path, *, per_reason: int | None = None) -> list[Dropped]:
    """Read the rows that a dataset version left out, in reading order.

    Args:
        dataset_version: Its folder.
        per_reason: Keep the first so many of each reason; all when None [rows].

    Raises:
        NotFoundError: The folder holds no dataset version.
    """
    path = dataset_version / DROPPED
    if not path.is_file():
        raise NotFoundError(f"{dataset_version} holds no dataset version", hint="tunery data ls")
    rows = [Dropped(**row) for row in pq.read_table(path).to_pylist()]
    if per_reason is None:
        return rows
    seen: Counter[str] = Counter()
    kept = []
    for row in rows:
        seen[row.reason] += 1
        if seen[row.reason] <= per_reason:
            kept.append(row)
    return kept
