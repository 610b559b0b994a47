"""The bootstrap against scipy's, a closed form, and its own promise in simulation."""

import numpy as np
import pytest
from scipy.stats import bootstrap, ttest_rel

from tunery.evaluate.bootstrap import bca_interval, paired_bootstrap


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
    monkeypatch.setattr("tunery.evaluate.bootstrap._CELLS", 30 * 7)
    assert bca_interval(columns, mean) == pytest.approx(whole)


def test_bca_covers_a_skewed_mean_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(11)
    covered = 0
    for seed in range(300):
        low, high = bca_interval(columns_of(generator.beta(0.6, 0.2, 60)), mean, seed=seed, draws=400)
        covered += low <= 0.75 <= high
    assert 0.90 <= covered / 300 <= 0.98


def difference(sums: np.ndarray) -> np.ndarray:
    return (sums[:, 1] - sums[:, 0]) / sums[:, 2]


def paired_columns(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.column_stack([a, b, np.ones(len(a))])


def test_the_paired_p_value_is_near_the_t_tests_for_large_samples() -> None:
    generator = np.random.default_rng(2)
    a = generator.random(400)
    b = np.clip(a + generator.normal(0.012, 0.1, 400), 0, 1)
    result = paired_bootstrap(paired_columns(a, b), difference)
    expected = ttest_rel(b, a)
    assert result.difference == pytest.approx((b - a).mean())
    assert result.p_value == pytest.approx(expected.pvalue, abs=0.01)
    theirs = expected.confidence_interval()
    assert result.ci95 == pytest.approx((theirs.low, theirs.high), abs=0.001)


def test_equal_models_are_called_different_about_as_often_as_five_percent() -> None:
    generator = np.random.default_rng(4)
    alarms = 0
    for seed in range(400):
        a, b = generator.random((2, 50))
        alarms += paired_bootstrap(paired_columns(a, b), difference, seed=seed, draws=400).p_value < 0.05
    assert 0.03 <= alarms / 400 <= 0.09


def test_identical_answers_differ_by_nothing() -> None:
    a = np.random.default_rng(0).random(20)
    result = paired_bootstrap(paired_columns(a, a), difference, draws=200)
    assert (result.difference, result.ci95, result.p_value) == (0.0, (0.0, 0.0), 1.0)


def test_no_p_value_is_zero() -> None:
    result = paired_bootstrap(paired_columns(np.zeros(30), np.ones(30)), difference, draws=999)
    assert result.p_value == pytest.approx(2 / 1000)


@pytest.mark.parametrize("function", [bca_interval, paired_bootstrap])
def test_one_row_cannot_be_resampled(function) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="two rows"):
        function(np.ones((1, 3)), difference)
