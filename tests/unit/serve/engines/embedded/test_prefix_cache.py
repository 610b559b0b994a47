"""The prefix cache finds the longest beginning, keeps to its bytes, and never mixes adapters."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from tunery.serve.engines.embedded.prefix_cache import PrefixCache, shared_prefix

BYTES_PER_TOKEN = 2 * 4  # one layer, one head, one float32, keys and values


def block(length: int) -> torch.Tensor:
    return torch.arange(2 * length, dtype=torch.float32).view(2, 1, 1, length, 1)


def cache(tokens: int) -> PrefixCache:
    return PrefixCache(max_bytes=tokens * BYTES_PER_TOKEN, bytes_per_token=BYTES_PER_TOKEN, worthwhile=2)


def row(*tokens: int) -> np.ndarray:
    return np.array(tokens)


@given(st.lists(st.integers(0, 2), max_size=9), st.lists(st.integers(0, 2), max_size=9))
def test_shared_prefix_counts_equal_tokens_from_the_start(a: list[int], b: list[int]) -> None:
    expected = 0
    for left, right in zip(a, b, strict=False):
        if left != right:
            break
        expected += 1
    assert shared_prefix(np.array(a, dtype=int), np.array(b, dtype=int)) == expected


def test_the_longest_common_beginning_is_found_even_inside_an_entry() -> None:
    store = cache(100)
    store.store(0, row(1, 2, 3, 4), block(4))
    store.store(0, row(1, 9, 9), block(3))
    shared = store.find(0, row(1, 2, 3, 7, 7))
    assert shared is not None
    assert torch.equal(shared, block(4)[:, :, :, :3])
    assert store.find(0, row(5)) is None


def test_adapters_do_not_share() -> None:
    store = cache(100)
    store.store(3, row(1, 2, 3), block(3))
    assert store.find(4, row(1, 2, 3)) is None
    store.forget(3)
    assert store.find(3, row(1, 2, 3)) is None
    assert store.nbytes == 0


def test_the_least_recently_used_goes_first_and_bytes_stay_bounded() -> None:
    store = cache(8)
    store.store(0, row(1, 1, 1), block(3))
    store.store(0, row(2, 2, 2), block(3))
    assert store.find(0, row(1, 1)) is not None
    store.store(0, row(3, 3, 3), block(3))
    assert store.nbytes <= 8 * BYTES_PER_TOKEN
    assert store.find(0, row(2, 2)) is None
    assert store.find(0, row(1, 1)) is not None


def test_a_longer_prompt_replaces_its_own_beginning() -> None:
    store = cache(100)
    store.store(0, row(1, 2), block(2))
    store.store(0, row(1, 2, 3, 4), block(4))
    assert len(store) == 1
    assert store.nbytes == 4 * BYTES_PER_TOKEN


def test_short_suffixes_behind_a_stored_prefix_are_not_worth_storing() -> None:
    store = cache(1000)
    prefix = np.arange(40)
    assert store.wants(0, prefix)
    store.store(0, prefix, block(40))
    assert not store.wants(0, np.append(prefix, [1] * 5))
    assert store.wants(0, np.append(prefix, [1] * 30))


def test_a_cache_of_no_bytes_wants_nothing() -> None:
    assert not cache(0).wants(0, row(1, 2, 3))
