"""Tables of a dataset version: examples and dropped rows as typed Parquet."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tunery.core.example import SPLITS, Drop, Dropped
from tunery.core.ids import canonical_json
from tunery.data.decisions import Curated
from tunery.data.rows.table import dropped_texts
from tunery.store.dataset_files import DROPPED, DROPPED_SCHEMA, EXAMPLE_SCHEMA, EXAMPLES


def write_version(curated: Curated, folder: Path) -> str:
    """Write ``examples.parquet`` and ``dropped.parquet``, a chunk of rows in memory at a time.

    Returns:
        SHA-256 over the ordered examples, their splits, groups and classes, the same on every machine.
    """
    digest = hashlib.sha256()
    with pq.ParquetWriter(folder / EXAMPLES, EXAMPLE_SCHEMA, compression="zstd") as writer:
        for batch, contents in _example_batches(curated):
            writer.write_batch(batch)
            told = zip(*(batch[n].to_pylist() for n in ("split", "group", "label")), contents, strict=True)
            for split, group, label, sha256 in told:
                digest.update(f"{split}\t{group}\t{canonical_json(label)}\t{sha256.hex()}\n".encode())
    with pq.ParquetWriter(folder / DROPPED, DROPPED_SCHEMA, compression="zstd") as writer:
        for table in _dropped_tables(curated):
            writer.write_table(table)
    return digest.hexdigest()


def _example_batches(curated: Curated) -> Iterator[tuple[pa.RecordBatch, list[bytes]]]:
    ids, labels, kept = curated.ids(), curated.row_labels(), curated.kept
    # Groups are named after their first row's content, which may itself have gone as a repeat.
    roots, back = np.unique(curated.groups, return_inverse=True)
    heads = [f"ex-{sha256.hex()[:16]}" for sha256 in curated.rows.column("sha256").take(roots).to_pylist()]
    names = np.asarray(SPLITS)
    for source, start, rows in curated.rows.chunks():
        low, high = np.searchsorted(kept, [start, start + rows.num_rows])
        if low == high:
            continue
        mine = rows.take(pa.array(kept[low:high] - start))
        columns = {
            "id": pa.array(ids[low:high]),
            "split": pa.array(names[curated.splits[low:high]].tolist(), pa.string()),
            "source": pa.array([curated.config.sources[source].path] * (high - low)),
            "group": pa.array([heads[i] for i in back[low:high].tolist()]),
            "label": pa.array(labels[low:high], pa.string()),
            **{name: mine[name] for name in ("row", "messages", "rejected", "metadata")},
        }
        arrays = [columns[field.name] for field in EXAMPLE_SCHEMA]
        yield pa.RecordBatch.from_arrays(arrays, schema=EXAMPLE_SCHEMA), mine["sha256"].to_pylist()


def _dropped_tables(curated: Curated) -> Iterator[pa.Table]:
    """Yield removed rows by source as the recipe lists them, in the order of their files."""
    unread: dict[str, list[Dropped]] = {}
    for dropped in curated.unread:
        unread.setdefault(dropped.source, []).append(dropped)
    for position, settings in enumerate(curated.config.sources):
        found = unread.pop(settings.path, [])
        found.sort(key=lambda d: d.row)
        at = 0
        for source, start, rows in curated.rows.chunks():
            if source != position:
                continue
            gone = _gone(curated, start, rows)
            if not gone:
                continue
            last = gone[-1].row
            end = at
            while end < len(found) and found[end].row < last:
                end += 1
            yield _table(sorted([*found[at:end], *gone], key=lambda d: d.row))
            at = end
        if at < len(found):
            yield _table(found[at:])


def _gone(curated: Curated, start: int, rows: pa.RecordBatch) -> list[Dropped]:
    """Return the records of a chunk's removed rows: those that a filter named, and those removed later."""
    drops = {
        i: Drop(reason, detail)
        for i, (reason, detail) in enumerate(
            zip(rows["reason"].to_pylist(), rows["detail"].to_pylist(), strict=True)
        )
        if reason is not None
    }
    drops.update(
        (i - start, curated.drops[i]) for i in range(start, start + rows.num_rows) if i in curated.drops
    )
    return dropped_texts(rows, drops, curated.config.clean.pii_dropped)


def _table(dropped: Sequence[Dropped]) -> pa.Table:
    return pa.Table.from_pylist([d.model_dump() for d in dropped], schema=DROPPED_SCHEMA)
