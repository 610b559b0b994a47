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
    mask: torch.Tensor | None


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
        self.decode_mask = self._decode_mask(pasts[:decoding]) if decoding else None
        self.segments = [
            self._segment(span, int(start))
            for span, start in zip(spans[decoding:], starts[decoding:], strict=True)
        ]

    def _decode_mask(self, pasts: torch.Tensor) -> torch.Tensor | None:
        """Return an additive mask ``(rows, kv_heads, groups, longest)``, or None where no row is shorter."""
        if bool((pasts + 1 == self.longest).all()):
            return None  # without a mask PyTorch may take its fast kernels
        hidden = torch.arange(self.longest)[None, :] > pasts[:, None]
        mask = torch.zeros(hidden.shape, dtype=self.arena.dtype).masked_fill_(hidden, float("-inf"))
        mask = mask.to(self.arena.device)[:, None, None, :]
        return mask.expand(-1, self.arena.shape.kv_heads, self.groups, -1)

    def _segment(self, span: RowSpan, start: int) -> _Segment:
        length = span.past + span.size
        mask = None
        if span.size > 1:  # a single token is the row's last and sees everything
            hidden = torch.arange(length)[None, :] > torch.arange(span.past, length)[:, None]
            mask = torch.zeros(hidden.shape, dtype=self.arena.dtype).masked_fill_(hidden, float("-inf"))
            mask = mask.to(self.arena.device).repeat(self.groups, 1)  # (groups × count, length)
        return _Segment(span.slot, start, start + span.size, length, mask)


def attend(  # noqa: PLR0913 - the signature transformers calls
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    packed: PackedBatch,
    scaling: float | None = None,
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
    if rows:
        attended = F.scaled_dot_product_attention(
            query[0, :, :rows].transpose(0, 1).reshape(rows, kv_heads, groups, head_dim),
            keys[:rows, :, : packed.longest],
            values[:rows, :, : packed.longest],
            attn_mask=packed.decode_mask,
            scale=scaling,
        )
        out[:rows] = attended.reshape(rows, heads, head_dim)
    # Prompts attend one by one: their lengths differ, and what padding costs grows with the square.
    for segment in packed.segments:
        count = segment.stop - segment.start
        attended = F.scaled_dot_product_attention(
            query[0, :, segment.start : segment.stop].reshape(1, kv_heads, groups * count, head_dim),
            keys[segment.slot : segment.slot + 1, :, : segment.length],
            values[segment.slot : segment.slot + 1, :, : segment.length],
            attn_mask=segment.mask,
            scale=scaling,
        )
        out[segment.start : segment.stop] = attended.reshape(heads, count, head_dim).transpose(0, 1)
    return out[None], None
