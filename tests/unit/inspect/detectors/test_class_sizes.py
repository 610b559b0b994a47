"""Findings about the sizes of classes."""

from __future__ import annotations

from tests.unit.inspect.detectors.rows import columns
from tests.unit.inspect.labels.test_label_issues import questions
from tunery.inspect.detectors import class_sizes


def test_even_classes_have_no_finding_of_size() -> None:
    texts, labels = questions(200)
    assert list(class_sizes.find(columns(texts, labels), labels)) == []


def test_small_and_large_classes_are_reported() -> None:
    texts, labels = questions(60)
    labels = [*labels, *["card"] * 200, "odd"]
    texts = [*texts, *[f"card delivery {i}" for i in range(200)], "an odd question"]
    found = {f.kind: f for f in class_sizes.find(columns(texts, labels), labels)}
    assert found["small_class"].rows == ("ex-260",)
    assert "1 odd" in found["small_class"].message
    assert "card has 215 training rows, the median class 15" in found["imbalance"].message
