"""Linear layers that carry many adapters and apply to each token the one of its row.

Two ways, chosen per stretch of packed tokens. Where a stretch belongs to one adapter, two small products are
added to it. Where adapters are mixed (decoding: one token a row), the adapters' matrices stand side by side:
every token meets all of them in one product, the columns of foreign adapters are zeroed, and one more
product leads back. That spends idle arithmetic to keep the number of operations independent of the number
of adapters, which is what a decoding step pays for.

A DoRA adapter gives every row of ``W + B·A`` a length of its own. That is one factor a row, known once it is
loaded: it scales the base's product in place and is folded into ``B``.

Source:
    Liu et al. (2024), arXiv 2402.09353, equation 5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch.nn import functional as F

from tunery.core.errors import ConfigError
from tunery.model.peft_folder import LoraPair
from tunery.serve.engines.embedded.blocked_linear import BlockedLinear

BASE = -1
"""Adapter number of rows that the base answers."""


class _Applied(NamedTuple):
    """One adapter's matrices as a layer applies them."""

    down: torch.Tensor
    up: torch.Tensor
    base_scale: torch.Tensor | None
    """What the base's own product is multiplied by, shape ``(out_features,)``; None for 1."""


class UniformRun(NamedTuple):
    """Tokens ``start`` to ``stop`` of one adapter."""

    start: int
    stop: int
    adapter: int


class MixedRun:
    """Tokens ``start`` to ``stop`` of several adapters.

    Args:
        start: First token.
        owners: Adapter number of each token.
        pool: Adapters whose matrices are stacked; a superset of those at work, so that stacks are reused.
        device: Where masks live.
    """

    def __init__(
        self, start: int, owners: Sequence[int], pool: tuple[int, ...], device: torch.device
    ) -> None:
        self.start = start
        self.stop = start + len(owners)
        self.pool = pool
        self._owners = torch.tensor(owners, device=device)
        place = {adapter: index for index, adapter in enumerate(pool)}
        self.places = torch.tensor([place.get(owner, len(pool)) for owner in owners], device=device)
        """Place in the pool of each token's adapter, shape ``(tokens,)``; its length for the base."""
        self._foreign: dict[tuple[int, ...], torch.Tensor] = {}

    def foreign(self, stack: _Stack) -> torch.Tensor:
        """Return which columns of the stack are not a token's own, shape ``(tokens, columns)``."""
        mask = self._foreign.get(stack.ranks)
        if mask is None:
            mask = self._owners[:, None] != stack.column_owners[None, :]
            self._foreign[stack.ranks] = mask
        return mask


Run = UniformRun | MixedRun
FrozenLinear = torch.nn.Linear | BlockedLinear


class AdapterBoard:
    """Which adapter each token of the current forward belongs to; one per engine, read by every layer."""

    def __init__(self) -> None:
        self.body: list[Run] = []
        """For layers that see every packed token."""
        self.head: list[Run] = []
        """For the output layer, which sees only tokens whose logits are wanted."""


class _Stack(NamedTuple):
    down: torch.Tensor
    """Shape ``(columns, in_features)``."""
    up: torch.Tensor
    """Shape ``(columns, out_features)``."""
    ranks: tuple[int, ...]
    """Rank of each adapter of the pool here; 0 where it does not adapt this layer."""
    column_owners: torch.Tensor
    """Adapter number of each column."""
    base_scale: torch.Tensor | None
    """What the base's product is multiplied by for each adapter of the pool, and 1 for the base behind them,
    shape ``(pool + 1, out_features)``; None where it is 1 for all."""


class LoraLinear(torch.nn.Module):
    """A frozen linear layer with the adapters loaded on it.

    Args:
        linear: The base's layer.
        board: Says which adapter each token belongs to.
        is_head: Whether this is the output layer.
    """

    def __init__(self, linear: FrozenLinear, board: AdapterBoard, *, is_head: bool) -> None:
        super().__init__()
        self.linear = linear
        self.pairs: dict[int, _Applied] = {}
        self._board = board
        self._is_head = is_head
        self._stacks: dict[tuple[int, ...], _Stack | None] = {}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return base plus adapters; ``x`` has shape ``(1, tokens, in_features)``."""
        out: torch.Tensor = self.linear(x)
        runs = self._board.head if self._is_head else self._board.body
        if runs and self.pairs:
            tokens, sums = x.reshape(-1, x.shape[-1]), out.view(-1, out.shape[-1])
            for run in runs:
                if isinstance(run, UniformRun):
                    pair = self.pairs.get(run.adapter)
                    if pair is not None:
                        if pair.base_scale is not None:
                            self._scale_base(sums[run.start : run.stop], pair.base_scale)
                        narrow = F.linear(tokens[run.start : run.stop], pair.down)
                        sums[run.start : run.stop].addmm_(narrow, pair.up.t())
                else:
                    self._add_mixed(run, tokens, sums)
        return out

    def _add_mixed(self, run: MixedRun, tokens: torch.Tensor, sums: torch.Tensor) -> None:
        stack = self._stacks.get(run.pool) if run.pool in self._stacks else self._build_stack(run.pool)
        if stack is not None:
            if stack.base_scale is not None:
                self._scale_base(sums[run.start : run.stop], stack.base_scale[run.places])
            narrow = F.linear(tokens[run.start : run.stop], stack.down)
            narrow.masked_fill_(run.foreign(stack), 0.0)
            sums[run.start : run.stop].addmm_(narrow, stack.up)

    def _build_stack(self, pool: tuple[int, ...]) -> _Stack | None:
        here = [(number, self.pairs[number]) for number in pool if number in self.pairs]
        stack = None
        if here:
            owners = [number for number, pair in here for _ in range(pair.down.shape[0])]
            stack = _Stack(
                down=torch.cat([pair.down for _, pair in here]),
                up=torch.cat([pair.up for _, pair in here], dim=1).t().contiguous(),
                ranks=tuple(self.pairs[n].down.shape[0] if n in self.pairs else 0 for n in pool),
                column_owners=torch.tensor(owners, device=here[0][1].down.device),
                base_scale=self._base_scales(pool),
            )
        self._stacks = {pool: stack}  # one: stacks double the adapters' memory
        return stack

    def _base_scales(self, pool: tuple[int, ...]) -> torch.Tensor | None:
        """Return what each adapter of the pool, and the base as the last, scales the base's product by."""
        scales = [self.pairs[n].base_scale if n in self.pairs else None for n in pool]
        like = next((scale for scale in scales if scale is not None), None)
        if like is None:
            return None
        return torch.stack([torch.ones_like(like) if s is None else s for s in [*scales, None]])

    def _scale_base(self, sums: torch.Tensor, scale: torch.Tensor) -> None:
        """Multiply the base's product, not its bias, in place."""
        if self._bias is None:
            sums.mul_(scale)
        else:
            sums.sub_(self._bias).mul_(scale).add_(self._bias)

    @torch.no_grad()
    def add(self, adapter: int, pair: LoraPair) -> None:
        """Install an adapter."""
        if pair.magnitude is None:
            self.pairs[adapter] = _Applied(pair.down, pair.up, None)
            return
        # Weights may lie in a layout of their own: the product with the identity tells them.
        eye = torch.eye(self.linear.in_features, dtype=pair.down.dtype, device=pair.down.device)
        weight = self.linear(eye).t() if self._bias is None else (self.linear(eye) - self._bias).t()
        scale = pair.magnitude / torch.linalg.vector_norm(weight + pair.up @ pair.down, dim=1)
        self.pairs[adapter] = _Applied(pair.down, scale[:, None] * pair.up, scale)

    @property
    def _bias(self) -> torch.Tensor | None:
        return self.linear.bias

    def remove(self, adapter: int) -> None:
        """Forget an adapter."""
        self.pairs.pop(adapter, None)
        self._stacks.clear()


class AdapterBank:
    """The adapters of one model: swaps linear layers for adapted ones and plans who applies where.

    Args:
        model: The base; its adapted layers are replaced in place.
        head: Name of the output layer, such as ``lm_head``.
    """

    _POOL = 8  # while this few adapters are loaded all are stacked, and stacks change only at load and unload

    def __init__(self, model: torch.nn.Module, head: str) -> None:
        self._model = model
        self._head = head
        self.board = AdapterBoard()
        self._like = next(model.parameters())  # dtype and device of what adapters are added to
        self._layers: dict[str, LoraLinear] = {}
        self._loaded: dict[int, tuple[str, ...]] = {}

    def shape_of(self, layer: str) -> tuple[int, int] | None:
        """Return ``(out_features, in_features)`` of a linear layer by its name, None when there is none."""
        try:
            module = self._model.get_submodule(layer)
        except AttributeError:
            return None
        linear = module.linear if isinstance(module, LoraLinear) else module
        return (linear.out_features, linear.in_features) if isinstance(linear, FrozenLinear) else None

    def add(self, adapter: int, pairs: Mapping[str, LoraPair]) -> None:
        """Install an adapter under a number; layers must have been checked with :meth:`shape_of`."""
        for name, pair in pairs.items():
            layer = self._layers.get(name)
            if layer is None:
                linear = self._model.get_submodule(name)
                if not isinstance(linear, FrozenLinear):
                    raise ConfigError(f"{name} is not a linear layer of this base")
                layer = LoraLinear(linear, self.board, is_head=name == self._head)
                self._model.set_submodule(name, layer)
                self._layers[name] = layer
            magnitude = None if pair.magnitude is None else pair.magnitude.to(self._like)
            layer.add(adapter, LoraPair(pair.down.to(self._like), pair.up.to(self._like), magnitude))
        self._loaded[adapter] = tuple(pairs)

    def remove(self, adapter: int) -> None:
        """Drop an adapter's weights."""
        for name in self._loaded.pop(adapter, ()):
            self._layers[name].remove(adapter)

    def runs(self, decoding: Sequence[int], spans: Sequence[tuple[int, int]]) -> list[Run]:
        """Plan one forward.

        Args:
            decoding: Adapter of each of the first tokens, one token a row.
            spans: Adapter and number of tokens of each following stretch.
        """
        if decoding and len(set(decoding)) == 1:
            spans = [(decoding[0], len(decoding)), *spans]
            decoding = ()
        runs: list[Run] = []
        if decoding:
            runs.append(MixedRun(0, decoding, self._pool(decoding), self._like.device))
        start = len(decoding)
        for adapter, count in spans:
            last = runs[-1] if runs else None
            if isinstance(last, UniformRun) and last.adapter == adapter and last.stop == start:
                runs[-1] = UniformRun(last.start, start + count, adapter)
            elif adapter != BASE:
                runs.append(UniformRun(start, start + count, adapter))
            start += count
        return runs

    def _pool(self, adapters: Sequence[int]) -> tuple[int, ...]:
        if len(self._loaded) <= self._POOL:
            return tuple(sorted(self._loaded))
        return tuple(sorted({a for a in adapters if a != BASE}))
