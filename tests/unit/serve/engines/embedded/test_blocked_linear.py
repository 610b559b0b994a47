"""A blocked layer is the layer it copies."""

from __future__ import annotations

import pytest
import torch

from tunery.serve.engines.embedded.blocked_linear import BlockedLinear, block_linears, rows_computed

here = pytest.mark.skipif(
    not hasattr(torch.ops.mkldnn, "_reorder_linear_weight") or not torch.backends.mkldnn.is_available(),
    reason="this PyTorch has no oneDNN",
)


@here
@pytest.mark.parametrize("rows", [1, 2, 7, 17, 33, 300])
@pytest.mark.parametrize("bias", [True, False])
def test_products_agree_for_any_number_of_rows(rows: int, bias: bool) -> None:
    linear = torch.nn.Linear(48, 80, bias=bias)
    x = torch.randn(1, rows, 48)
    with torch.inference_mode():
        torch.testing.assert_close(BlockedLinear(linear)(x), linear(x), atol=1e-5, rtol=1e-5)


@here
def test_every_linear_layer_of_a_cpu_model_is_replaced() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Sequential(torch.nn.Linear(8, 4)))
    x = torch.randn(2, 8)
    with torch.inference_mode():
        expected = model(x)
        assert block_linears(model) == 2
        torch.testing.assert_close(model(x), expected)


def test_steps_of_any_size_need_few_kernels() -> None:
    sizes = [rows_computed(rows) for rows in range(1, 513)]
    assert sizes[:16] == [*range(1, 17)]
    assert all(rows <= size <= 1.125 * rows for rows, size in enumerate(sizes, 1))
    assert len(set(sizes)) <= 60


def test_half_precision_is_left_alone() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(8, 8)).to(torch.bfloat16)
    assert block_linears(model) == 0
    assert type(model[0]) is torch.nn.Linear
