"""Packed rows with a shared prefix compute what separate, padded rows compute."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from tunery.model.load import load_for_packing
from tunery.model.packing import common_prefix, pack, target_logits
from tunery.model.render import Rendered


def row(*ids: int, trained: int = 2) -> Rendered:
    mask = (0,) * (len(ids) - trained) + (1,) * trained
    return Rendered(tuple(ids), mask, len(ids) - trained)


ROWS = [
    row(1, 5, 6, 7, 20, 21, 22, 2),
    row(1, 5, 6, 7, 30, 31, 2, trained=3),
    row(1, 5, 6, 7, 20, 40, 41, 42, 43, 44, 2),
]


def padded_loss(model: torch.nn.Module, rows: list[Rendered]) -> torch.Tensor:
    """Sum of cross-entropies as a plain loop computes them: one row at a time, no packing."""
    total = torch.zeros(())
    for r in rows:
        logits = model(input_ids=torch.tensor([r.ids])).logits[0, :-1]
        wanted = torch.tensor([i if m else -100 for i, m in zip(r.ids, r.mask, strict=True)][1:])
        total = total + F.cross_entropy(logits, wanted, reduction="sum", ignore_index=-100)
    return total


@pytest.fixture(scope="module")
def models(tiny_model: Path) -> tuple[torch.nn.Module, torch.nn.Module]:
    from transformers import AutoModelForCausalLM

    plain = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    return load_for_packing(tiny_model), plain


@pytest.mark.parametrize("share_prefix", [True, False])
def test_loss_and_gradients_equal_those_of_separate_rows(
    models: tuple[torch.nn.Module, torch.nn.Module], share_prefix: bool
) -> None:
    packed, plain = models
    batch = pack(ROWS, share_prefix=share_prefix)
    loss = F.cross_entropy(target_logits(packed, batch), batch.targets, reduction="sum")
    expected = padded_loss(plain, ROWS)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    packed.zero_grad()
    plain.zero_grad()
    loss.backward()
    expected.backward()
    for (name, ours), theirs in zip(packed.named_parameters(), plain.parameters(), strict=True):
        assert torch.allclose(ours.grad, theirs.grad, atol=1e-4, rtol=1e-3), name


def test_a_trained_prefix_counts_once_for_every_row(models: tuple[torch.nn.Module, torch.nn.Module]) -> None:
    packed, plain = models
    rows = [Rendered(r.ids, (0,) + (1,) * (len(r.ids) - 1), 1) for r in ROWS]
    batch = pack(rows)
    loss = F.cross_entropy(target_logits(packed, batch), batch.targets, reduction="sum")
    assert loss.item() == pytest.approx(padded_loss(plain, rows).item(), rel=1e-5)


def test_the_prefix_is_stored_once() -> None:
    batch = pack(ROWS)
    assert batch.layout.prefix == 4
    assert batch.input_ids.shape == (1, 4 + sum(len(r.ids) - 4 for r in ROWS))
    assert batch.logical_tokens == sum(len(r.ids) for r in ROWS)


def test_equal_rows_keep_a_token_of_their_own() -> None:
    assert common_prefix([ROWS[0], ROWS[0]]) == len(ROWS[0].ids) - 1


def test_a_single_row_has_no_prefix_to_share() -> None:
    assert common_prefix(ROWS[:1]) == 0


@given(
    st.lists(
        st.lists(st.integers(3, 9), min_size=2, max_size=12).map(lambda ids: row(1, *ids)),
        min_size=1,
        max_size=6,
    )
)
def test_every_token_and_every_target_is_there_exactly_once(rows: list[Rendered]) -> None:
    batch = pack(rows)
    prefix = batch.layout.prefix
    flat = batch.layout.gather.reshape(-1)[batch.layout.scatter]
    assert flat.tolist() == list(range(prefix, batch.input_ids.shape[1]))
    for index, r in enumerate(rows):
        own = batch.input_ids[0][batch.layout.gather[index, : len(r.ids) - prefix]].tolist()
        assert (*batch.input_ids[0, :prefix].tolist(), *own) == r.ids
        wanted = [i for i, m in zip(r.ids[1:], r.mask[1:], strict=True) if m]
        assert batch.targets[batch.row == index].tolist() == wanted
