"""Sequences as a tree of their common beginnings: what several begin with stands there once.

A node holds tokens; whoever goes on differently from there is a child of it. Nodes lie in depth-first order,
so that everything that goes on from a node lies right behind it, without a gap. Rows of one task share
instructions, turns of one conversation share what came before, two answers share their prompt, and equal
sequences share everything.

Source:
    Prefix sharing of preference pairs: arXiv 2410.20305; trees of any depth are its recursion.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import NamedTuple

LEAST_SAVED = 8
"""Tokens that a node must save to be worth one of its own: parts of a sequence cost more than whole ones
[count]."""

Ids = Sequence[int]


class Node(NamedTuple):
    """A stretch of tokens that the same sequences go through."""

    begin: int
    end: int
    """Its tokens lie at ``begin`` to ``end`` of the tree."""
    reach: int
    """Where the last token that goes on from it ends; ``end`` for a leaf."""
    parent: int | None
    """Index of the node that it goes on from."""
    depth: int
    """Tokens before it in each of its sequences [count]."""


class TokenTree(NamedTuple):
    """Sequences laid out as one."""

    nodes: tuple[Node, ...]
    """In depth-first order."""
    ids: tuple[int, ...]
    """Token of each place of the tree."""
    leaves: tuple[int, ...]
    """Node that each sequence ends with, shape ``(sequences,)``."""

    def path(self, sequence: int) -> list[Node]:
        """Return the nodes that a sequence goes through, the first one first."""
        found, at = [], self.leaves[sequence]
        while True:
            node = self.nodes[at]
            found.append(node)
            if node.parent is None:
                return found[::-1]
            at = node.parent

    def places(self, sequence: int) -> list[int]:
        """Return the place in the tree of each token of a sequence."""
        return [place for node in self.path(sequence) for place in range(node.begin, node.end)]

    @property
    def positions(self) -> list[int]:
        """Return the position in its sequences of each place of the tree."""
        return [node.depth + i for node in self.nodes for i in range(node.end - node.begin)]


def token_tree(sequences: Sequence[Ids], *, least_saved: int | None = LEAST_SAVED) -> TokenTree:
    """Lay sequences out as a tree.

    Args:
        sequences: Token ids of each, none empty.
        least_saved: Tokens that a node must save [count]; None shares nothing.
    """
    builder = _Builder(sequences, least_saved)
    order = sorted(range(len(sequences)), key=lambda i: tuple(sequences[i]))
    if least_saved is None:
        for sequence in range(len(sequences)):
            builder.leaf(sequence, None, 0)
    else:
        builder.grow(order, None, depth=0, alike=0)
    return builder.tree()


def computed_tokens(sequences: Sequence[Ids]) -> int:
    """Return the tokens of the tree that these sequences make [count]."""
    return len(token_tree(sequences).ids)


def forwards(
    rows: Sequence[Sequence[Ids]], *, most_tokens: int, most_rows: int | None = None
) -> list[list[int]]:
    """Divide rows among forwards, those that begin alike into the same one.

    Args:
        rows: Sequences of each row; a row's stay together.
        most_tokens: Computed tokens of a forward; a row that has more gets one of its own [count].
        most_rows: Rows of a forward [count].

    Returns:
        Indices of the rows of each forward, in the order given. What a row adds is counted by what it shares
        with its nearest neighbours, so where they part within a few tokens a forward may be those few longer.
    """
    order = sorted(range(len(rows)), key=lambda i: [tuple(ids) for ids in rows[i]])
    found: list[list[int]] = []
    laid: list[tuple[int, ...]] = []  # sequences of the forward that is being filled, sorted
    tokens = 0
    for row in order:
        added = _add(laid, rows[row])
        full = tokens + added > most_tokens or len(found[-1]) == most_rows if found else True
        if full:
            found.append([])
            laid, tokens = [], 0
            added = _add(laid, rows[row])
        found[-1].append(row)
        tokens += added
    return [sorted(forward) for forward in found]


def _add(laid: list[tuple[int, ...]], row: Sequence[Ids]) -> int:
    """Add a row's sequences to those laid out; return the tokens that are new [count]."""
    new = 0
    for ids in map(tuple, row):
        at = bisect_left(laid, ids)
        shared = max((_alike(ids, other) for other in laid[max(at - 1, 0) : at + 1]), default=0)
        new += len(ids) - (shared if shared >= LEAST_SAVED else 0)
        laid.insert(at, ids)
    return new


def _alike(one: Ids, other: Ids) -> int:
    """Return how many tokens two sequences begin with [count]."""
    low, high = 0, min(len(one), len(other))
    while low < high:  # slices compare faster than tokens one by one
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[low:middle] == other[low:middle] else (low, middle - 1)
    return low


class _Builder:
    def __init__(self, sequences: Sequence[Ids], least_saved: int | None) -> None:
        self._sequences = sequences
        self._least = least_saved or 0
        self._nodes: list[Node] = []
        self._ids: list[int] = []
        self._leaves: dict[int, int] = {}

    def tree(self) -> TokenTree:
        leaves = tuple(self._leaves[sequence] for sequence in range(len(self._sequences)))
        return TokenTree(tuple(self._nodes), tuple(self._ids), leaves)

    def grow(self, order: Sequence[int], parent: int | None, *, depth: int, alike: int) -> None:
        """Lay out sequences that go on from ``parent``.

        Args:
            order: Sorted by their ids, none of them at its end.
            parent: Holds their first ``depth`` tokens, with the nodes before it.
            depth: Tokens that are there already [count].
            alike: Tokens that all of them begin with, at least ``depth`` [count].
        """
        for group in self._begin_alike(order, alike):
            if len(group) == 1:
                self.leaf(group[0], parent, depth)
                continue
            shared = self._shared(group, alike)
            # Sorted, those that end there come before those that go on.
            ended = [sequence for sequence in group if len(self._sequences[sequence]) == shared]
            if (len(group) - 1) * (shared - depth) >= self._least:
                node = self._open(self._sequences[group[0]][depth:shared], parent, depth)
                self._leaves |= dict.fromkeys(ended, node)
                self.grow(group[len(ended) :], node, depth=shared, alike=shared)
                self._nodes[node] = self._nodes[node]._replace(reach=len(self._ids))
            else:  # some of them may yet share more than all
                for sequence in ended:
                    self.leaf(sequence, parent, depth)
                self.grow(group[len(ended) :], parent, depth=depth, alike=shared)

    def leaf(self, sequence: int, parent: int | None, depth: int) -> None:
        """Lay out what a sequence ends with."""
        self._leaves[sequence] = self._open(self._sequences[sequence][depth:], parent, depth)

    def _open(self, ids: Ids, parent: int | None, depth: int) -> int:
        begin = len(self._ids)
        self._ids += ids
        self._nodes.append(Node(begin, len(self._ids), len(self._ids), parent, depth))
        return len(self._nodes) - 1

    def _begin_alike(self, order: Sequence[int], depth: int) -> Iterator[list[int]]:
        """Yield runs of sequences with the same token at ``depth``."""
        group: list[int] = []
        for sequence in order:
            if group and self._sequences[group[0]][depth] != self._sequences[sequence][depth]:
                yield group
                group = []
            group.append(sequence)
        if group:
            yield group

    def _shared(self, group: Sequence[int], depth: int) -> int:
        """Return how many tokens all of a group begin with [count]: those of the first and the last."""
        low, high = self._sequences[group[0]], self._sequences[group[-1]]
        limit = min(len(self._sequences[sequence]) for sequence in group)
        while depth < limit and low[depth] == high[depth]:
            depth += 1
        return depth
