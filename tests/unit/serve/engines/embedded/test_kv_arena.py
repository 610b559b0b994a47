"""Keys and values stay where they were put while the arena grows and rows move."""

from __future__ import annotations

import torch

from tunery.serve.engines.embedded.kv_arena import KvArena, KvShape

SHAPE = KvShape(layers=2, kv_heads=1, head_dim=3)


def arena(max_tokens: int = 1000) -> KvArena:
    return KvArena(SHAPE, dtype=torch.float32, device=torch.device("cpu"), max_tokens=max_tokens, max_rows=5)


def fill(store: KvArena, slot: int, length: int) -> torch.Tensor:
    """Write random keys and values of one row and return them as a block."""
    block = torch.randn(2, SHAPE.layers, SHAPE.kv_heads, length, SHAPE.head_dim)
    for layer in range(SHAPE.layers):
        store.write(
            layer,
            torch.full((length,), slot),
            torch.arange(length),
            block[0, layer].transpose(0, 1),
            block[1, layer].transpose(0, 1),
        )
    return block


def test_growing_keeps_what_is_stored() -> None:
    store = arena()
    assert store.reserve(1, 5)
    block = fill(store, 0, 5)
    assert store.reserve(4, 200)
    assert torch.equal(store.copy(0, 5), block)
    assert store.slots >= 4
    assert store.capacity >= 200


def test_the_bound_is_kept_and_said() -> None:
    store = arena(max_tokens=300)
    assert store.reserve(3, 100)
    assert store.slots * store.capacity <= 300
    assert not store.reserve(4, 100)
    assert store.reserve(1, 300)
    assert not store.reserve(1, 301)


def test_a_moved_row_and_a_row_filled_from_a_copy_are_the_row() -> None:
    store = arena()
    store.reserve(3, 8)
    block = fill(store, 2, 8)
    store.move(2, 0, 8)
    assert torch.equal(store.copy(0, 8), block)
    store.load(1, block[:, :, :, :4])
    assert torch.equal(store.copy(1, 4), block[:, :, :, :4])


def test_a_cleared_slot_holds_no_nan() -> None:
    store = arena()
    store.reserve(2, 4)
    store.load(1, torch.full((2, 2, 1, 4, 3), float("nan")))
    store.clear(1)
    assert torch.equal(store.copy(1, 4), torch.zeros(2, 2, 1, 4, 3))
