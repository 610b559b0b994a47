"""What a training takes on the disk while it runs, from the number of its trained weights."""

from __future__ import annotations

from typing import NamedTuple

_FLOAT = 4
CHECKPOINTS = 3
"""At once: the best one, the last one, and the one that is being written [count]."""
_RECORD_BYTES = 16
"""Of the flight recorder, for each row and step [bytes]."""


class TrainingDisk(NamedTuple):
    """Bytes of the parts of one training."""

    adapter: int
    """What it leaves, a merged model included [bytes]."""
    checkpoint: int
    """The largest that one can be [bytes]."""
    recorder: int
    """Rows and losses of every step [bytes]."""

    @property
    def most(self) -> int:
        """At the highest point: while a checkpoint is packed, two thirds of it lie there twice [bytes]."""
        return self.adapter + CHECKPOINTS * self.checkpoint + 2 * self.checkpoint // 3 + self.recorder


def training_disk(weights: int, *, row_steps: float, merged: int = 0, kept: int = 0) -> TrainingDisk:
    """Return what a training takes.

    Args:
        weights: That are trained [count].
        row_steps: Rows times passes [count].
        merged: Weights of the model that the adapter is merged into; 0 where it is not [count].
        kept: Checkpoints whose adapters stay [count].
    """
    adapter = _FLOAT * weights
    # What stays is copied into its place while the checkpoints are still there.
    left = adapter + _FLOAT * merged + 2 * kept * adapter
    # The weights, and Adam's two numbers for each of them.
    return TrainingDisk(left, 3 * adapter, round(_RECORD_BYTES * row_steps))
