"""Packed rows compute what separate, padded rows compute, however their beginnings are shared."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from tunery.model import tree_attention
from tunery.model.load import load_for_packing
from tunery.model.packing import pack, target_logits
from tunery.model.render import Rendered
from tunery.model.token_tree import computed_tokens, token_tree
from tunery.model.tree_attention import TreeLayout


def row(*ids: int, trained: int = 2) -> Rendered:
    mask = (0,) * (len(ids) - trained) + (1,) * trained
    return Rendered(tuple(ids), mask, len(ids) - trained)


SYSTEM = tuple(range(10, 30))
PROMPT = (*SYSTEM, *range(40, 52))
ROWS = [
    row(1, *PROMPT, 60, 61, 62, 2),
    row(1, *PROMPT, 60, 61, 63, 64, 2, trained=5),
    row(1, *SYSTEM, 5, 6, 7, 20, 40, 41, 42, 43, 44, 2),
    row(1, *PROMPT, 70, 2, trained=2),
    row(1, *PROMPT, 60, 61, 62, 2),
    row(9, 8, 7, trained=1),
]
"""A tree of three levels with an answer that is there twice and a row that shares nothing."""

Models = tuple[torch.nn.Module, torch.nn.Module]


def separate_loss(model: torch.nn.Module, rows: list[Rendered]) -> torch.Tensor:
    """Sum of cross-entropies as a plain loop computes them: one row at a time, no packing."""
    total = torch.zeros(())
    for r in rows:
        logits = model(input_ids=torch.tensor([r.ids])).logits[0, :-1]
        wanted = torch.tensor([i if m else -100 for i, m in zip(r.ids, r.mask, strict=True)][1:])
        total = total + F.cross_entropy(logits, wanted, reduction="sum", ignore_index=-100)
    return total


def packed_loss(model: torch.nn.Module, rows: list[Rendered], *, share_prefix: bool = True) -> torch.Tensor:
    batch = pack(rows, share_prefix=share_prefix)
    return F.cross_entropy(target_logits(model, batch), batch.targets, reduction="sum")


@pytest.fixture(scope="module")
def models(tiny_model: Path) -> Models:
    from transformers import AutoModelForCausalLM

    plain = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    return load_for_packing(tiny_model), plain


def assert_equal(models: Models, rows: list[Rendered], *, share_prefix: bool = True) -> None:
    packed, plain = models
    loss, expected = packed_loss(packed, rows, share_prefix=share_prefix), separate_loss(plain, rows)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    packed.zero_grad()
    plain.zero_grad()
    loss.backward()
    expected.backward()
    for (name, ours), theirs in zip(packed.named_parameters(), plain.parameters(), strict=True):
        largest = theirs.grad.abs().max()
        assert (ours.grad - theirs.grad).abs().max() <= 1e-5 * max(1.0, float(largest)), name


@pytest.mark.parametrize("share_prefix", [True, False])
def test_loss_and_gradients_equal_those_of_separate_rows(models: Models, share_prefix: bool) -> None:
    assert_equal(models, ROWS, share_prefix=share_prefix)


def trees() -> st.SearchStrategy[list[Rendered]]:
    """Rows that begin with a few common stretches in many combinations, some of them twice."""
    stretch = st.sampled_from([SYSTEM, PROMPT, (5, 6, 7, 8, 9, 10, 11, 12), (31, 32), ()])
    ending = st.lists(st.integers(3, 90), min_size=2, max_size=14).map(tuple)
    one = st.tuples(stretch, stretch, ending, st.integers(1, 9))
    made = one.map(
        lambda parts: row(1, *parts[0], *parts[1], *parts[2], trained=min(parts[3], len(parts[2])))
    )
    return st.lists(made, min_size=1, max_size=8)


@settings(max_examples=25)
@given(trees())
def test_any_tree_gives_the_loss_and_the_gradients_of_separate_rows(
    models: Models, rows: list[Rendered]
) -> None:
    assert_equal(models, rows)


@given(trees())
def test_every_token_and_every_target_is_there(rows: list[Rendered]) -> None:
    batch, tree = pack(rows), token_tree([r.ids for r in rows])
    for index, r in enumerate(rows):
        places = tree.places(index)
        assert tuple(batch.input_ids[0, places].tolist()) == r.ids
        assert batch.position_ids[0, places].tolist() == list(range(len(r.ids)))
        wanted = [i for i, m in zip(r.ids[1:], r.mask[1:], strict=True) if m]
        assert batch.targets[batch.row == index].tolist() == wanted
    assert sorted(place for node in tree.nodes for place in range(node.begin, node.end)) == list(
        range(len(tree.ids))
    )


@given(trees(), st.sampled_from([None, 4, 15]))
def test_a_token_sees_its_own_row_up_to_itself_and_nothing_else(
    rows: list[Rendered], window: int | None
) -> None:
    tree = token_tree([r.ids for r in rows])
    visible = TreeLayout.of(tree).visible(window)
    for index in range(len(rows)):
        places = tree.places(index)
        for at, place in enumerate(places):
            first = 0 if window is None else max(0, at - window + 1)
            assert visible[place].nonzero().flatten().tolist() == sorted(places[first : at + 1])


def test_a_window_and_what_is_no_float32_take_the_way_with_a_mask(models: Models) -> None:
    layout = TreeLayout.of(token_tree([r.ids for r in ROWS]))
    count = len(layout.positions)
    query, key, value = (torch.randn(1, heads, count, 16) for heads in (4, 2, 2))
    attend = tree_attention.tree_attention
    module = torch.nn.Module()
    by_parts = attend(module, query, key, value, None, layout=layout)[0]
    wide = attend(module, query, key, value, None, layout=layout, sliding_window=1000)[0]
    double = attend(module, *(t.double() for t in (query, key, value)), None, layout=layout)[0]
    assert torch.equal(wide, by_parts)
    torch.testing.assert_close(double.float(), by_parts, rtol=1e-5, atol=1e-5)
    narrow = attend(module, query, key, value, None, layout=layout, sliding_window=5)[0]
    scores = (query @ key.repeat_interleave(2, 1).transpose(-1, -2)) / 4
    scores = scores.masked_fill(~layout.visible(5), -torch.inf)
    expected = (scores.softmax(-1) @ value.repeat_interleave(2, 1)).transpose(1, 2)
    torch.testing.assert_close(narrow, expected, rtol=1e-5, atol=1e-5)


def test_rows_that_share_nothing_are_attended_to_row_by_row_in_other_precisions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layout = TreeLayout.of(token_tree([r.ids for r in ROWS], least_saved=None))
    drawn = [torch.randn(1, heads, len(layout.positions), 16).double() for heads in (4, 2, 2)]
    found = []
    for masked in (False, True):
        if masked:  # as if something were shared
            monkeypatch.setattr(layout.__class__, "reaches", (None,), raising=False)
        given = [t.clone().requires_grad_() for t in drawn]
        out = tree_attention.tree_attention(torch.nn.Module(), *given, None, layout=layout)[0]
        (out * torch.arange(16)).sum().backward()
        found.append([out.detach(), *(t.grad for t in given)])
    for by_rows, by_mask in zip(*found, strict=True):
        torch.testing.assert_close(by_rows, by_mask, rtol=1e-9, atol=1e-9)


def test_a_trained_beginning_counts_once_for_every_row(models: Models) -> None:
    assert_equal(models, [Rendered(r.ids, (0,) + (1,) * (len(r.ids) - 1), 1) for r in ROWS])


def test_what_several_begin_with_is_stored_once_at_every_depth() -> None:
    batch = pack(ROWS)
    system, prompt, own = 1 + 20, 12, [4, 5, 10, 2, 4, 3]
    assert batch.input_ids.shape[1] == system + prompt + sum(own)
    assert computed_tokens([r.ids for r in ROWS]) == batch.input_ids.shape[1]
    assert batch.logical_tokens == sum(len(r.ids) for r in ROWS)
    alone = pack(ROWS, share_prefix=False)
    assert alone.input_ids.shape[1] == batch.logical_tokens


def test_some_share_what_not_all_do() -> None:
    long = tuple(range(20, 60))
    tree = token_tree([(1, *long, 2), (1, *long, 3), (1, 2)])
    assert [node.end - node.begin for node in tree.nodes] == [2, 41, 1, 1]


def test_a_few_tokens_are_not_worth_a_node() -> None:
    tree = token_tree([(1, 2, 3), (1, 2, 4), (1, 2, 5)])
    assert [node.end - node.begin for node in tree.nodes] == [3, 3, 3]
