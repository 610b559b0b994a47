"""The bootstrap against scipy's, a closed form, and its own promise in simulation."""

import numpy as np
import pytest
from scipy.stats import bootstrap, permutation_test, ttest_rel

from tunery.statistics.bootstrap import bca_interval, paired_test


def mean(sums: np.ndarray) -> np.ndarray:
    return sums[:, 0] / sums[:, 1]


def columns_of(values: np.ndarray) -> np.ndarray:
    return np.column_stack([values, np.ones(len(values))])


def test_bca_equals_scipys_on_a_skewed_sample() -> None:
    values = np.random.default_rng(3).exponential(size=60)
    ours = bca_interval(columns_of(values), mean, draws=40_000)
    theirs = bootstrap((values,), np.mean, n_resamples=40_000, method="BCa", rng=1).confidence_interval
    width = theirs.high - theirs.low
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.02 * width)


def test_bca_equals_scipys_for_a_ratio_of_sums() -> None:
    generator = np.random.default_rng(5)
    tokens = generator.integers(1, 9, 50).astype(float)
    nats = -generator.gamma(1.0, size=50) * tokens
    pairs = np.column_stack([nats, tokens])

    def perplexity(sums: np.ndarray) -> np.ndarray:
        return np.exp(-sums[:, 0] / sums[:, 1])

    def theirs_of(x: np.ndarray, y: np.ndarray, axis: int) -> np.ndarray:
        return np.exp(-x.sum(axis=axis) / y.sum(axis=axis))

    ours = bca_interval(pairs, perplexity, draws=40_000)
    theirs = bootstrap(
        (nats, tokens), theirs_of, n_resamples=40_000, method="BCa", paired=True, rng=1
    ).confidence_interval
    width = theirs.high - theirs.low
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.03 * width)


def test_the_same_seed_gives_the_same_interval_and_another_seed_nearly_so() -> None:
    columns = columns_of(np.random.default_rng(0).random(80))
    first, again, other = (bca_interval(columns, mean, seed=s) for s in (7, 7, 8))
    assert first == again != other
    assert first == pytest.approx(other, abs=0.01)


def test_batches_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = columns_of(np.random.default_rng(0).random(30))
    whole = bca_interval(columns, mean)
    monkeypatch.setattr("tunery.statistics.bootstrap._CELLS", 30 * 7)
    assert bca_interval(columns, mean) == pytest.approx(whole)


def test_bca_covers_a_skewed_mean_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(11)
    covered = 0
    for seed in range(300):
        low, high = bca_interval(columns_of(generator.beta(0.6, 0.2, 60)), mean, seed=seed, draws=400)
        covered += low <= 0.75 <= high
    assert 0.90 <= covered / 300 <= 0.98


def difference(sums: np.ndarray) -> np.ndarray:
    return sums[:, 2] / sums[:, 3] - sums[:, 0] / sums[:, 1]


def test_the_p_value_equals_scipys_permutation_test_and_the_interval_is_students() -> None:
    generator = np.random.default_rng(2)
    a = generator.random(60)
    b = a + generator.normal(0.03, 0.1, 60)
    result = paired_test(columns_of(a), columns_of(b), difference)
    theirs = permutation_test(
        (b, a), lambda x, y: (x - y).mean(), permutation_type="samples", n_resamples=20_000, rng=1
    )
    assert result.p_value == pytest.approx(theirs.pvalue, abs=0.01)
    assert result.difference == pytest.approx((b - a).mean())
    low, high = ttest_rel(b, a).confidence_interval()
    assert result.ci95 == pytest.approx((low, high), abs=0.15 * (high - low))


def test_seven_rows_all_won_are_as_surprising_as_seven_heads() -> None:
    result = paired_test(columns_of(np.zeros(7)), columns_of(np.ones(7)), difference)
    assert result.p_value == pytest.approx(2 / 2**7, abs=0.003)


@pytest.mark.parametrize("rows", [6, 12, 50])
def test_a_difference_is_found_by_chance_as_rarely_as_stated(rows: int) -> None:
    generator = np.random.default_rng(4)
    alarms = 0
    for seed in range(400):
        a, b = generator.random((2, rows)) ** 3
        alarms += paired_test(columns_of(a), columns_of(b), difference, seed=seed, draws=400).p_value < 0.05
    assert alarms / 400 <= 0.075


def test_identical_answers_differ_by_nothing() -> None:
    a = columns_of(np.random.default_rng(0).random(20))
    result = paired_test(a, a, difference, draws=200)
    assert (result.difference, result.ci95, result.p_value) == (0.0, (0.0, 0.0), 1.0)


def test_no_p_value_is_zero() -> None:
    result = paired_test(columns_of(np.zeros(30)), columns_of(np.ones(30)), difference, draws=999)
    assert result.p_value == pytest.approx(1 / 1000)


def test_one_row_cannot_be_resampled() -> None:
    with pytest.raises(ValueError, match="two rows"):
        bca_interval(np.ones((1, 2)), mean)
    with pytest.raises(ValueError, match="two rows"):
        paired_test(np.ones((1, 2)), np.ones((1, 2)), difference)
