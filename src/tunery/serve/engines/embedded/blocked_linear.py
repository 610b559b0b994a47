"""Linear layers whose weights lie in memory as oneDNN reads them.

Decoding multiplies a few rows by every weight of the model once. The plain product rearranges each weight
on every call before it uses it; a weight rearranged once, at load, is read straight through. That is most of
what eight concurrent requests gain over ``generate`` (``benchmarks/serve_embedded.py``).

oneDNN compiles a kernel for every number of rows that it meets, which takes a millisecond, and keeps the last
1,024, half a megabyte each. So rows are filled up to few different numbers.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

_ROWS = 32  # the number of rows that the layout is chosen for; it serves from 1 to hundreds
_AGREEMENT = 1e-4  # relative


class BlockedLinear(torch.nn.Module):
    """A frozen linear layer on the CPU in float32, its weight kept in oneDNN's blocked layout only.

    Args:
        linear: The layer to copy; its weight is not needed afterwards.
    """

    def __init__(self, linear: torch.nn.Linear) -> None:
        super().__init__()
        self.in_features = linear.in_features
        self.out_features = linear.out_features
        with torch.no_grad():
            # The operators that torch.compile calls for frozen weights on a CPU.
            self._weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), _ROWS)
        self.bias = None if linear.bias is None else linear.bias.detach()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``x·Wᵀ + b``; ``x`` has shape ``(…, in_features)``."""
        rows = x.numel() // self.in_features
        missing = rows_computed(rows) - rows
        if not missing:
            return self._product(x)
        filled = F.pad(x.reshape(rows, self.in_features), (0, 0, 0, missing))
        return self._product(filled)[:rows].view(*x.shape[:-1], self.out_features)

    def _product(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, self._weight, self.bias, "none", [], "")
        return out


def rows_computed(rows: int) -> int:
    """Return how many rows are computed in place of this many: at most an eighth more.

    Up to 16 there are none to spare. From there on eight numbers lie between a power of two and the next, so
    that a model of five shapes of weights has 245 kernels for steps of up to 288 rows where it had 1,440.

    >>> [rows_computed(rows) for rows in (1, 16, 17, 33, 64, 65, 250)]
    [1, 16, 18, 36, 64, 72, 256]
    """
    step = 1 << max(0, rows.bit_length() - 4)
    return -(-rows // step) * step


def block_linears(model: torch.nn.Module) -> int:
    """Replace the linear layers of a frozen model in place, where this machine can and agrees.

    Returns:
        Layers replaced [count]; 0 on a GPU, in half precision, or without oneDNN.
    """
    replaced = 0
    for name, module in list(model.named_modules()):
        if type(module) is torch.nn.Linear and _can_block(module):
            blocked = BlockedLinear(module)
            if replaced == 0 and not _agrees(module, blocked):
                return 0
            model.set_submodule(name, blocked)
            replaced += 1
    return replaced


def _can_block(linear: torch.nn.Linear) -> bool:
    weight = linear.weight
    return (
        weight.device.type == "cpu"
        and weight.dtype == torch.float32
        and bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


@torch.no_grad()
def _agrees(linear: torch.nn.Linear, blocked: BlockedLinear) -> bool:
    """Return whether both layers give the same product: the operators are not part of torch's public face."""
    x = torch.linspace(-1, 1, 3 * linear.in_features).view(3, -1)
    expected = F.linear(x, linear.weight, linear.bias)
    try:
        given = blocked(x)
    except (RuntimeError, TypeError):
        return False
    return bool((given - expected).abs().max() <= _AGREEMENT * expected.abs().max().clamp(min=1e-6))
