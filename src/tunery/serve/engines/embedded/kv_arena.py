"""Keys and values of all running rows, in one tensor that grows."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch

from tunery.core.faults import is_out_of_memory


class KvShape(NamedTuple):
    """What a base stores for one token."""

    layers: int
    kv_heads: int
    head_dim: int

    def bytes_per_token(self, dtype: torch.dtype) -> int:
        """Return the bytes of one token's keys and values over all layers."""
        return 2 * self.layers * self.kv_heads * self.head_dim * dtype.itemsize


class KvArena:
    """Storage of shape ``(2, layers, slots, kv_heads, capacity, head_dim)``; one slot a row.

    All layers live in one tensor, so that moving a row, filling it from the prefix cache and copying its
    prompt out are one operation each. Slots share one capacity, so that decoding attends over a view
    ``[:rows, :, :longest]`` and copies nothing. Positions that were never written stay zero: attention
    masks them, but a stray NaN would survive any mask.

    Args:
        shape: What the base stores for a token.
        dtype: Of keys and values.
        device: Where they live.
        max_tokens: Bound on ``slots × capacity`` [tokens].
        max_rows: Slots that are of use at most [count].
    """

    _STEP = 64  # capacity is a multiple of this many tokens, so that growing is rare

    def __init__(
        self, shape: KvShape, *, dtype: torch.dtype, device: torch.device, max_tokens: int, max_rows: int
    ) -> None:
        self.shape = shape
        self.dtype = dtype
        self.device = device
        self.max_tokens = max_tokens
        self.max_rows = max_rows
        self._data = self._allocate(0, 0)

    @property
    def slots(self) -> int:
        """Rows there is room for [count]."""
        return self._data.shape[2]

    @property
    def capacity(self) -> int:
        """Tokens a slot holds [count]."""
        return self._data.shape[4]

    def reserve(self, rows: int, length: int) -> bool:
        """Make room for ``rows`` rows of up to ``length`` tokens; False when that passes ``max_tokens``.

        Slots and capacity come as large as the bound allows for ``max_rows`` rows, because on a CPU memory
        that was never written costs nothing. Longer rows double the capacity, because growing copies.

        Raises:
            MemoryError, RuntimeError: There is no memory, not even for these rows alone; nothing has changed.
        """
        if rows <= self.slots and length <= self.capacity:
            return True
        rounded = -(-length // self._STEP) * self._STEP  # up to the next multiple
        roomy = max(rounded, self.max_tokens // self.max_rows)
        if self.capacity:
            roomy = max(rounded, 2 * self.capacity) if length > self.capacity else self.capacity
        # From generous to exact: near the bound a rounded capacity may not fit where the length itself does.
        for capacity in (roomy, rounded, length):
            if rows * capacity <= self.max_tokens:
                try:
                    self._resize(min(self.max_rows, self.max_tokens // capacity), capacity, keep=rows)
                except Exception as error:
                    if not is_out_of_memory(error):
                        raise
                    self._resize(rows, min(capacity, rounded), keep=rows)  # then no more than is needed
                return True
        return False

    @torch.inference_mode(mode=False)  # rows are also moved between steps, outside inference mode
    def _allocate(self, slots: int, capacity: int) -> torch.Tensor:
        layers, kv_heads, head_dim = self.shape
        size = (2, layers, slots, kv_heads, capacity, head_dim)
        if self.device.type == "cpu" and slots:
            # The system hands out zeroed pages as they are touched; torch.zeros would write them all.
            zeros = np.zeros(math.prod(size) * self.dtype.itemsize, dtype=np.uint8)
            return torch.from_numpy(zeros).view(self.dtype).view(size)
        return torch.zeros(size, dtype=self.dtype, device=self.device)

    def _resize(self, slots: int, capacity: int, *, keep: int) -> None:
        old = self._data
        new = self._allocate(slots, capacity)
        s, c = min(keep, old.shape[2]), min(capacity, old.shape[4])
        if s and c:
            new[:, :, :s, :, :c] = old[:, :, :s, :, :c]
        self._data = new

    def write(
        self,
        layer: int,
        slots: torch.Tensor,
        positions: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store one layer's new keys and values, and return that layer's whole storage.

        Args:
            layer: Layer index.
            slots: Slot of each token, shape ``(tokens,)``.
            positions: Position of each token in its row, shape ``(tokens,)``.
            keys: Shape ``(tokens, kv_heads, head_dim)``.
            values: Same shape.

        Returns:
            Keys and values, views of shape ``(slots, kv_heads, capacity, head_dim)``.
        """
        all_keys, all_values = self._data[0, layer], self._data[1, layer]
        # The two index tensors stand around a slice, so both sides have shape (tokens, kv_heads, head_dim).
        all_keys[slots, :, positions] = keys
        all_values[slots, :, positions] = values
        return all_keys, all_values

    def move(self, source: int, target: int, length: int) -> None:
        """Copy the first ``length`` tokens of a row to another slot."""
        self._data[:, :, target, :, :length] = self._data[:, :, source, :, :length]

    def load(self, slot: int, block: torch.Tensor) -> None:
        """Fill a slot's first tokens from a block as :meth:`copy` returns it."""
        self._data[:, :, slot, :, : block.shape[3]] = block

    def copy(self, slot: int, length: int) -> torch.Tensor:
        """Return a copy of a row's first tokens, shape ``(2, layers, kv_heads, length, head_dim)``."""
        return self._data[:, :, slot, :, :length].clone()

    def clear(self, slot: int) -> None:
        """Zero a slot, because NaN left behind would reach the next row through masked positions."""
        self._data[:, :, slot] = 0
