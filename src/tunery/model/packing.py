"""Many rows in one forward without padding: what they share computed once, linear layers on real tokens only.

Sequences of a batch are laid out as a tree of their common beginnings (:mod:`tunery.model.token_tree`):
positions go on from the beginning that a token stands behind, and attention lets it see that and what comes
before it in its own sequence. Losses and gradients are those of separate rows, the first token of an answer
included: the layout changes what is computed twice, not what is computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
import torch.nn.functional as F

from tunery.model.render import Rendered
from tunery.model.token_tree import LEAST_SAVED, token_tree
from tunery.model.tree_attention import TreeLayout


@dataclass(frozen=True, slots=True)
class Packed:
    """A batch of rows as one sequence."""

    input_ids: torch.Tensor
    """Shape ``(1, tokens)``."""
    position_ids: torch.Tensor
    """Same shape; of each token in its own rows."""
    layout: TreeLayout
    source: torch.Tensor
    """Place whose output predicts each target, shape ``(targets,)``; repeats where rows share it."""
    targets: torch.Tensor
    """Token to be predicted, shape ``(targets,)``."""
    row: torch.Tensor
    """Row each target belongs to, shape ``(targets,)``."""
    completion: torch.Tensor
    """Whether the target is a completion token, not one of the prompt loss; shape ``(targets,)``."""
    logical_tokens: int
    """Tokens of all rows, what they share counted once a row [count]."""
    reference: torch.Tensor
    """Log-probability of each row's targets by a reference model [nats], shape ``(rows,)``; or empty."""
    example: torch.Tensor
    """Example each row belongs to, counted from 0 in the order of the rows, shape ``(rows,)``."""
    examples: int
    """How many there are; kept here, for a device would have to be waited for to tell [count]."""
    desirable: torch.Tensor
    """Whether each row's answer is to become likelier, shape ``(rows,)``; empty where no method asks."""
    lengths: torch.Tensor
    """Tokens of the row that each place belongs to, of the longest where rows share it; shape
    ``(tokens,)``."""

    def by_example(self, values: torch.Tensor, *, where: torch.Tensor | None = None) -> torch.Tensor:
        """Return values of targets summed for each example, shape ``(examples,)``.

        Args:
            values: One for each target, shape ``(targets,)``.
            where: Targets that count, same shape; all when None.
        """
        owner = self.example[self.row]
        if where is not None:
            values, owner = values[where], owner[where]
        return values.new_zeros(self.examples).index_add(0, owner, values)

    def to(self, device: torch.device) -> Packed:
        """Return the batch on ``device``."""
        there = {f.name: getattr(self, f.name) for f in fields(self)}
        moved = {name: value.to(device) for name, value in there.items() if not isinstance(value, int)}
        return replace(self, **moved)


def pack(
    rows: Sequence[Rendered],
    *,
    share_prefix: bool = True,
    reference: Sequence[float] = (),
    desirable: Sequence[bool] = (),
    examples: Sequence[int] | None = None,
) -> Packed:
    """Lay rows out as one sequence.

    Args:
        rows: Tokenised conversations, at least one.
        share_prefix: Whether common beginnings are stored once.
        reference: Log-probability of each row's targets by a reference model, where there is one [nats].
        desirable: Whether each row's answer is to become likelier, where a method asks.
        examples: Example that each row belongs to, from 0 on in order; each row is one of its own when None.

    Returns:
        The packed batch; a row's targets are its tokens with a 1 in either mask; the first token never.
    """
    owners = list(range(len(rows))) if examples is None else list(examples)
    tree = token_tree([row.ids for row in rows], least_saved=LEAST_SAVED if share_prefix else None)
    layout = TreeLayout.of(tree)
    source: list[int] = []
    targets: list[int] = []
    owner: list[int] = []
    completion: list[bool] = []
    lengths = [0] * len(tree.ids)
    for index, row in enumerate(rows):
        places = tree.places(index)
        for place in places:
            lengths[place] = max(lengths[place], len(row.ids))
        for place in range(1, len(row.ids)):
            if row.mask[place] or (row.prompt_mask and row.prompt_mask[place]):
                # A token is predicted one place before itself. Where rows part, that place is shared, so one
                # place may predict a token of each of them.
                source.append(places[place - 1])
                targets.append(row.ids[place])
                owner.append(index)
                completion.append(bool(row.mask[place]))
    return Packed(
        input_ids=torch.tensor([tree.ids]),
        position_ids=layout.positions.unsqueeze(0),
        layout=layout,
        source=torch.tensor(source, dtype=torch.long),
        targets=torch.tensor(targets, dtype=torch.long),
        row=torch.tensor(owner, dtype=torch.long),
        completion=torch.tensor(completion, dtype=torch.bool),
        logical_tokens=sum(len(r.ids) for r in rows),
        reference=torch.tensor(list(reference), dtype=torch.float64),
        desirable=torch.tensor(list(desirable), dtype=torch.bool),
        example=torch.tensor(owners, dtype=torch.long),
        examples=owners[-1] + 1,
        lengths=torch.tensor(lengths),
    )


def target_log_probs(model: torch.nn.Module, batch: Packed) -> torch.Tensor:
    """Return the log-probability of every target, its first token's included [nats], shape ``(targets,)``."""
    logits = target_logits(model, batch).float()
    return -F.cross_entropy(logits, batch.targets, reduction="none")


def target_logits(model: torch.nn.Module, batch: Packed, *, neftune_alpha: float = 0.0) -> torch.Tensor:
    """Run the model and its output layer for the predicting places alone.

    Args:
        model: A causal language model loaded with :mod:`tunery.model.tree_attention`.
        batch: Packed rows on the model's device.
        neftune_alpha: Scale of noise on the embeddings; 0 for none. What rows share gets one noise for all.

    Returns:
        Logits, shape ``(targets, vocabulary)``.
    """
    # Several rows may share a predicting place; the output layer is applied to each once.
    unique, back = torch.unique(batch.source, return_inverse=True)
    inputs = {"input_ids": batch.input_ids}
    if neftune_alpha:
        inputs = {"inputs_embeds": _noisy_embeddings(model, batch, neftune_alpha)}
    output = model(
        **inputs,
        position_ids=batch.position_ids,
        logits_to_keep=unique,
        use_cache=False,
        layout=batch.layout,
    )
    logits: torch.Tensor = output.logits[0]
    return logits if len(unique) == len(back) and bool((back[1:] > back[:-1]).all()) else logits[back]


def _noisy_embeddings(model: torch.nn.Module, batch: Packed, alpha: float) -> torch.Tensor:
    """Return the embeddings with uniform noise of up to ``alpha / sqrt(tokens of the row * width)``.

    Source:
        Jain et al. (2023), NEFTune, arXiv 2310.05914, algorithm 1.
    """
    vectors: torch.Tensor = model.get_input_embeddings()(batch.input_ids)  # type: ignore[operator]
    reach = alpha / (batch.lengths * vectors.shape[-1]).sqrt().to(vectors.dtype)
    return vectors + torch.empty_like(vectors).uniform_(-1, 1) * reach[:, None]
