"""Findings about classes and preferences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from tests.unit.inspect.labels.test_reversed_pairs import pairs
from tests.unit.inspect.labels.test_wrong_labels import questions, swapped
from tunery.core.columns import Columns
from tunery.inspect.detectors.labels import label_findings


def columns(
    prompts: Sequence[str],
    answers: Sequence[str],
    labels: Sequence[str | None] | None = None,
    rejected: Sequence[str | None] | None = None,
) -> Columns:
    n = len(prompts)
    return Columns(
        ids=[f"ex-{i}" for i in range(n)],
        prompts=prompts,
        answers=answers,
        rejected=rejected or [None] * n,
        labels=labels or [None] * n,
        splits=["train"] * n,
        groups=[f"g{i}" for i in range(n)],
        sources=["rows.csv"] * n,
        rows=list(range(1, n + 1)),
    )


def test_more_rows_than_are_verified_are_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunery.inspect.detectors.labels._MOST_ROWS", 100)
    texts, labels = questions(200)
    (found,) = label_findings(columns(texts, labels, labels))
    assert (found.kind, found.severity, found.rows) == ("labels_not_verified", "low", ())
    assert "200 rows" in found.message


def test_rows_that_may_as_well_be_wrong_can_be_taken_out() -> None:
    texts, labels = questions(200)
    wrong, rows = swapped(labels, 60)
    found = {f.kind: f for f in label_findings(columns(texts, wrong, wrong))}
    doubtful = found["doubtful_label"]
    assert doubtful.severity == "low"
    assert set(doubtful.rows).isdisjoint(found["label_error"].rows)
    assert [(e.row, e.action) for e in doubtful.edits] == [(row, "drop") for row in doubtful.rows]
    planted = {f"ex-{i}" for i in rows}
    share = len(planted & set(doubtful.rows)) / len(doubtful.rows)
    assert share > 60 / 200  # more often wrong than any row


def test_wrong_labels_become_edits_to_the_right_ones() -> None:
    texts, labels = questions(200)
    wrong, rows = swapped(labels, 20)
    found, *others = sorted(label_findings(columns(texts, wrong, wrong)), key=lambda f: f.kind, reverse=True)
    assert {f.kind for f in others} <= {"doubtful_label"}
    assert (found.kind, found.severity) == ("label_error", "high")
    assert len(found.rows) >= 12
    assert set(found.rows) <= {f"ex-{i}" for i in rows}
    assert len(found.edits) == len(found.rows)
    for edit in found.edits:
        assert (edit.action, edit.reason) == ("set_output", "label_error")
        assert edit.value == labels[int(edit.row.removeprefix("ex-"))]
    assert "looks like" in found.evidence[0].detail


def test_clean_even_classes_have_no_finding_of_size() -> None:
    texts, labels = questions(200)
    kinds = {f.kind for f in label_findings(columns(texts, labels, labels))}
    assert kinds <= {"label_error", "doubtful_label"}


def test_small_and_large_classes_are_told() -> None:
    texts, labels = questions(60)
    labels = [*labels, *["card"] * 200, "odd"]
    texts = [*texts, *[f"card delivery {i}" for i in range(200)], "an odd question"]
    found = {f.kind: f for f in label_findings(columns(texts, labels, labels))}
    assert found["small_class"].rows == ("ex-260",)
    assert "1 odd" in found["small_class"].message
    assert "card has 215 training rows, the median class 15" in found["imbalance"].message


def test_reversed_preferences_are_shown_without_edits() -> None:
    given = pairs(120)
    turned = set(np.random.default_rng(1).choice(120, 8, replace=False).tolist())
    given = [(p, r, c) if i in turned else (p, c, r) for i, (p, c, r) in enumerate(given)]
    prompts, chosen, rejected = (list(column) for column in zip(*given, strict=True))
    (found,) = label_findings(columns(prompts, chosen, rejected=rejected))
    assert (found.kind, found.severity, found.edits) == ("disputed_preference", "medium", ())
    assert set(found.rows) == {f"ex-{i}" for i in turned}


def test_open_text_has_no_findings() -> None:
    assert label_findings(columns(["a", "b"], ["long answer", "other answer"])) == []
