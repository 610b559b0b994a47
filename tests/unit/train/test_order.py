"""The order of an epoch: every row once, prompts together, the same again for the same seed and epoch."""

from __future__ import annotations

import itertools

import hypothesis.strategies as st
from hypothesis import given

from tunery.model.render import Rendered
from tunery.train.methods.method import TrainingRow
from tunery.train.order import ByPrompt, shuffled


def pair(prompt: int, answer: int) -> TrainingRow:
    sequences = [Rendered((1, prompt, 40 + answer + i, 2), (0, 0, 1, 1), 2) for i in range(2)]
    return TrainingRow(tuple(sequences))


@given(st.lists(st.integers(3, 8), max_size=30), st.integers(0, 5), st.integers(0, 3))
def test_every_row_comes_once_and_those_of_a_prompt_together(
    prompts: list[int], seed: int, epoch: int
) -> None:
    rows = [pair(prompt, i) for i, prompt in enumerate(prompts)]
    order = shuffled(rows, seed=seed, epoch=epoch)
    assert sorted(order) == list(range(len(rows)))
    runs = [prompt for prompt, _ in itertools.groupby(prompts[i] for i in order)]
    assert len(runs) == len(set(prompts))
    assert shuffled(rows, seed=seed, epoch=epoch) == order


def test_epochs_and_seeds_differ_and_a_sampler_follows_the_epoch() -> None:
    rows = [pair(i // 4, i) for i in range(40)]
    sampler = ByPrompt(rows, seed=1)
    first = list(sampler)
    assert list(sampler) == first
    sampler.set_epoch(1)
    assert list(sampler) == shuffled(rows, seed=1, epoch=1) != first
    assert shuffled(rows, seed=2, epoch=0) != first
    inner = [i for i in first if i < 4]
    assert any([i for i in shuffled(rows, seed=s, epoch=0) if i < 4] != inner for s in range(5))
