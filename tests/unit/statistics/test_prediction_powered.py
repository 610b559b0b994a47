"""Corrected means: they cover the truth whatever the judge's bias, and are never wider than labels alone."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tunery.statistics.prediction_powered import corrected_mean


def simulate(
    seed: int, *, labelled: int = 150, others: int = 1500, truth: float = 0.6
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw what people say, and a judge who calls a third of the losses wins, a tenth of the wins losses."""
    draw = np.random.default_rng(seed)
    human = (draw.random(labelled + others) < truth).astype(float)
    wrong = draw.random(labelled + others) < np.where(human == 1, 0.1, 1 / 3)
    judged = np.where(wrong, 1 - human, human)
    return human[:labelled], judged[:labelled], judged[labelled:]


def test_a_biased_judge_corrected_covers_the_truth_and_uncorrected_does_not() -> None:
    covered = raw = narrower = 0
    for seed in range(1000):
        human, judged, only = simulate(seed)
        found = corrected_mean(human, judged, only)
        covered += found.ci95.low <= 0.6 <= found.ci95.high
        every = np.concatenate([judged, only])
        reach = 1.96 * math.sqrt(every.var() / len(every))
        raw += abs(every.mean() - 0.6) <= reach
        narrower += found.ci95.high - found.ci95.low < found.labels_ci95.high - found.labels_ci95.low
        assert found.ci95.high - found.ci95.low <= found.labels_ci95.high - found.labels_ci95.low + 1e-12
    assert covered >= 930
    assert raw < 100
    assert narrower > 990


def test_the_weight_and_the_interval_are_those_of_the_paper() -> None:
    human, judged, only = simulate(3)
    found = corrected_mean(human, judged, only)
    n, many = len(human), len(only)
    cov = np.cov(human, judged)
    weight = (cov[0, 1] / n) / (cov[1, 1] / n + only.var(ddof=1) / many)
    value = weight * only.mean() + (human - weight * judged).mean()
    error = math.sqrt((human - weight * judged).var(ddof=1) / n + weight**2 * only.var(ddof=1) / many)
    assert found.weight == pytest.approx(weight)
    assert found.value == pytest.approx(value)
    assert found.ci95.high - found.value == pytest.approx(error * 1.976, rel=1e-3)  # t with 149 degrees


def test_a_judge_that_says_nothing_is_left_out() -> None:
    human, _, only = simulate(1)
    found = corrected_mean(human, [1.0] * len(human), [1.0] * len(only))
    assert found.weight == 0
    assert found.value == pytest.approx(human.mean())
    assert found.ci95 == found.labels_ci95


def test_labels_that_never_differ_keep_the_width_of_a_proportion() -> None:
    found = corrected_mean([1.0] * 20, [1.0] * 19 + [0.0], [1.0, 0.0] * 50)
    assert found.value == 1.0
    assert found.ci95.low < 0.86


def test_rows_that_hang_together_count_once() -> None:
    human, judged, only = simulate(5, labelled=60)
    alone = corrected_mean(human, judged, only)
    four = [np.repeat(x, 4) for x in (human, judged, only)]
    clusters, others = (np.repeat(np.arange(len(x)), 4).astype(str).tolist() for x in (human, only))
    grouped = corrected_mean(*four, clusters=clusters, clusters_only=others)
    assert grouped.value == pytest.approx(alone.value)
    assert grouped.ci95 == pytest.approx(alone.ci95)
    assert corrected_mean(*four).ci95.low > grouped.ci95.low


def test_too_little_is_refused() -> None:
    with pytest.raises(ValueError, match="two rows"):
        corrected_mean([1.0], [1.0], [1.0])
    with pytest.raises(ValueError, match="every labelled row"):
        corrected_mean([1.0, 0.0], [1.0], [1.0])


def test_where_people_labelled_every_row_their_labels_are_the_answer() -> None:
    human, judged, _ = simulate(2)
    found = corrected_mean(human, judged, [])
    assert (found.value, found.weight) == (pytest.approx(human.mean()), 0.0)
    assert found.ci95 == found.labels_ci95
