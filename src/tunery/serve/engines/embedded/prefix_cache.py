"""Keys and values of prompts seen before, so that what they share is computed once."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

import numpy as np
import torch


class _Entry(NamedTuple):
    adapter: int
    tokens: np.ndarray
    block: torch.Tensor

    @property
    def nbytes(self) -> int:
        return self.block.numel() * self.block.element_size()


def shared_prefix(a: np.ndarray, b: np.ndarray) -> int:
    """Return how many tokens two prompts have in common from the start.

    >>> shared_prefix(np.array([1, 2, 3]), np.array([1, 2, 4, 5]))
    2
    """
    size = min(len(a), len(b))
    differs = a[:size] != b[:size]
    first = int(differs.argmax()) if size else 0
    return first if size and differs[first] else size


class PrefixCache:
    """Least-recently-used store of prompts, bounded in bytes.

    Entries belong to one loading of one adapter, by number: the same name loaded again with other weights
    has another number and can never meet the old keys and values.

    Args:
        max_bytes: Bound on stored keys and values; 0 stores nothing.
        bytes_per_token: What one token takes.
        worthwhile: Fewest tokens beyond what is already stored that are worth storing [count].
    """

    def __init__(self, *, max_bytes: int, bytes_per_token: int, worthwhile: int = 32) -> None:
        self._max_bytes = max_bytes
        self._bytes_per_token = bytes_per_token
        self._worthwhile = worthwhile
        self._entries: OrderedDict[int, _Entry] = OrderedDict()  # least recently used first
        self._next = 0
        self.nbytes = 0
        """Bytes stored."""

    def __len__(self) -> int:
        return len(self._entries)

    def length(self, adapter: int, tokens: np.ndarray) -> int:
        """Return how many tokens a lookup would save [count]."""
        return max((shared_prefix(e.tokens, tokens) for _, e in self._of(adapter)), default=0)

    def find(self, adapter: int, tokens: np.ndarray) -> torch.Tensor | None:
        """Return what the stored prompt that shares most with ``tokens`` shares, and mark it as used.

        Returns:
            Keys and values of the common tokens, shape ``(2, layers, kv_heads, tokens, head_dim)``.
        """
        lengths = {key: shared_prefix(entry.tokens, tokens) for key, entry in self._of(adapter)}
        best = max(lengths, key=lengths.__getitem__, default=None)
        if best is None or not lengths[best]:
            return None
        self._entries.move_to_end(best)
        # Only the shared part is of use, and causal attention makes that part equal in both prompts.
        return self._entries[best].block[:, :, :, : lengths[best]]

    def wants(self, adapter: int, tokens: np.ndarray) -> bool:
        """Return whether these tokens fit and add enough to what is stored.

        Enough is ``worthwhile`` tokens and a quarter of what is shared already: of many questions behind
        one long prefix only the prefix is worth its memory, while a growing conversation is stored again
        each time it has grown by a quarter.
        """
        if len(tokens) * self._bytes_per_token > self._max_bytes:
            return False
        known = self.length(adapter, tokens)
        return len(tokens) - known >= max(self._worthwhile, known // 4)

    def gain(self, adapter: int, leader: np.ndarray, tokens: np.ndarray) -> bool:
        """Return whether ``tokens`` gains by waiting until ``leader``, which is wanted, is stored."""
        shared = shared_prefix(leader, tokens)
        return shared >= self._worthwhile and shared - self.length(adapter, tokens) >= self._worthwhile

    def store(self, adapter: int, tokens: np.ndarray, block: torch.Tensor) -> None:
        """Keep a prompt; entries that are beginnings of it go, then the least recently used."""
        # What a longer prompt holds it holds for its beginnings too: keys and values do not look ahead.
        for key, entry in self._of(adapter):
            if shared_prefix(entry.tokens, tokens) == len(entry.tokens):
                self._drop(key)
        entry = _Entry(adapter, tokens, block)
        while self._entries and self.nbytes + entry.nbytes > self._max_bytes:
            self._drop(next(iter(self._entries)))
        if entry.nbytes <= self._max_bytes:
            self._entries[self._next] = entry
            self._next += 1
            self.nbytes += entry.nbytes

    def forget(self, adapter: int) -> None:
        """Drop everything stored for an adapter."""
        for key, _ in self._of(adapter):
            self._drop(key)

    def clear(self) -> bool:
        """Drop everything; False where there was nothing."""
        had = bool(self._entries)
        self._entries.clear()
        self.nbytes = 0
        return had

    def _of(self, adapter: int) -> list[tuple[int, _Entry]]:
        return [(key, entry) for key, entry in self._entries.items() if entry.adapter == adapter]

    def _drop(self, key: int) -> None:
        self.nbytes -= self._entries.pop(key).nbytes
