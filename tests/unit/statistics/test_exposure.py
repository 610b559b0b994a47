"""Exposure equals what a whole search of the space would give, and is 1.44 bits where nothing was learnt."""

import math
import random

import numpy as np
import pytest

from tunery.statistics.exposure import exposure

SPACE = 4096


def test_with_the_whole_space_as_references_it_is_the_exact_one() -> None:
    draw = random.Random(0)
    space = [draw.gauss(-20, 2) for _ in range(SPACE)]
    for rank, own in enumerate(sorted(space, reverse=True)[1:200], start=2):
        others = [value for value in space if value != own]
        assert exposure(own, others, space=SPACE) == pytest.approx(math.log2(SPACE) - math.log2(rank))


def test_of_secrets_never_seen_the_mean_is_that_of_a_random_rank() -> None:
    draw = random.Random(1)
    references = [draw.gauss(-20, 2) for _ in range(200)]
    found = [exposure(draw.gauss(-20, 2), references, space=10**9) for _ in range(2000)]
    assert np.mean(found) == pytest.approx(1 / math.log(2), abs=0.12)


def test_beyond_all_references_the_tail_tells_how_far() -> None:
    draw = random.Random(2)
    references = [draw.gauss(-20, 2) for _ in range(400)]
    far, farther = (exposure(-20 + 2 * z, references, space=10**30) for z in (4, 6))
    # One-sided tails of a normal curve: 14.9 and 29.9 bits.
    assert far == pytest.approx(14.9, abs=4)
    assert farther == pytest.approx(29.9, abs=10)
    assert farther > far > math.log2(401)
    assert exposure(0.0, references, space=10**9) == pytest.approx(math.log2(10**9))


def test_references_that_are_all_alike_bear_no_tail() -> None:
    assert exposure(-1.0, [-9.0] * 7, space=SPACE) == 3
    assert exposure(-9.0, [-9.0] * 7, space=SPACE) == 0
    with pytest.raises(ValueError, match="references"):
        exposure(-1.0, [], space=SPACE)
