"""Kappa and alpha equal the figures of scikit-learn and of krippendorff on the same rows."""

from __future__ import annotations

import krippendorff
import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from tunery.statistics.agreement import by_class, cohen_kappa, krippendorff_alpha

SCALE = ["1", "2", "3", "4", "5"]


def two_raters(seed: int, n: int = 60, noise: float = 0.8) -> tuple[list[str], list[str]]:
    draw = np.random.default_rng(seed)
    true = draw.integers(1, 6, n)
    both = [np.clip(np.rint(true + draw.normal(0, noise, n)), 1, 5).astype(int) for _ in range(2)]
    return [str(x) for x in both[0]], [str(x) for x in both[1]]


@pytest.mark.parametrize(("ordered", "weights"), [(False, None), (True, "quadratic")])
@pytest.mark.parametrize("seed", range(5))
def test_kappa_is_that_of_scikit_learn(seed: int, ordered: bool, weights: str | None) -> None:
    human, judged = two_raters(seed)
    found = cohen_kappa(human, judged, SCALE, ordered=ordered)
    assert found is not None
    assert found.value == pytest.approx(cohen_kappa_score(human, judged, labels=SCALE, weights=weights))
    assert found.ci95.low < found.value < found.ci95.high


def test_the_interval_of_kappa_covers_what_many_rows_show() -> None:
    human, judged = two_raters(1, n=20_000)
    truth = cohen_kappa_score(human, judged, weights="quadratic")
    covered = 0
    for seed in range(100):
        found = cohen_kappa(*two_raters(seed + 10, n=80), SCALE, ordered=True)
        assert found is not None
        covered += found.ci95.low <= truth <= found.ci95.high
    assert covered >= 88


def test_few_rows_without_a_miss_do_not_show_perfect_agreement() -> None:
    few = cohen_kappa(["a", "b"] * 3, ["a", "b"] * 3, ["a", "b"])
    many = cohen_kappa(["a", "b"] * 100, ["a", "b"] * 100, ["a", "b"])
    assert few is not None
    assert many is not None
    assert few.value == many.value == 1
    assert few.ci95.low < 0.4 < 0.9 < many.ci95.low


def test_one_class_alone_shows_no_agreement() -> None:
    assert cohen_kappa(["a"] * 9, ["a"] * 9, ["a", "b"]) is None
    constant = cohen_kappa(["a", "b"] * 20, ["a"] * 40, ["a", "b"])
    assert constant is not None
    assert constant.value == 0


def test_sensitivity_and_specificity_are_by_class() -> None:
    human = ["a"] * 8 + ["b"] * 4 + ["tie"] * 2
    judged = ["a"] * 6 + ["b"] * 2 + ["b"] * 3 + ["a"] + ["tie", "a"]
    a, b, tie, none = by_class(human, judged, ["a", "b", "tie", "none"])
    assert (a.support, a.sensitivity, a.specificity) == (8, 0.75, 1 - 2 / 6)
    assert a.judged_as == {"a": 6, "b": 2}
    assert (b.sensitivity, b.specificity) == (0.75, 0.8)
    assert (tie.sensitivity, tie.specificity) == (0.5, 1.0)
    assert (none.support, none.sensitivity, none.specificity) == (0, None, 1.0)


@pytest.mark.parametrize("seed", range(6))
def test_alpha_is_that_of_krippendorff(seed: int) -> None:
    draw = np.random.default_rng(seed)
    true = draw.integers(1, 6, 40)
    table = np.clip(np.rint(true + draw.normal(0, 0.9, (3, 40))), 1, 5)
    table[draw.random(table.shape) < 0.2] = np.nan  # not every reviewer saw every row
    ratings = [[int(x) for x in column if not np.isnan(x)] for column in table.T]
    found = krippendorff_alpha(ratings, (1, 5))
    assert found is not None
    wanted = krippendorff.alpha(
        reliability_data=table, level_of_measurement="ordinal", value_domain=range(1, 6)
    )
    assert found.value == pytest.approx(wanted)
    assert found.ci95.low < found.value < found.ci95.high


def test_alpha_is_not_given_where_nothing_shows_it() -> None:
    assert krippendorff_alpha([[5, 5]] * 20, (1, 5)) is None
    assert krippendorff_alpha([[5], [4], [3, 2]], (1, 5)) is None
