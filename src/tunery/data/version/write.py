"""What a dataset version holds: the rows that stay, and the records of those that went."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tunery.core.example import Drop, Dropped
from tunery.core.ids import canonical_json
from tunery.core.splits import SPLITS
from tunery.data.decisions import Curated
from tunery.data.rows.dropped import dropped_example, masked_drops
from tunery.data.rows.table import decode_rows
from tunery.store.dataset_files import write_dropped, write_examples

_PART_ROWS = 5000


def write_version(curated: Curated, folder: Path) -> str:
    """Write the tables of a dataset version, a chunk of rows in memory at a time.

    Returns:
        SHA-256 over the ordered examples, their splits, groups and classes, the same on every machine.
    """
    digest = hashlib.sha256()
    write_examples(folder, _examples(curated, digest))
    write_dropped(folder, _dropped(curated))
    return digest.hexdigest()


def _examples(curated: Curated, digest: hashlib._Hash) -> Iterator[dict[str, Any]]:
    """Yield the rows that stay, and take each one into the digest."""
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
        splits = names[curated.splits[low:high]].tolist()
        groups = [heads[i] for i in back[low:high].tolist()]
        for split, group, label, sha256 in zip(
            splits, groups, labels[low:high], mine["sha256"].to_pylist(), strict=True
        ):
            digest.update(f"{split}\t{group}\t{canonical_json(label)}\t{sha256.hex()}\n".encode())
        yield {
            "id": ids[low:high],
            "split": splits,
            "source": [curated.config.sources[source].path] * (high - low),
            "group": groups,
            "label": labels[low:high],
            **{name: mine[name] for name in ("row", "messages", "rejected", "desirable", "metadata")},
        }


def _dropped(curated: Curated) -> Iterator[list[Dropped]]:
    """Yield removed rows by source as the recipe lists them, in the order of their files."""
    unread: dict[str, list[Dropped]] = {}
    for dropped in curated.unread:
        unread.setdefault(dropped.source, []).append(dropped)
    for position, settings in enumerate(curated.config.sources):
        found = sorted(unread.pop(settings.path, []), key=_row)
        gone = (
            _gone(curated, start, rows) for source, start, rows in curated.rows.chunks() if source == position
        )
        in_order = heapq.merge(found, chain.from_iterable(gone), key=_row)
        while part := [*islice(in_order, _PART_ROWS)]:
            yield part


def _row(dropped: Dropped) -> int:
    return dropped.row


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
    positions = sorted(drops)
    records = [
        dropped_example(e, drops[i])
        for i, e in zip(positions, decode_rows(rows.take(pa.array(positions, pa.int64()))), strict=True)
    ]
    return masked_drops(records, curated.config.clean.pii_dropped)
