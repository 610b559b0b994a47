"""One forward over rows of any length: tokens packed side by side, attention row by row.

Linear layers do not care which row a token belongs to, so the tokens of all rows of a step, decoding and
prefilling alike, stand in one sequence without padding and read the base weights once. Only attention knows
rows. Transformers looks attention up by name, and this module is that name's function.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch.nn import functional as F

from tunery.serve.engines.embedded.kv_arena import KvArena

ATTENTION = "tunery_serving"
"""Name under which :func:`attend` is registered with transformers; training registers its own."""


class RowSpan(NamedTuple):
    """Tokens of one row in a step."""

    slot: int
    past: int
    """Tokens of the row whose keys and values are stored already [count]."""
    size: int
    """Tokens of the row in this step [count]."""


class _Segment(NamedTuple):
    slot: int
    start: int
    stop: int
    length: int


class PackedBatch:
    """The tokens of one step and where their keys and values go.

    Args:
        arena: Storage with room for all spans.
        decoding: The first ``decoding`` spans are slots 0, 1, … with one token each; they attend together.
        spans: In packed order.
        groups: Query heads that share one key-value head [count].
    """

    def __init__(self, arena: KvArena, *, decoding: int, spans: Sequence[RowSpan], groups: int) -> None:
        device = arena.device
        self.arena = arena
        self.decoding = decoding
        self.groups = groups
        self.layers_seen = 0
        # Indices are computed on the CPU and moved once: on a GPU each of these small operations would cost
        # a kernel launch.
        slots = torch.tensor([s.slot for s in spans])
        pasts = torch.tensor([s.past for s in spans])
        counts = torch.tensor([s.size for s in spans])
        starts = counts.cumsum(0) - counts
        tokens = int(counts.sum())
        offsets = torch.arange(tokens) - starts.repeat_interleave(counts)
        self.slots = slots.repeat_interleave(counts).to(device)
        self.positions = (pasts.repeat_interleave(counts) + offsets).to(device)
        self.longest = max((s.past + 1 for s in spans[:decoding]), default=0)
        self._pasts = pasts[:decoding]
        self.segments = [
            _Segment(span.slot, int(start), int(start) + span.size, span.past + span.size)
            for span, start in zip(spans[decoding:], starts[decoding:], strict=True)
        ]
        self._masks: dict[int | None, tuple[torch.Tensor | None, list[torch.Tensor | None]]] = {}

    def masks(self, window: int | None) -> tuple[torch.Tensor | None, list[torch.Tensor | None]]:
        """Return the additive masks of the decoding rows together and of each segment.

        Args:
            window: Tokens that a layer looks back on, the token itself included; None for all.

        Returns:
            ``(rows, kv_heads, groups, longest)``, and ``(groups × count, length)`` a segment; None where
            everything is seen, as PyTorch may take its fast kernels then.
        """
        if window not in self._masks:
            together = self._additive(self._pasts, self.longest, window)
            if together is not None:
                shape = (-1, self.arena.shape.kv_heads, self.groups, -1)
                together = together[:, None, None, :].expand(*shape)
            each = [
                self._additive(torch.arange(s.length - (s.stop - s.start), s.length), s.length, window)
                for s in self.segments
            ]
            repeated = [None if mask is None else mask.repeat(self.groups, 1) for mask in each]
            self._masks[window] = (together, repeated)
        return self._masks[window]

    def _additive(self, places: torch.Tensor, length: int, window: int | None) -> torch.Tensor | None:
        """Return the mask of queries at places over so many keys, None where each sees all of them."""
        keys = torch.arange(length)[None, :]
        hidden = keys > places[:, None]
        if window is not None:
            hidden |= keys <= places[:, None] - window
        if not bool(hidden.any()):
            return None
        mask = torch.zeros(hidden.shape, dtype=self.arena.dtype).masked_fill_(hidden, float("-inf"))
        return mask.to(self.arena.device)


def attend(  # noqa: PLR0913 - the signature transformers calls
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    packed: PackedBatch,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: Any,  # transformers hands every attention function settings that only some of them know
) -> tuple[torch.Tensor, None]:
    """Store the step's keys and values and attend each row over its own, as transformers calls it.

    Query heads that share a key-value head are stacked along the query axis, so that keys and values are
    never repeated.

    Args:
        module: The attention layer; its ``layer_idx`` says which storage.
        query: Shape ``(1, heads, tokens, head_dim)``.
        key: Shape ``(1, kv_heads, tokens, head_dim)``.
        value: Same shape as ``key``.
        attention_mask: Ignored; rows are known from ``packed``.
        packed: The step.
        scaling: Of the scores.
        sliding_window: Tokens that the layer looks back on, the token itself included; None for all.
        softcap: Bound that scores are bent towards; None for none.

    Returns:
        Shape ``(1, tokens, heads, head_dim)``, and None in place of attention weights.
    """
    keys, values = packed.arena.write(
        int(module.layer_idx),  # type: ignore[arg-type]  # every attention layer of transformers has it
        packed.slots,
        packed.positions,
        key[0].transpose(0, 1),
        value[0].transpose(0, 1),
    )
    packed.layers_seen += 1
    heads, tokens, head_dim = query.shape[1:]
    kv_heads, groups = key.shape[1], packed.groups
    out = query.new_empty((tokens, heads, head_dim))
    rows = packed.decoding
    together, each = packed.masks(sliding_window)
    if rows:
        attended = _attended(
            query[0, :, :rows].transpose(0, 1).reshape(rows, kv_heads, groups, head_dim),
            keys[:rows, :, : packed.longest],
            values[:rows, :, : packed.longest],
            together,
            scaling,
            softcap,
        )
        out[:rows] = attended.reshape(rows, heads, head_dim)
    # Prompts attend one by one: their lengths differ, and what padding costs grows with the square.
    for segment, mask in zip(packed.segments, each, strict=True):
        count = segment.stop - segment.start
        attended = _attended(
            query[0, :, segment.start : segment.stop].reshape(1, kv_heads, groups * count, head_dim),
            keys[segment.slot : segment.slot + 1, :, : segment.length],
            values[segment.slot : segment.slot + 1, :, : segment.length],
            mask,
            scaling,
            softcap,
        )
        out[segment.start : segment.stop] = attended.reshape(heads, count, head_dim).transpose(0, 1)
    return out[None], None


def _attended(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor | None,
    scale: float | None,
    softcap: float | None,
) -> torch.Tensor:
    """Return the attended values; with a soft cap computed step by step, which PyTorch's kernels do not."""
    if softcap is None:
        return F.scaled_dot_product_attention(query, keys, values, attn_mask=mask, scale=scale)
    scores = query @ keys.transpose(-1, -2) * (scale if scale is not None else query.shape[-1] ** -0.5)
    scores = softcap * torch.tanh(scores / softcap)
    scores = scores if mask is None else scores + mask
    return torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype) @ values
