"""Intervals of rows that hang together, against statsmodels' formula written out and by simulation."""

from __future__ import annotations

import numpy as np
import pytest

from tunery.evaluate.metrics import mean_metric
from tunery.statistics.clusters import mean_difference_interval, sums_by_cluster


def test_sums_keep_the_order_of_rows_that_stand_alone() -> None:
    columns = np.arange(6.0).reshape(3, 2)
    assert (sums_by_cluster(columns, ["x", "y", "z"]) == columns).all()
    assert (sums_by_cluster(columns, ["x", "y", "x"]) == [[4, 6], [2, 3]]).all()


def test_without_clusters_it_is_the_paired_t_interval_but_for_the_pseudo_row() -> None:
    from scipy.stats import ttest_1samp

    gains = np.random.default_rng(3).choice([-1.0, 0.0, 1.0], 400, p=[0.1, 0.7, 0.2])
    low, high = mean_difference_interval(np.column_stack([gains, np.ones(400)]))
    wanted = ttest_1samp(gains, 0).confidence_interval()
    assert (low, high) == pytest.approx((wanted.low, wanted.high), abs=0.001)


def test_no_difference_at_all_leaves_room_for_one() -> None:
    low, high = mean_difference_interval(np.column_stack([np.zeros(50), np.ones(50)]))
    assert -0.05 < low < -0.03
    assert 0.03 < high < 0.05


@pytest.mark.parametrize("size", [1, 5])
def test_the_interval_covers_as_often_as_it_says(size: int) -> None:
    generator = np.random.default_rng(size)
    covered, plain = 0, 0
    for _ in range(600):
        shift = np.repeat(generator.normal(0, 0.3, 40), size)
        gains = np.clip(0.1 + shift + generator.normal(0, 0.1, 40 * size), -1, 1)
        rows = np.column_stack([gains, np.ones(len(gains))])
        low, high = mean_difference_interval(
            sums_by_cluster(rows, [str(i // size) for i in range(len(rows))])
        )
        covered += low <= 0.1 <= high
        low, high = mean_difference_interval(rows)
        plain += low <= 0.1 <= high
    assert 0.93 <= covered / 600 <= 0.985
    assert size == 1 or plain / 600 < 0.8


def test_a_rate_of_clustered_rows_is_less_certain() -> None:
    values = [1.0, 1.0, 0.0, 0.0] * 25
    clusters = [str(i // 4) for i in range(100)]
    pairs = [str(i // 2) for i in range(100)]
    alone = mean_metric("exact_match", values).ci95
    spread = mean_metric("exact_match", values, clusters=pairs).ci95
    assert spread[1] - spread[0] > 1.25 * (alone[1] - alone[0])
    alike = mean_metric("exact_match", values, clusters=clusters).ci95
    assert alike[1] - alike[0] > 1.5 * (alone[1] - alone[0])
    all_right = mean_metric("exact_match", [1.0] * 100, clusters=clusters)
    assert all_right.ci95[0] == pytest.approx(mean_metric("exact_match", [1.0] * 25).ci95[0])
