"""Findings from scores: rows that a judge or the base holds for wrong, each with its number."""

from __future__ import annotations

from tests.unit.inspect.detectors.rows import clean, columns
from tunery.core.quality import RowQuality
from tunery.data.select.scores import quality_score
from tunery.inspect.detectors import scores as detector


def quality(place: int, *, ifd: float = 0.5, judge: int | None = None) -> RowQuality:
    return RowQuality(
        id=f"ex-{place}", tokens=3, loss=ifd, loss_alone=1.0, perplexity=2.0, ifd=ifd, judge=judge
    )


def test_rows_with_bad_scores_are_reported_worst_first() -> None:
    rows = columns(*clean(10))
    scores = [
        quality(0, judge=5),
        quality(1, judge=2),
        quality(2, judge=1),
        quality(3, judge=3, ifd=1.5),
        quality(4, ifd=1.2),
        quality(5),
        quality(99, judge=1),
    ]
    wrong, misleading = detector.find(rows, scores)
    assert (wrong.kind, wrong.rows) == ("judged_wrong", ("ex-2", "ex-1"))
    assert [(e.row, e.action) for e in wrong.edits] == [("ex-2", "drop"), ("ex-1", "drop")]
    assert "2 rows" in wrong.message
    assert "50.0 %" in wrong.message  # of the four that a judge saw
    assert (misleading.kind, misleading.rows) == ("misleading_prompt", ("ex-3", "ex-4"))
    assert not misleading.edits


def test_good_scores_are_no_finding() -> None:
    assert list(detector.find(columns(*clean(3)), [quality(0, judge=3), quality(1, ifd=0.99)])) == []
    assert list(detector.find(columns(*clean(3)), [])) == []


def test_a_row_judged_wrong_is_chosen_after_all_others() -> None:
    ranked = [quality(0, judge=1), quality(1, judge=2), quality(2, ifd=9.0), quality(3, judge=3)]
    assert sorted(ranked, key=quality_score) == ranked
