"""Many rows in one forward without padding: shared prefix computed once, linear layers on real tokens only.

Rows of a batch are laid one behind the other in a single sequence; what all of them begin with (the system
turn, the opening of the user turn) stands there once. Positions restart behind the prefix for every row,
and attention lets a token see the prefix and its own row. Losses and gradients are those of separate rows:
the layout changes what is computed twice, not what is computed.

Source:
    Prefix sharing for training: arXiv 2410.20305 (there for preference pairs).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
import torch.nn.functional as F

from tunery.core.errors import ConfigError
from tunery.model.render import Rendered

ATTENTION = "tunery_packed"
"""Name under which the attention function is registered with transformers."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the rows of a packed sequence lie; what attention needs to keep them apart."""

    prefix: int
    """Tokens shared by all rows, at the front [count]."""
    gather: torch.Tensor
    """Position in the sequence of each row's own tokens, padded with 0, shape ``(rows, longest)``."""
    scatter: torch.Tensor
    """Index into the flattened ``gather`` of each token behind the prefix, shape ``(tokens - prefix,)``."""

    def to(self, device: torch.device) -> Layout:
        """Return the layout with its indices on ``device``."""
        return Layout(self.prefix, self.gather.to(device), self.scatter.to(device))


@dataclass(frozen=True, slots=True)
class Packed:
    """A batch of rows as one sequence."""

    input_ids: torch.Tensor
    """Shape ``(1, tokens)``."""
    position_ids: torch.Tensor
    """Same shape; restarts behind the prefix for every row."""
    layout: Layout
    source: torch.Tensor
    """Position whose output predicts each target, shape ``(targets,)``; repeats where rows share it."""
    targets: torch.Tensor
    """Token to be predicted, shape ``(targets,)``."""
    row: torch.Tensor
    """Row each target belongs to, shape ``(targets,)``."""
    completion: torch.Tensor
    """Whether the target is a completion token, not one of the prompt loss; shape ``(targets,)``."""
    logical_tokens: int
    """Tokens of all rows, the prefix counted once a row [count]."""
    reference: torch.Tensor
    """Log-probability of each row's targets by a reference model [nats], shape ``(rows,)``; or empty."""

    def to(self, device: torch.device) -> Packed:
        """Return the batch on ``device``."""
        moved = {f.name: getattr(self, f.name).to(device) for f in fields(self) if f.name != "logical_tokens"}
        return replace(self, **moved)


def pack(rows: Sequence[Rendered], *, share_prefix: bool = True, reference: Sequence[float] = ()) -> Packed:
    """Lay rows out as one sequence.

    Args:
        rows: Tokenised conversations, at least one.
        share_prefix: Whether the longest common beginning is stored once.
        reference: Log-probability of each row's targets by a reference model, where there is one [nats].

    Returns:
        The packed batch; a row's targets are its tokens with a 1 in either mask; the first token never.
    """
    prefix = common_prefix(rows) if share_prefix else 0
    ids = list(rows[0].ids[:prefix])
    positions = list(range(prefix))
    longest = max(len(r.ids) for r in rows) - prefix
    gather = torch.zeros((len(rows), longest), dtype=torch.long)
    scatter: list[int] = []
    source: list[int] = []
    targets: list[int] = []
    owner: list[int] = []
    completion: list[bool] = []
    for index, row in enumerate(rows):
        start, own = len(ids), len(row.ids) - prefix
        gather[index, :own] = torch.arange(start, start + own)
        scatter += range(index * longest, index * longest + own)
        ids += row.ids[prefix:]
        # Every row goes on where the prefix ends: rotary positions are those it would have alone.
        positions += range(prefix, len(row.ids))
        for place in range(1, len(row.ids)):
            if row.mask[place] or (row.prompt_mask and row.prompt_mask[place]):
                # A token is predicted one place before itself. For the first behind the prefix that place is
                # in the prefix, so one position may predict a token of each row.
                before = place - 1
                source.append(before if before < prefix else start + before - prefix)
                targets.append(row.ids[place])
                owner.append(index)
                completion.append(bool(row.mask[place]))
    return Packed(
        input_ids=torch.tensor([ids]),
        position_ids=torch.tensor([positions]),
        layout=Layout(prefix, gather, torch.tensor(scatter, dtype=torch.long)),
        source=torch.tensor(source, dtype=torch.long),
        targets=torch.tensor(targets, dtype=torch.long),
        row=torch.tensor(owner, dtype=torch.long),
        completion=torch.tensor(completion, dtype=torch.bool),
        logical_tokens=sum(len(r.ids) for r in rows),
        reference=torch.tensor(list(reference), dtype=torch.float64),
    )


def common_prefix(rows: Sequence[Rendered]) -> int:
    """Return how many leading tokens all rows share, leaving each at least one of its own [count]."""
    if len(rows) < 2:
        return 0
    # Ids compare as words do in a dictionary: what the first and the last share, all between them share.
    low, high = min(r.ids for r in rows), max(r.ids for r in rows)
    limit = min(len(r.ids) for r in rows) - 1
    same = 0
    while same < limit and low[same] == high[same]:
        same += 1
    return same


def packed_attention(  # noqa: PLR0913 - the signature that transformers calls
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    layout: Layout | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attend within rows and to their shared prefix; an attention function as transformers calls it.

    Linear layers around it see real tokens only; padding exists inside this function alone.

    Args:
        module: The attention layer.
        query: ``(1, heads, tokens, head_dim)``.
        key: ``(1, kv_heads, tokens, head_dim)``.
        value: Like ``key``.
        attention_mask: Unused; the layout says who sees whom.
        scaling: Factor on the scores; ``head_dim ** -0.5`` when None.
        dropout: Probability, training only.
        layout: Where the rows lie.
        sliding_window: Tokens that a query can look back, where the model has such a limit [count].
        softcap: Must be None: models that cap attention scores are not supported.

    Returns:
        ``(1, tokens, heads, head_dim)`` and None.

    Raises:
        ConfigError: The model caps attention scores, or no layout was given.
    """
    if softcap is not None or layout is None:
        raise ConfigError("this base model's attention (soft-capped scores) cannot be trained packed")
    repeat = query.shape[1] // key.shape[1]
    if repeat > 1:
        key, value = key.repeat_interleave(repeat, dim=1), value.repeat_interleave(repeat, dim=1)
    prefix, (rows, longest) = layout.prefix, layout.gather.shape
    heads, head_dim = query.shape[1], query.shape[3]
    flat = layout.gather.reshape(-1)

    def own(states: torch.Tensor) -> torch.Tensor:
        # (1, heads, tokens, head_dim) -> (rows, heads, longest, head_dim)
        return states[0].index_select(1, flat).view(heads, rows, longest, head_dim).transpose(0, 1)

    keys, values = own(key), own(value)
    if prefix:
        # Computed once, seen by every row: its gradient is the sum over rows, as if each had its own copy.
        shared = (rows, heads, prefix, head_dim)
        keys = torch.cat([key[:, :, :prefix].expand(shared), keys], dim=2)
        values = torch.cat([value[:, :, :prefix].expand(shared), values], dim=2)
    mask = _visible(prefix, longest, sliding_window, query.device)
    out = F.scaled_dot_product_attention(
        own(query), keys, values, attn_mask=mask, dropout_p=dropout, scale=scaling
    )
    # Padded places attend to something, too (no row of the mask is empty); scatter drops what they give.
    result = out.permute(0, 2, 1, 3).reshape(rows * longest, heads, head_dim).index_select(0, layout.scatter)
    if prefix:
        # The prefix precedes all rows, so causally it sees itself alone, whichever row it is read with.
        front = F.scaled_dot_product_attention(
            query[:, :, :prefix],
            key[:, :, :prefix],
            value[:, :, :prefix],
            attn_mask=_visible(0, prefix, sliding_window, query.device),
            dropout_p=dropout,
            scale=scaling,
        )
        result = torch.cat([front[0].transpose(0, 1), result])
    return result.unsqueeze(0), None


def _visible(prefix: int, own: int, window: int | None, device: torch.device) -> torch.Tensor:
    """Return which keys a query sees: prefix and earlier tokens of its row, ``(own, prefix + own)``."""
    query = torch.arange(prefix, prefix + own, device=device)[:, None]
    key = torch.arange(prefix + own, device=device)[None, :]
    seen = key <= query
    return seen if window is None else seen & (query - key < window)


def target_log_probs(model: torch.nn.Module, batch: Packed) -> torch.Tensor:
    """Return the log-probability of every target, its first token's included [nats], shape ``(targets,)``."""
    logits = target_logits(model, batch).float()
    return -F.cross_entropy(logits, batch.targets, reduction="none")


def target_logits(model: torch.nn.Module, batch: Packed) -> torch.Tensor:
    """Run the model and its output layer for the predicting positions alone.

    Args:
        model: A causal language model loaded with this module's attention.
        batch: Packed rows on the model's device.

    Returns:
        Logits, shape ``(targets, vocabulary)``.
    """
    # Several rows may share a predicting position; the output layer is applied to each once.
    unique, back = torch.unique(batch.source, return_inverse=True)
    output = model(
        input_ids=batch.input_ids,
        position_ids=batch.position_ids,
        logits_to_keep=unique,
        use_cache=False,
        layout=batch.layout,
    )
    logits: torch.Tensor = output.logits[0]
    return logits.index_select(0, back)
