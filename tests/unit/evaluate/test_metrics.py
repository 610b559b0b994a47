"""Metrics equal scikit-learn's, and their intervals keep their promise."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, f1_score, precision_recall_fscore_support

from tests.unit.evaluate.judged import judged, macro_f1
from tunery.core.evaluation import Metric
from tunery.core.statistics import wilson_interval
from tunery.evaluate.corpus import corpus_names
from tunery.evaluate.metrics import (
    class_scores,
    corpus_metric,
    mean_metric,
    metric_names,
    worst_confusions,
)
from tunery.evaluate.scorers import scorer_names

answers = st.lists(
    st.tuples(st.sampled_from("abcd"), st.sampled_from([*"abcde", "(no label)"])), min_size=1, max_size=60
)


def perplexity(*rows: tuple[float, float]) -> Metric | None:
    logprob, tokens = zip(*rows, strict=True) if rows else ((), ())
    return corpus_metric("perplexity", judged([""] * len(rows), logprob=logprob, completion_tokens=tokens))


@given(answers)
def test_macro_f1_equals_scikit_learns(pairs: list[tuple[str, str]]) -> None:
    references, predictions = [list(side) for side in zip(*pairs, strict=True)]
    expected = f1_score(
        references, predictions, labels=sorted(set(references)), average="macro", zero_division=0
    )
    assert macro_f1(references, predictions).value == pytest.approx(expected)


@given(answers)
def test_the_class_table_equals_scikit_learns(pairs: list[tuple[str, str]]) -> None:
    references, predictions = [list(side) for side in zip(*pairs, strict=True)]
    labels = sorted(set(references))
    expected = precision_recall_fscore_support(references, predictions, labels=labels, zero_division=0)
    table = class_scores(references, predictions)
    assert [row.label for row in table] == labels
    found = [(row.precision, row.recall, row.f1, row.support) for row in table]
    assert np.array(found) == pytest.approx(np.array(expected, dtype=float).T)


@given(answers)
def test_the_confusions_are_the_matrix_off_its_diagonal(pairs: list[tuple[str, str]]) -> None:
    references, predictions = [list(side) for side in zip(*pairs, strict=True)]
    labels = sorted({*references, *predictions, "never"})  # scikit-learn warns of a 1 × 1 matrix
    matrix = confusion_matrix(references, predictions, labels=labels)
    expected = {
        (r, p): matrix[i, j]
        for i, r in enumerate(labels)
        for j, p in enumerate(labels)
        if i != j and matrix[i, j]
    }
    found = worst_confusions(references, predictions)
    assert all(expected[c.reference, c.prediction] == c.count for c in found)
    assert sorted((c.count for c in found), reverse=True) == sorted(expected.values(), reverse=True)[:20]
    assert [c.count for c in found] == sorted((c.count for c in found), reverse=True)


def test_macro_f1_is_drawn_down_by_rare_classes_and_accuracy_is_not() -> None:
    references = ["common"] * 90 + ["rare"] * 10
    metric = macro_f1(references, ["common"] * 100)
    assert metric.value == pytest.approx((2 * 90 / 190) / 2)


def test_macro_f1s_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(1)
    labels = np.array(list("abcde"))
    confusion = np.full((5, 5), 0.06) + np.eye(5) * 0.70
    confusion[4] = [0.3, 0.1, 0.1, 0.1, 0.4]
    shares = np.array([0.3, 0.25, 0.2, 0.15, 0.1])
    joint = confusion * shares[:, None]
    truth = float(np.mean(2 * np.diag(joint) / (joint.sum(0) + joint.sum(1))))
    covered = 0
    for seed in range(150):
        cells = generator.choice(25, size=150, p=joint.ravel() / joint.sum())
        low, high = macro_f1(list(labels[cells // 5]), list(labels[cells % 5]), seed=seed).ci95
        covered += low <= truth <= high
    assert 0.90 <= covered / 150 <= 0.99


def test_right_and_wrong_get_wilsons_interval() -> None:
    metric = mean_metric("exact_match", [1.0] * 30 + [0.0] * 10)
    assert (metric.value, metric.n, metric.method) == (0.75, 40, "wilson")
    assert metric.ci95 == wilson_interval(30, 40)


def test_graded_scores_get_a_bootstrap_around_their_mean() -> None:
    values = [0.25, 0.5, 0.75, 1.0] * 10
    metric = mean_metric("field_match", values)
    assert metric.value == pytest.approx(0.625)
    assert metric.method == "bootstrap"
    spread = np.std(values) / math.sqrt(40)
    assert metric.ci95 == pytest.approx((0.625 - 1.96 * spread, 0.625 + 1.96 * spread), abs=0.02)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_equal_scores_on_few_rows_are_not_called_certain(value: float) -> None:
    low, high = mean_metric("field_match", [value] * 5).ci95
    assert high - low > 0.3
    assert low <= value <= high


def test_all_right_on_few_rows_is_not_called_certain_by_macro_f1() -> None:
    metric = macro_f1(["a", "b"] * 5, ["a", "b"] * 5)
    assert metric.value == 1.0
    assert metric.ci95 == wilson_interval(10, 10)


def test_one_row_is_enough_for_an_interval_that_says_next_to_nothing() -> None:
    assert mean_metric("exact_match", [1.0]).ci95[0] < 0.25
    assert macro_f1(["a"], ["a"]).ci95[0] < 0.25


@pytest.mark.parametrize("values", [[], [1.5], [-0.1], [math.nan]])
def test_scores_that_are_none_are_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        mean_metric("x", values)


def test_perplexity_pools_tokens_over_rows() -> None:
    metric = perplexity((-2.0, 4), (-9.0, 6), (-1.0, 5))
    assert metric is not None
    assert metric.value == pytest.approx(math.exp(12 / 15))
    assert metric.n == 3
    assert metric.ci95[0] < metric.value < metric.ci95[1]


@pytest.mark.parametrize("rows", [[], [(-1.0, 2)], [(-1.0, 2), (math.nan, 2)], [(-1e6, 2), (-1e6, 2)]])
def test_a_perplexity_that_is_no_number_is_no_metric(rows: list[tuple[float, float]]) -> None:
    assert perplexity(*rows) is None


def test_every_scorer_and_every_corpus_metric_is_a_metric() -> None:
    others = {
        "preference_accuracy",
        "judge_win_rate",
        "pass_at_k",
        "repeat_agreement",
        "cost_per_1k",
        "exposure",
    }
    assert set(metric_names()) == {*scorer_names(), *corpus_names(), *others}
    assert {"macro_f1", "perplexity"} <= set(corpus_names())
