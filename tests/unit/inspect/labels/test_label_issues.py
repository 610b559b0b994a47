"""Wrong labels are found among right ones."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from tunery.core.errors import ConfigError
from tunery.inspect.labels import find_label_issues
from tunery.inspect.labels.out_of_fold import folds, leave_one_out, linear_probabilities, pooled

_SUBJECTS = {
    "card": ("card", "delivery", "post", "envelope", "arrive"),
    "transfer": ("transfer", "recipient", "bank", "iban", "sent"),
    "rate": ("exchange", "rate", "currency", "euro", "pound"),
    "pin": ("pin", "code", "forgot", "blocked", "digits"),
}


def questions(rows: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """Return short texts of four subjects, each made of its own words and of words that say nothing."""
    rng = np.random.default_rng(seed)
    filler = ("please", "help", "what", "about", "my", "today", "why", "the", "is", "problem")
    texts, labels = [], []
    for i in range(rows):
        label = list(_SUBJECTS)[i % len(_SUBJECTS)]
        words = [*rng.choice(_SUBJECTS[label], 3), *rng.choice(filler, 4)]
        texts.append(" ".join(rng.permutation(words)))
        labels.append(label)
    return texts, labels


def swapped(labels: list[str], count: int, seed: int = 1) -> tuple[list[str], set[int]]:
    names = sorted(set(labels))
    chosen = np.random.default_rng(seed).choice(len(labels), count, replace=False).tolist()
    wrong = list(labels)
    for i in chosen:
        wrong[i] = names[(names.index(labels[i]) + 1) % len(names)]
    return wrong, set(chosen)


def test_swapped_labels_come_first_with_the_right_suggestion() -> None:
    texts, labels = questions(200)
    wrong, rows = swapped(labels, 20)
    found = find_label_issues(texts, wrong, count=20)
    assert {s.row for s in found} == rows
    assert all(s.suggested == labels[s.row] and s.given == wrong[s.row] for s in found)


def test_the_number_returned_is_near_the_number_of_errors_and_all_are_errors() -> None:
    texts, labels = questions(200)
    wrong, rows = swapped(labels, 20)
    found = {s.row for s in find_label_issues(texts, wrong)}
    assert found <= rows
    assert len(found) >= 12


def test_scores_fall_and_lie_between_nought_and_one() -> None:
    texts, labels = questions(120)
    wrong, _ = swapped(labels, 10)
    scores = [s.score for s in find_label_issues(texts, wrong, count=120)]
    assert len(scores) == 120
    assert scores == sorted(scores, reverse=True)
    assert 0 <= scores[-1] <= scores[0] <= 1


def test_clean_labels_raise_next_to_no_suspicion() -> None:
    texts, labels = questions(200)
    assert len(find_label_issues(texts, labels)) <= 2


def test_the_same_rows_give_the_same_result() -> None:
    texts, labels = questions(100)
    wrong, _ = swapped(labels, 8)
    assert find_label_issues(texts, wrong) == find_label_issues(texts, wrong)


def test_an_encoder_decides_where_words_cannot() -> None:
    # Every text is a word of its own, so only the vectors know the classes.
    names = ["a", "b"] * 40
    vectors = {f"w{i}": np.eye(2, dtype=np.float32)[i % 2] for i in range(80)}
    wrong = list(names)
    wrong[10] = "b"
    found = find_label_issues(
        list(vectors), wrong, encoder=lambda texts: np.stack([vectors[t] for t in texts]), count=1
    )
    assert (found[0].row, found[0].suggested) == (10, "a")


def test_tiny_classes_are_left_alone() -> None:
    texts, labels = questions(80)
    found = find_label_issues([*texts, "odd one", "odd two"], [*labels, "odd", "odd"], count=82)
    assert len(found) == 80
    assert all("odd" not in (s.given, s.suggested) for s in found)
    assert find_label_issues(["a b", "c d", "e f"], ["x", "x", "y"]) == []
    assert find_label_issues([], []) == []


def test_unusable_input_is_refused() -> None:
    with pytest.raises(ValueError, match="2 texts but 1 labels"):
        find_label_issues(["a", "b"], ["x"])
    with pytest.raises(ConfigError, match="one class only: all 2 rows have the label 'x'"):
        find_label_issues(["a", "b"], ["x", "x"])
    with pytest.raises(ConfigError, match="none of the 6 texts has a letter"):
        find_label_issues([" "] * 6, ["x", "y"] * 3)


def test_folds_hold_each_class_evenly() -> None:
    classes = np.array([0] * 10 + [1] * 7 + [2] * 3)
    fold = folds(classes)
    counts = np.array([[((fold == f) & (classes == c)).sum() for f in range(5)] for c in range(3)])
    assert (counts.max(axis=1) - counts.min(axis=1) <= 1).all()


def test_leaving_one_out_equals_fitting_without_the_row() -> None:
    rng = np.random.default_rng(0)
    features, targets = rng.normal(size=(30, 4)), rng.normal(size=(30, 2))
    closed = leave_one_out(features, targets, 0.7)
    for i in (0, 13, 29):
        rest = np.arange(30) != i
        model = Ridge(alpha=0.7, fit_intercept=False).fit(features[rest], targets[rest])
        np.testing.assert_allclose(closed[i], model.predict(features[i : i + 1])[0], rtol=1e-8)


def test_out_of_fold_probabilities_never_saw_the_label_they_judge() -> None:
    # Labels without any pattern: who had seen them would do better than chance.
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(400, 20)).astype(np.float32)
    classes = rng.integers(0, 2, 400)
    right = (linear_probabilities(vectors, classes, inverse_ridge=100.0).argmax(axis=1) == classes).mean()
    assert right < 0.58


def test_pooling_equal_probabilities_gives_them_back() -> None:
    probabilities = np.array([[0.2, 0.8], [0.6, 0.4]], dtype=np.float32)
    np.testing.assert_allclose(pooled([probabilities, probabilities], 1.0), probabilities, atol=1e-6)
