"""Findings about labels and preferences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from tests.unit.inspect.detectors.rows import columns
from tests.unit.inspect.labels.test_label_issues import questions, swapped
from tests.unit.inspect.labels.test_reversed_pairs import pairs
from tunery.inspect.detectors import label_issues


def test_more_rows_than_are_verified_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunery.inspect.detectors.label_issues.MOST_ROWS", 100)
    texts, labels = questions(200)
    (found,) = label_issues.find(columns(texts, labels), labels)
    assert (found.kind, found.severity, found.rows) == ("labels_not_verified", "low", ())
    assert "200 rows" in found.message


def test_rows_that_may_as_well_be_wrong_can_be_taken_out() -> None:
    texts, labels = questions(200)
    wrong, rows = swapped(labels, 60)
    found = {f.kind: f for f in label_issues.find(columns(texts, wrong), wrong)}
    doubtful = found["doubtful_label"]
    assert doubtful.severity == "low"
    assert set(doubtful.rows).isdisjoint(found["label_error"].rows)
    assert [(e.row, e.action) for e in doubtful.edits] == [(row, "drop") for row in doubtful.rows]
    planted = {f"ex-{i}" for i in rows}
    share = len(planted & set(doubtful.rows)) / len(doubtful.rows)
    assert share > 60 / 200  # more often wrong than any row


def test_label_issues_become_edits_to_the_right_ones() -> None:
    texts, labels = questions(200)
    wrong, rows = swapped(labels, 20)
    found, *others = sorted(
        label_issues.find(columns(texts, wrong), wrong), key=lambda f: f.kind, reverse=True
    )
    assert {f.kind for f in others} <= {"doubtful_label"}
    assert (found.kind, found.severity) == ("label_error", "high")
    assert len(found.rows) >= 12
    assert set(found.rows) <= {f"ex-{i}" for i in rows}
    assert len(found.edits) == len(found.rows)
    for edit in found.edits:
        assert (edit.action, edit.reason) == ("set_output", "label_error")
        assert edit.value == labels[int(edit.row.removeprefix("ex-"))]
    assert "looks like" in found.evidence[0].detail


def test_reversed_preferences_are_shown_without_edits() -> None:
    given = pairs(120)
    turned = set(np.random.default_rng(1).choice(120, 8, replace=False).tolist())
    given = [(p, r, c) if i in turned else (p, c, r) for i, (p, c, r) in enumerate(given)]
    prompts, chosen, rejected = (list(column) for column in zip(*given, strict=True))
    (found,) = label_issues.find(columns(prompts, chosen), rejected=rejected)
    assert (found.kind, found.severity, found.edits) == ("disputed_preference", "medium", ())
    assert set(found.rows) == {f"ex-{i}" for i in turned}


def test_what_is_ignored_altogether_is_not_looked_for() -> None:
    def encoder(texts: Sequence[str]) -> npt.NDArray[np.float32]:
        raise AssertionError("minutes of work for nothing")

    texts, labels = questions(200)
    ignore = ("label_error", "doubtful_label", "labels_not_verified")
    assert list(label_issues.find(columns(texts, labels), labels, encoder=encoder, ignore=ignore)) == []
