"""Groups of rows that must share a split."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pyarrow.compute as pc

from tunery.data.decisions import Curated
from tunery.data.split.assign import by_hash
from tunery.text.minhash import Integers, Pairs, first_of_key, join


def group_kept(curated: Curated, same_prompt: Integers, near: Pairs) -> None:
    """Find which of the rows left must share a split.

    Args:
        curated: Rows; its ``groups`` and ``apart`` are set.
        same_prompt: Pairs of positions with equal prompts, shape ``(pairs, 2)``.
        near: Similar pairs, by position.
    """
    # Rows go by their place among those that are left.
    place = np.full(len(curated.rows), -1, dtype=np.int64)
    place[curated.kept] = np.arange(len(curated.kept))
    links = place[same_prompt]
    near = Pairs(place[near.first], place[near.second], near.similarity)
    tied = _tied(curated)
    count, strict = len(curated.kept), curated.config.clean.near_threshold
    if by_hash(curated.config.split):
        same = Pairs(links[:, 0], links[:, 1], np.ones(len(links)))
        every = Pairs(*(np.concatenate(columns) for columns in zip(same, near, strict=True)))
        roots, curated.apart = follow_earliest(count, tied, every, largest=_largest_group, strict=strict)
    else:
        firm = np.concatenate([links, tied])
        roots = group_rows(count, firm, near, largest=_largest_group(count), strict=strict)
    curated.groups = curated.kept[roots]
    curated.apart = Pairs(
        curated.kept[curated.apart.first], curated.kept[curated.apart.second], curated.apart.similarity
    )


def _tied(curated: Curated) -> Integers:
    """Return pairs, by place among the kept rows, that tie together the rows of each mapped group."""
    keys = curated.rows.column("group_keys").take(curated.kept).combine_chunks()
    rows, values = pc.list_parent_indices(keys).to_numpy(), pc.list_flatten(keys)
    if not len(values):
        return np.empty((0, 2), dtype=np.int64)
    codes = values.dictionary_encode().indices.to_numpy()
    return np.stack([rows[first_of_key(codes.astype(np.uint64))], rows], axis=1)


def group_rows(count: int, firm: Integers, near: Pairs, *, largest: int, strict: float) -> Integers:
    """Return for each row the first row of the group it shares a split with: all that hangs together.

    Similarity is not transitive: a chain of rewordings can tie half a dataset of one template together, and
    then nothing could be held out. Inside a group of more than ``largest`` rows only ``strict`` pairs hold.

    Args:
        count: Rows.
        firm: Pairs that must stay together whatever the group's size, shape ``(pairs, 2)``.
        near: Similar pairs.
        largest: Group size from which similarity must be strict [rows].
        strict: Similarity that holds in large groups too.
    """
    roots = join(count, np.concatenate([firm, np.stack([near.first, near.second], axis=1)]))
    sizes = np.bincount(roots, minlength=count)
    held = near.where((sizes[roots[near.first]] <= largest) | (near.similarity >= strict))
    return join(count, np.concatenate([firm, np.stack([held.first, held.second], axis=1)]))


def follow_earliest(
    count: int, firm: Integers, near: Pairs, *, largest: Callable[[int], int], strict: float
) -> tuple[Integers, Pairs]:
    """Return groups that later rows cannot change, and the near pairs that hold.

    Rows that ``firm`` ties together are one group. A group joins the one of the earliest row that its own
    first row resembles. Nothing here depends on rows further down, so rows added at the end leave earlier
    rows where they were; a row that resembles two groups is in one of them, and if they end up in different
    splits it must go.

    Args:
        count: Rows.
        firm: As in :func:`group_rows`.
        near: Similar pairs; the first of each lies before the second.
        largest: Number of rows so far to the size that a group may have by then before only ``strict`` pairs
            hold a further row to it [rows].
        strict: As in :func:`group_rows`.

    Returns:
        For each row the first row of its group; the pairs of which no two rows may be in different splits.
    """
    tied = join(count, firm)
    group, sizes = tied.tolist(), [1] * count
    order = np.lexsort((near.first, near.second))
    seconds, starts = np.unique(near.second[order], return_index=True)
    bounds = [*starts.tolist(), len(order)]
    candidates = dict(zip(seconds.tolist(), pairwise(bounds), strict=True))
    firsts, alikes = near.first[order].tolist(), near.similarity[order].tolist()
    followers = np.flatnonzero(tied != np.arange(count)).tolist()
    holds = np.zeros(len(order), dtype=bool)
    for row in sorted({*candidates, *followers}):
        most = largest(row + 1)
        joined = group[group[row]]  # of the row it is tied to, or itself
        for at in range(*candidates.get(row, (0, 0))):
            other = group[firsts[at]]
            if sizes[other] > most and alikes[at] < strict:
                continue
            holds[at] = True
            if joined == row:
                joined = other
        group[row] = joined
        if joined != row:
            sizes[joined] += 1
    return np.array(group, dtype=np.int64), near.where(np.isin(np.arange(len(order)), order[holds]))


_LARGEST_GROUP = 8
_LARGEST_GROUP_SHARE = 50
"""A similarity group may hold one row in fifty (eight at least) before only strict pairs hold it together."""


def _largest_group(rows: int) -> int:
    """Return the size from which only strict pairs hold a group of so many rows together [rows]."""
    return max(_LARGEST_GROUP, rows // _LARGEST_GROUP_SHARE)
