"""Hugging Face's format: Parquet shards with a dataset card, which ``datasets.load_dataset`` opens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from tunery.core.dataset import DatasetVersion
from tunery.core.example import Example
from tunery.data.version.card import data_card
from tunery.data.writers.writer import Writer, untrained_turn

_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string()), ("weight", pa.int8())]))
_TURNS = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
_ROW = [("id", pa.string()), ("source", pa.string()), ("row", pa.int64())]
_ORIGIN = [("id", pa.string()), ("label", pa.string()), ("source", pa.string()), ("row", pa.int64())]
_CHAT_SCHEMA = pa.schema([("messages", _MESSAGES), *_ORIGIN])
_JUDGED_SCHEMA = pa.schema([("prompt", _TURNS), ("completion", _TURNS), ("label", pa.bool_()), *_ROW])
_PAIR_SCHEMA = pa.schema([("prompt", _TURNS), ("chosen", _TURNS), ("rejected", _TURNS), *_ORIGIN])


def _write(examples: Sequence[Example], version: DatasetVersion, path: Path) -> None:
    schema = _PAIR_SCHEMA if version.preference else _JUDGED_SCHEMA if version.unpaired else _CHAT_SCHEMA
    pq.write_table(pa.Table.from_pylist([*map(_row, examples)], schema=schema), path, compression="zstd")


def _row(example: Example) -> dict[str, Any]:
    origin = {
        "id": example.id,
        "label": example.label,
        "source": example.metadata["source"],
        "row": example.metadata["row"],
    }
    if example.desirable is not None:  # as TRL has unpaired preferences
        return {
            "prompt": [{"role": m.role, "content": m.content} for m in example.prompt],
            "completion": [{"role": "assistant", "content": example.reference}],
            **origin,
            "label": example.desirable,
        }
    if example.rejected is None:
        turns = [{"role": m.role, "content": m.content, "weight": m.weight} for m in example.messages]
        return {"messages": turns, **origin}
    return {
        "prompt": [{"role": m.role, "content": m.content} for m in example.prompt],
        "chosen": [{"role": "assistant", "content": example.reference}],
        "rejected": [{"role": "assistant", "content": example.rejected}],
        **origin,
    }


def _readme(version: DatasetVersion, files: Mapping[str, Sequence[str]]) -> str:
    about = {
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": list(names)} for split, names in files.items()],
            }
        ],
        "tags": ["tunery"],
    }
    front = yaml.safe_dump(about, sort_keys=False, allow_unicode=True)
    return f"---\n{front}---\n\n{data_card(version)}"


def _misfit(example: Example, version: DatasetVersion) -> str | None:
    if version.unpaired and example.desirable is None:
        return "nothing says whether its answer is desirable, and every row of such a table must"
    # Only conversations keep the weights of their turns.
    paired = example.rejected is not None or example.desirable is not None
    return untrained_turn(example, version) if paired else None


WRITER = Writer(
    title="Hugging Face's Parquet",
    ending="parquet",
    write=_write,
    misfit=_misfit,
    shard_rows=100_000,
    readme=_readme,
)
