"""Draws follow the distribution, keep to the nucleus, and shrug off noise in the last bits."""

from __future__ import annotations

import pytest
import torch

from tunery.serve.engines.embedded.sampling import generator, sample

LOGITS = torch.tensor([2.0, 1.0, 0.0, -1.0, float("-inf")])


def draws(n: int, *, temperature: float = 1.0, top_p: float = 1.0) -> torch.Tensor:
    source = generator(1)
    return torch.tensor(
        [sample(LOGITS, temperature=temperature, top_p=top_p, source=source) for _ in range(n)]
    )


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_frequencies_are_the_softmax_at_that_temperature(temperature: float) -> None:
    counted = torch.bincount(draws(20_000, temperature=temperature), minlength=5) / 20_000
    expected = torch.softmax(LOGITS / temperature, dim=-1)
    # Four standard deviations of a share: a false alarm in 16,000 runs, and the seed is fixed.
    assert (counted - expected).abs().max() < 4 * (0.25 / 20_000) ** 0.5
    assert counted[4] == 0


def test_top_p_keeps_the_smallest_set_that_reaches_it() -> None:
    first, second = torch.softmax(LOGITS, dim=-1)[:2].tolist()
    assert set(draws(500, top_p=first - 0.01).tolist()) == {0}
    assert set(draws(500, top_p=first + 0.01).tolist()) == {0, 1}
    assert set(draws(500, top_p=first + second + 0.01).tolist()) == {0, 1, 2}


def test_a_nucleus_wider_than_the_first_guess_is_not_cut_short() -> None:
    flat = torch.zeros(4000)
    source = generator(3)
    seen = {sample(flat, temperature=1.0, top_p=0.9, source=source) for _ in range(3000)}
    assert len(seen) > 1500


@pytest.mark.parametrize("top_p", [1.0, 0.9])
def test_noise_in_the_last_bits_does_not_change_a_seeded_draw(top_p: float) -> None:
    logits = torch.randn(2000, generator=torch.Generator().manual_seed(0))
    noisy = logits + 1e-6 * torch.randn(2000, generator=torch.Generator().manual_seed(1))
    for seed in range(300):
        first = sample(logits, temperature=0.8, top_p=top_p, source=generator(seed))
        assert sample(noisy, temperature=0.8, top_p=top_p, source=generator(seed)) == first


def test_without_a_seed_two_requests_differ() -> None:
    flat = torch.zeros(100_000)
    left, right = generator(None), generator(None)
    assert [sample(flat, temperature=1, top_p=1, source=left) for _ in range(3)] != [
        sample(flat, temperature=1, top_p=1, source=right) for _ in range(3)
    ]
