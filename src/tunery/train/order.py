"""In which order an epoch goes through the rows."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from tunery.train.methods.method import TrainingRow


def shuffled(rows: Sequence[TrainingRow], *, seed: int, epoch: int) -> list[int]:
    """Return the rows' indices in a random order in which rows of one prompt lie beside each other.

    Pairs that share a prompt then mostly meet in one batch, which computes the prompt once. Prompts are drawn
    at random, and the rows of each among themselves.

    Args:
        rows: To go through.
        seed: Of the order; the same for the same rows, seed and epoch.
        epoch: Counts from 0.
    """
    by_prompt: dict[tuple[int, ...], list[int]] = {}
    for index, row in enumerate(rows):
        first = row.sequences[0]
        by_prompt.setdefault(first.ids[: first.prompt_tokens], []).append(index)
    drawn = random.Random(f"{seed}:{epoch}")  # noqa: S311 - no secret
    groups = list(by_prompt.values())
    drawn.shuffle(groups)
    return [index for group in groups for index in drawn.sample(group, len(group))]


class ByPrompt:
    """Goes through :func:`shuffled` rows, in another order each epoch, as a sampler of PyTorch."""

    def __init__(self, rows: Sequence[TrainingRow], *, seed: int) -> None:
        self.rows = rows
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next; the data loader does."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[int]:
        return iter(shuffled(self.rows, seed=self.seed, epoch=self.epoch))
