"""How many threads PyTorch computes with on a CPU."""

from __future__ import annotations

import torch

from tunery.core.cores import ThreadChoice, numbers_are_free


class Threads:
    """Keeps PyTorch's threads to what the machine has to spare; used by the one thread that computes.

    Args:
        wanted: A fixed number; None leaves it to the machine.
        exact: Whether results must not depend on the number. Where they would, all usable cores are used.
    """

    def __init__(self, wanted: int | None, *, exact: bool) -> None:
        self._choice = None if wanted else ThreadChoice()
        self._moves = self._choice is not None and (numbers_are_free() or not exact)
        self._set(wanted or ThreadChoice().most)

    @property
    def number(self) -> int:
        """How many there are now."""
        return self._number

    def adapt(self) -> None:
        """Look at the machine where the last look is past; costs nothing where it is not."""
        if self._choice is not None and self._moves:
            self._set(self._choice.look())

    def _set(self, number: int) -> None:
        if number != getattr(self, "_number", None):
            torch.set_num_threads(number)
        self._number = number
