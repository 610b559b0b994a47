"""Processes that train one model together, each on its share of every step's rows.

Every rank draws the same rows in the same order and computes its share of them; counts, losses and gradients
are summed over ranks before the optimizer steps, so a step is that of one process, whatever their number is.
What a rank draws from its generators follows from seed, step and rank. A checkpoint is therefore one
process's, and a run may go on with another number of ranks.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.tensor import DTensor

from tunery.train.methods.method import TrainingRow

_RANKS = 1 << 16
"""More than there ever are; parts the seeds of one step from those of the next [count]."""


class Team:
    """The ranks of a training. Whatever exchanges something must be called by all of them.

    Args:
        rank: This process, from 0 on; rank 0 reports and writes.
        size: Processes; where there are several, torch's default process group is theirs [count].
        sharded: Whether the model's weights are divided among them, so that each forward is one of all ranks.
    """

    def __init__(self, rank: int = 0, size: int = 1, *, sharded: bool = False) -> None:
        self.rank = rank
        self.size = size
        self.sharded = sharded and size > 1

    @property
    def leads(self) -> bool:
        """Whether this rank reports and writes."""
        return self.rank == 0

    def sum(self, values: Sequence[float]) -> list[float]:
        """Return numbers summed over ranks, in double precision."""
        if self.size == 1:
            return list(values)
        total = torch.tensor(list(values), dtype=torch.float64)
        dist.all_reduce(total)
        return total.tolist()

    def any(self, said: bool) -> bool:  # noqa: FBT001 - what is said is the whole of it
        """Tell whether any rank says so."""
        return self.sum([float(said)])[0] > 0

    def of_first(self, make: Callable[[], Any]) -> Any:
        """Return what rank 0 makes, a JSON value; no other rank makes it."""
        if self.size == 1:
            return make()
        content = json.dumps(make()).encode() if self.leads else b""
        return json.loads(self.send(content))

    def send(self, content: bytes) -> bytes:
        """Return the bytes that rank 0 gives."""
        length = torch.tensor([len(content)])
        dist.broadcast(length, src=0)
        sent = torch.frombuffer(bytearray(content or bytes(int(length))), dtype=torch.uint8)
        dist.broadcast(sent, src=0)
        return sent.numpy().tobytes()

    def gather(self, value: Any) -> list[Any]:
        """Return the JSON values of all ranks, in their order."""
        if self.size == 1:
            return [value]
        content = json.dumps(value).encode()
        lengths = [
            int(n) for n in self.sum([float(len(content) * (r == self.rank)) for r in range(self.size)])
        ]
        padded = torch.frombuffer(bytearray(content.ljust(max(lengths))), dtype=torch.uint8)
        found = [torch.empty_like(padded) for _ in lengths]
        dist.all_gather(found, padded)
        return [json.loads(one[:n].numpy().tobytes()) for one, n in zip(found, lengths, strict=True)]

    def share(self, rows: Sequence[TrainingRow]) -> list[int]:
        """Return the indices of this rank's rows, in the order given; shares have about as many tokens, and
        rows that begin alike mostly come into the same one."""
        if self.size == 1:
            return list(range(len(rows)))
        order = sorted(range(len(rows)), key=lambda i: [tuple(s.ids) for s in rows[i].sequences])
        ends = list(accumulate(rows[i].tokens for i in order))
        middles = [end - rows[i].tokens / 2 for i, end in zip(order, ends, strict=True)]
        whole = ends[-1] if ends else 1
        return sorted(
            i for i, m in zip(order, middles, strict=True) if int(m * self.size / whole) == self.rank
        )

    def idle(self, forwards: int) -> int:
        """Return how many forwards that count nothing this rank computes beside its own ones, to take part
        in as many as every other; it is called before the first of them [count]."""
        return int(max(self.gather(forwards))) - forwards if self.sharded else 0

    def seed(self, seed: int, step: int) -> None:
        """Draw from here on what this rank draws in a step; alone, what was drawn before goes on."""
        if self.size > 1:
            torch.manual_seed((seed * (1 << 32) + step * _RANKS + self.rank) % (1 << 63))

    def begin_alike(self, model: nn.Module) -> None:
        """Give every rank the trained weights of rank 0."""
        for parameter in _trained(model) if self.size > 1 else []:
            dist.broadcast(parameter.data, src=0)

    def sum_gradients(self, model: nn.Module) -> None:
        """Sum the gradients over ranks, those of ranks that computed nothing being 0."""
        if self.size == 1:
            return
        parameters = _trained(model)
        if not parameters:
            return
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([g.reshape(-1) for g in gradients])
        dist.all_reduce(flat)
        parts = torch.split(flat, [g.numel() for g in gradients])
        for gradient, summed in zip(gradients, parts, strict=True):
            gradient.copy_(summed.view_as(gradient))


ALONE = Team()
"""One process that trains by itself."""


class Sums:
    """Sums over ranks within something that one rank may compute again, for want of memory: what was summed
    then is not exchanged anew, which the other ranks would not wait for.

    Args:
        team: The ranks.
    """

    def __init__(self, team: Team) -> None:
        self._team = team
        self._known: list[list[float]] = []
        self._next = 0

    def begin(self) -> None:
        """Begin something new."""
        self._known = []
        self._next = 0

    def again(self) -> None:
        """Begin again what was begun."""
        self._next = 0

    def __call__(self, values: Sequence[float]) -> list[float]:
        """Return numbers summed over ranks."""
        if self._next == len(self._known):
            self._known.append(self._team.sum(values))
        self._next += 1
        return self._known[self._next - 1]


def _trained(model: nn.Module) -> list[nn.Parameter]:
    """Return what is trained and whole on every rank; of what is divided FSDP sums the gradients."""
    return [p for p in model.parameters() if p.requires_grad and not isinstance(p, DTensor)]
