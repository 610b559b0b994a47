"""Forwards that fit into memory: where one does not, smaller ones take its place and the run goes on.

Only the division of rows among forwards changes. The optimizer step keeps its rows and its loss, so the
result is that of a run that began with the smaller forwards.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import torch

from tunery.core.faults import is_out_of_memory
from tunery.core.figures import counted
from tunery.core.progress import Progress
from tunery.model.token_tree import computed_tokens
from tunery.train.config import TrainConfig
from tunery.train.methods.method import TrainingRow, forwards_of

_T = TypeVar("_T")
_KEY = "micro_batch_tokens"


class Fitting:
    """Divides rows among forwards, by bounds that a failed allocation of memory lowers.

    Args:
        config: Bounds at first.
        progress: Hears of every lower one.
        alone: Whether this process may compute a forward again while other ranks do not; else one that does
            not fit ends training.
    """

    def __init__(self, config: TrainConfig, progress: Progress, *, alone: bool = True) -> None:
        self.config = config
        """With the bound in force."""
        self.computing: Sequence[TrainingRow] = ()
        """Rows of the forward that is being computed; whoever computes says so."""
        self._progress = progress
        self._alone = alone

    @property
    def bound(self) -> int:
        """Tokens computed in one forward at most, unless a single row has more [count]."""
        return self.config.micro_batch_tokens

    @property
    def state(self) -> dict[str, int]:
        """What a checkpoint keeps, so that a run which goes on from there divides alike."""
        return {_KEY: self.config.micro_batch_tokens}

    def restore(self, state: Mapping[str, object]) -> None:
        """Go on with the bound of a checkpoint where it is the lower one."""
        known = state.get(_KEY)
        if isinstance(known, int) and known < self.config.micro_batch_tokens:
            self._lower(known)

    def divide(self, rows: Sequence[TrainingRow], *, most_rows: int | None = None) -> list[list[int]]:
        """Return the indices of the rows of each forward; see :func:`forwards_of`."""
        return forwards_of(rows, self.config, most_rows=most_rows)

    def fit(self, compute: Callable[[], _T], *, undo: Callable[[], object] = lambda: None) -> _T:
        """Compute something in forwards that fit.

        Args:
            compute: Divides its rows anew whenever it is called, and sets ``computing`` before each forward.
            undo: Called before it is called again.

        Raises:
            Exception: What ``compute`` raises; too little memory for a single row.
        """
        while True:
            self.computing = ()
            try:
                return compute()
            except Exception as error:
                if not is_out_of_memory(error) or len(self.computing) < 2 or not self._alone:
                    raise
            # Not within the handler: what was raised holds the frames, and they the tensors.
            undo()
            self._halve(self.computing)
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def _halve(self, rows: Sequence[TrainingRow]) -> None:
        tokens = computed_tokens([s.ids for row in rows for s in row.sequences])
        self._lower(max(1, min(tokens, self.config.micro_batch_tokens) // 2))
        self._progress.event(
            f"{counted(len(rows), 'row')} with {tokens:,} tokens do not fit into memory at once: from here "
            f"on at most {self.bound:,} tokens a forward; batch_size stays {self.config.batch_size}",
            level="warn",
        )

    def _lower(self, tokens: int) -> None:
        # Copied, not validated: what memory leaves may be less than a recipe would ask for.
        self.config = self.config.model_copy(update={_KEY: tokens})
