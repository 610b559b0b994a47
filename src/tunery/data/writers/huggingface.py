"""Hugging Face's format: Parquet shards with a dataset card."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from tunery.core.dataset import DatasetVersion
from tunery.core.example import Example, SplitName
from tunery.data.version.card import data_card
from tunery.data.writers.openai import _turn

_SHARD_ROWS = 100_000
_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string()), ("weight", pa.int8())]))
_TURNS = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
_ORIGIN = [("id", pa.string()), ("label", pa.string()), ("source", pa.string()), ("row", pa.int64())]
_CHAT_SCHEMA = pa.schema([("messages", _MESSAGES), *_ORIGIN])
_PAIR_SCHEMA = pa.schema([("prompt", _TURNS), ("chosen", _TURNS), ("rejected", _TURNS), *_ORIGIN])


def _write_shards(
    examples: Sequence[Example], version: DatasetVersion, folder: Path, split: SplitName
) -> tuple[Path, ...]:
    folder.mkdir(exist_ok=True)
    schema = _PAIR_SCHEMA if version.preference else _CHAT_SCHEMA
    count = -(-len(examples) // _SHARD_ROWS)
    files = []
    for number, shard in enumerate(_shards(examples)):
        path = folder / f"{split}-{number:05d}-of-{count:05d}.parquet"
        pq.write_table(
            pa.Table.from_pylist([_hf_row(e) for e in shard], schema=schema), path, compression="zstd"
        )
        files.append(path)
    return tuple(files)


def _shards(examples: Sequence[Example]) -> Iterator[list[Example]]:
    rest = iter(examples)
    while shard := list(islice(rest, _SHARD_ROWS)):
        yield shard


def _hf_row(example: Example) -> dict[str, Any]:
    origin = {
        "id": example.id,
        "label": example.label,
        "source": example.metadata["source"],
        "row": example.metadata["row"],
    }
    if example.rejected is None:
        turns = [{"role": m.role, "content": m.content, "weight": m.weight} for m in example.messages]
        return {"messages": turns, **origin}
    return {
        "prompt": [_turn(m.role, m.content) for m in example.prompt],
        "chosen": [_turn("assistant", example.reference)],
        "rejected": [_turn("assistant", example.rejected)],
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
