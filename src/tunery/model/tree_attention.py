"""Attention over a token tree: every token sees its own node up to itself, and the nodes before that.

What goes on from a node lies right behind it. So its keys are read twice: by its own tokens, causally, and by
the slice behind it, whole. Each token's partial results are joined by the logarithms of their sums, and going
backward each part takes its share by the joined ones, as attention split over machines does. Nothing is
repeated for each sequence, and no mask of all tokens by all tokens is made.

Elsewhere than in fp32 on a CPU, PyTorch's own attention computes the same: node by node, causally, where
nothing is shared, else in one product with a mask of ancestors, which a limit to how far a model looks back
and weights dropped at random need everywhere.

Source:
    Joining partial attention: Milakov & Gimelshein (2018), arXiv 1805.02867; backward by parts: Liu et al.
    (2023), arXiv 2310.01889.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

from tunery.core.errors import ConfigError
from tunery.model.token_tree import Node, TokenTree

ATTENTION = "tunery_tree"
"""Name under which the attention function is registered with transformers."""
_PADDED_AT_MOST = 1.3
"""Places computed for one token, where nodes of several lengths are padded to the longest of them."""

_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


class Bucket(NamedTuple):
    """Nodes of about one length, whose tokens look at their own node in one product."""

    gather: torch.Tensor
    """Place of each token, padded with the node's first, shape ``(nodes, longest)``."""
    kept: torch.Tensor
    """Index into the flattened ``gather`` of what is no padding, shape ``(tokens,)``."""
    places: torch.Tensor
    """Place of each of those, shape ``(tokens,)``."""


class Reach(NamedTuple):
    """A node that others go on from."""

    begin: int
    end: int
    reach: int


@dataclass(frozen=True, slots=True)
class TreeLayout:
    """Where the nodes of a packed batch lie."""

    buckets: tuple[Bucket, ...]
    reaches: tuple[Reach, ...]
    positions: torch.Tensor
    """Position in its sequences of each token, shape ``(tokens,)``."""
    nodes: tuple[Node, ...]
    masks: dict[int | None, torch.Tensor] = field(default_factory=dict, compare=False)
    """What :meth:`visible` has returned, for all layers of a forward."""

    @classmethod
    def of(cls, tree: TokenTree) -> TreeLayout:
        """Return the layout of a tree, on the CPU."""
        return cls(
            buckets=tuple(_bucket(nodes) for nodes in _alike(tree.nodes)),
            reaches=tuple(Reach(n.begin, n.end, n.reach) for n in tree.nodes if n.reach > n.end),
            positions=torch.tensor(tree.positions, dtype=torch.long),
            nodes=tree.nodes,
        )

    def to(self, device: torch.device) -> TreeLayout:
        """Return the layout with its indices on ``device``."""
        buckets = tuple(Bucket(*(index.to(device) for index in bucket)) for bucket in self.buckets)
        return TreeLayout(buckets, self.reaches, self.positions.to(device), self.nodes)

    def visible(self, window: int | None) -> torch.Tensor:
        """Return which tokens each token sees, shape ``(tokens, tokens)``."""
        if window not in self.masks:
            self.masks[window] = self._visible(window)
        return self.masks[window]

    def _visible(self, window: int | None) -> torch.Tensor:
        count, device = len(self.positions), self.positions.device
        seen = torch.zeros((count, count), dtype=torch.bool, device=device)
        for node in self.nodes:
            own = slice(node.begin, node.end)
            seen[own, own] = True
            seen[node.end : node.reach, own] = True
        seen &= self.positions[None, :] <= self.positions[:, None]
        if window is not None:
            seen &= self.positions[:, None] - self.positions[None, :] < window
        return seen


def tree_attention(  # noqa: PLR0913 - transformers' signature
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    layout: TreeLayout | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attend along the paths of a tree; called by transformers in the place of its own.

    Args:
        module: The attention layer.
        query: Shape ``(1, heads, tokens, head_dim)``.
        key: Shape ``(1, key_value_heads, tokens, head_dim)``.
        value: As ``key``.
        attention_mask: Ignored, the layout says more.
        scaling: Of the scores; ``head_dim ** -0.5`` when None.
        dropout: Probability, training only.
        layout: Where the nodes lie.
        sliding_window: Tokens that a query can look back, where the model has such a limit [count].
        softcap: Must be None: models that cap attention scores are not supported.

    Returns:
        ``(1, tokens, heads, head_dim)`` and None.

    Raises:
        ConfigError: The model caps attention scores, or no layout was given.
    """
    if softcap is not None or layout is None:
        raise ConfigError("this base model's attention (soft-capped scores) cannot be trained packed")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    limited = sliding_window is not None and int(layout.positions.max()) >= sliding_window
    by_parts = query.device.type == "cpu" and query.dtype == torch.float32 and not dropout and not limited
    if by_parts:
        out = _TreeAttention.apply(query, key, value, layout, scale)  # type: ignore[no-untyped-call]
    elif not layout.reaches and not limited:
        out = _node_by_node(query, key, value, layout, scale, dropout)
    else:
        out = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=layout.visible(sliding_window),
            dropout_p=dropout,
            scale=scale,
            enable_gqa=query.shape[1] != key.shape[1],
        )
    return out.transpose(1, 2), None


def _node_by_node(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    layout: TreeLayout,
    scale: float,
    dropout: float,
) -> torch.Tensor:
    """Attend within each node alone, nodes of about one length at once."""
    out = torch.empty_like(query)
    for bucket in layout.buckets:
        q, k, v = (_nodes(t, bucket) for t in (query, key, value))
        part = F.scaled_dot_product_attention(
            q, k, v, is_causal=True, dropout_p=dropout, scale=scale, enable_gqa=q.shape[1] != k.shape[1]
        )
        out = out.index_copy(2, bucket.places, _flat(part, bucket).unsqueeze(0))
    return out


class _TreeAttention(torch.autograd.Function):
    """Attention by parts; every tensor as in :func:`tree_attention`."""

    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        layout: TreeLayout,
        scale: float,
    ) -> torch.Tensor:
        out, sums = torch.empty_like(query), query.new_empty(query.shape[:3])
        for bucket in layout.buckets:
            q, k, v = _own(query, key, value, bucket)
            part, part_sums = _flash(q, k, v, 0.0, True, attn_mask=None, scale=scale)
            out[0].index_copy_(1, bucket.places, _flat(part, bucket))
            sums[0].index_copy_(1, bucket.places, _flat(part_sums.unsqueeze(-1), bucket).squeeze(-1))
        for reach in layout.reaches:
            q, k, v = _behind(query, key, value, reach)
            part, part_sums = _flash(q, k, v, 0.0, False, attn_mask=None, scale=scale)
            _join(out, sums, _by_heads(part, query), _by_heads(part_sums.unsqueeze(-1), query), reach)
        ctx.save_for_backward(query, key, value, out, sums)
        ctx.layout, ctx.scale = layout, scale
        return out

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value, out, sums = ctx.saved_tensors
        grad = grads[0].contiguous()
        layout, scale = ctx.layout, ctx.scale
        grad_query, grad_key, grad_value = (torch.empty_like(t) for t in (query, key, value))
        groups = (1, key.shape[1], query.shape[1] // key.shape[1])
        for bucket in layout.buckets:
            q, k, v = _own(query, key, value, bucket)
            o, g = (_nodes(t, bucket) for t in (out, grad))
            s = _nodes(sums.unsqueeze(-1), bucket).squeeze(-1)
            g = _without_padding(g, bucket)
            parts = _flash_backward(g, q, k, v, o, s, 0.0, True, attn_mask=None, scale=scale)
            for whole, part in zip((grad_query, grad_key, grad_value), parts, strict=True):
                flat = _flat(part, bucket)  # (heads, tokens, head_dim)
                if whole.shape[1] != flat.shape[0]:
                    flat = flat.view(*groups[1:], *flat.shape[1:]).sum(1)
                whole[0].index_copy_(1, bucket.places, flat)
        for reach in layout.reaches:
            q, k, v = _behind(query, key, value, reach)
            behind, own = slice(reach.end, reach.reach), slice(reach.begin, reach.end)
            o, g = (_grouped(t[:, :, behind], key.shape[1]) for t in (out, grad))
            s = _grouped(sums[:, :, behind].unsqueeze(-1), key.shape[1]).squeeze(-1)
            of_query, of_key, of_value = _flash_backward(
                g, q, k, v, o, s, 0.0, False, attn_mask=None, scale=scale
            )
            grad_query[:, :, behind] += _by_heads(of_query, query)
            grad_key[:, :, own] += of_key
            grad_value[:, :, own] += of_value
        return grad_query, grad_key, grad_value, None, None


def _own(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bucket: Bucket
) -> tuple[torch.Tensor, ...]:
    """Return what each node of a bucket has, ``(nodes, heads, longest, head_dim)``, keys for each head."""
    repeat = query.shape[1] // key.shape[1]
    q, k, v = (_nodes(t, bucket) for t in (query, key, value))
    return (q, k, v) if repeat == 1 else (q, k.repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1))


def _behind(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, reach: Reach
) -> tuple[torch.Tensor, ...]:
    """Return the queries behind a node, those of heads that share keys side by side, and the node's keys."""
    own = slice(reach.begin, reach.end)
    behind = _grouped(query[:, :, reach.end : reach.reach], key.shape[1])
    return behind, key[:, :, own], value[:, :, own]


def _nodes(states: torch.Tensor, bucket: Bucket) -> torch.Tensor:
    """``(1, heads, tokens, width)`` to ``(nodes, heads, longest, width)``."""
    nodes, longest = bucket.gather.shape
    picked = states[0].index_select(1, bucket.gather.reshape(-1))
    return picked.view(states.shape[1], nodes, longest, -1).transpose(0, 1)


def _flat(states: torch.Tensor, bucket: Bucket) -> torch.Tensor:
    """``(nodes, heads, longest, width)`` to ``(heads, tokens, width)``, without what padding gave."""
    heads, width = states.shape[1], states.shape[3]
    return states.transpose(0, 1).reshape(heads, -1, width).index_select(1, bucket.kept)


def _without_padding(grad: torch.Tensor, bucket: Bucket) -> torch.Tensor:
    """Return a gradient that is 0 where a place is padding, so that nothing comes back from there."""
    kept = torch.zeros(bucket.gather.numel(), dtype=grad.dtype, device=grad.device)
    kept[bucket.kept] = 1
    nodes, longest = bucket.gather.shape
    return grad * kept.view(nodes, 1, longest, 1)


def _grouped(states: torch.Tensor, key_heads: int) -> torch.Tensor:
    """``(1, heads, tokens, width)`` to ``(1, key_heads, heads / key_heads * tokens, width)``."""
    return states.reshape(1, key_heads, -1, states.shape[-1])


def _by_heads(states: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
    """The way back from :func:`_grouped`."""
    return states.reshape(1, query.shape[1], -1, states.shape[-1])


def _join(
    out: torch.Tensor, sums: torch.Tensor, part: torch.Tensor, part_sums: torch.Tensor, reach: Reach
) -> None:
    """Add what tokens behind a node read there to what they have read so far, in place."""
    behind = slice(reach.end, reach.reach)
    before = sums[:, :, behind].unsqueeze(-1)
    joined = torch.logaddexp(before, part_sums)
    here = out[:, :, behind]
    here.mul_(torch.exp(before - joined)).add_(part * torch.exp(part_sums - joined))
    sums[:, :, behind] = joined.squeeze(-1)


def _alike(nodes: tuple[Node, ...]) -> list[list[Node]]:
    """Return nodes in groups of about one length, so that padding computes little for nothing."""
    groups: list[list[Node]] = []
    real = padded = 0
    for node in sorted(nodes, key=lambda n: n.begin - n.end):
        length = node.end - node.begin
        longest = groups[-1][0].end - groups[-1][0].begin if groups else 0
        if groups and padded + longest <= _PADDED_AT_MOST * (real + length):
            groups[-1].append(node)
            real, padded = real + length, padded + longest
        else:
            groups.append([node])
            real = padded = length
    return groups


def _bucket(nodes: list[Node]) -> Bucket:
    longest = max(n.end - n.begin for n in nodes)
    gather: list[list[int]] = []
    kept: list[int] = []
    places: list[int] = []
    for index, node in enumerate(nodes):
        own = list(range(node.begin, node.end))
        # The last token once more: its sum covers all that a place behind it sees, so nothing overflows.
        gather.append(own + [own[-1]] * (longest - len(own)))
        kept += range(index * longest, index * longest + len(own))
        places += own
    return Bucket(*(torch.tensor(index, dtype=torch.long) for index in (gather, kept, places)))
