"""Parquet: rows read batch by batch, and typed tables written."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tunery.core.errors import ConfigError
from tunery.data.lines import too_large
from tunery.data.rows import RawRow

_BATCH_ROWS = 1024


def read_parquet(path: Path, name: str, *, max_row_bytes: int) -> Iterator[RawRow]:
    """Yield the rows of a Parquet file.

    Raises:
        ConfigError: Not Parquet, a column named twice, or a row over ``max_row_bytes``.
    """
    try:
        with pq.ParquetFile(path) as file:
            twice = [n for n, c in Counter(file.schema_arrow.names).items() if c > 1]
            if twice:
                raise ConfigError(f"{name}: column named twice: {', '.join(map(repr, twice))}")
            number = 0
            for batch in file.iter_batches(batch_size=_BATCH_ROWS):
                for values in batch.to_pylist():
                    number += 1
                    if _size(values) > max_row_bytes:
                        raise too_large(name, f"row {number}", max_row_bytes)
                    yield RawRow(number, {k: _missing_as_none(v) for k, v in values.items()})
    except (pa.ArrowException, OSError) as error:
        raise ConfigError(f"{name}: not a readable Parquet file: {str(error).splitlines()[0]}") from None


def _size(values: Mapping[str, Any]) -> int:
    return sum(len(v) if isinstance(v, str) else 8 for v in values.values())


def _missing_as_none(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def write_parquet(rows: Sequence[Mapping[str, Any]], path: Path, schema: pa.Schema) -> None:
    """Write ``rows`` as a zstd-compressed Parquet file of exactly this schema."""
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for start in range(0, len(rows), 50_000):
            writer.write_table(pa.Table.from_pylist(list(rows[start : start + 50_000]), schema=schema))
        if not rows:
            writer.write_table(schema.empty_table())
