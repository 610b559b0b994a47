"""How many threads PyTorch computes with on a CPU."""

from __future__ import annotations

import torch

from tunery.core.cores import ThreadChoice, numbers_are_free, threads_at_most


class Threads:
    """Keeps PyTorch's threads to what the machine has to spare; used by the one thread that computes.

    Args:
        wanted: A fixed number; None leaves it to the machine.
        exact: Whether results must not depend on the number. Where they would, all usable cores are used.
    """

    def __init__(self, wanted: int | None, *, exact: bool) -> None:
        moves = not wanted and (numbers_are_free() or not exact)
        self._choice = ThreadChoice() if moves else None
        self.number = wanted or threads_at_most()
        """How many there are now."""
        torch.set_num_threads(self.number)

    def again(self) -> None:
        """Take the number that was chosen last, after something else has computed in this process."""
        torch.set_num_threads(self.number)

    def adapt(self) -> None:
        """Look at the machine where the last look is past; costs nothing where it is not."""
        if self._choice is not None and (number := self._choice.look()) != self.number:
            self.number = number
            torch.set_num_threads(number)
