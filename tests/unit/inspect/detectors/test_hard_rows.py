"""Rows that stay hard: planted ones are found with their losses, a training like any other gives none."""

from __future__ import annotations

import random

from tests.unit.inspect.detectors.rows import clean, columns
from tunery.core.row_losses import stay_hard
from tunery.inspect.config import InspectConfig
from tunery.inspect.detectors import hard_rows as detector
from tunery.inspect.inspect import Given, inspect_columns


def losses(count: int, passes: int = 3, seed: int = 0) -> dict[str, list[float]]:
    """Losses that fall by half a pass, spread as losses are."""
    drawn = random.Random(seed)
    return {
        f"ex-{i}": [2.0 * 0.5**p * drawn.lognormvariate(0, 0.3) for p in range(passes)] for i in range(count)
    }


def test_planted_rows_are_found_the_hardest_first() -> None:
    seen = losses(200)
    seen["ex-7"], seen["ex-8"] = [6.0, 5.5, 5.0], [7.0, 7.5, 7.2]
    seen["ex-9"] = [6.0, 1.0, 0.4]  # hard at first, learnt then
    seen["ex-10"] = [6.0, 6.0, 0.2]  # learnt in the end
    (found,) = detector.find(columns(*clean(200)), seen)
    assert (found.kind, found.rows) == ("hard_row", ("ex-8", "ex-7"))
    assert "2 rows (1.0 % of those trained on)" in found.message
    assert "loss 7 → 7.50 → 7.20, of a usual row" in found.evidence[0].detail
    assert not found.edits
    assert found.numbers["rows"] == 2


def test_a_training_like_any_other_has_none() -> None:
    for seed in range(20):
        assert len(stay_hard(losses(300, seed=seed))) <= 1


def test_one_pass_few_rows_or_nothing_say_nothing() -> None:
    one = {**losses(200, passes=1), "ex-7": [9.0]}
    few = {**losses(10), "ex-7": [9.0, 9.0, 9.0]}
    assert stay_hard(one) == stay_hard(few) == stay_hard({}) == []


def test_a_last_pass_that_has_only_begun_does_not_count_against_the_others() -> None:
    seen = losses(200)
    seen["ex-7"] = [6.0, 6.0, 6.0, 6.0]
    seen["ex-8"] = [2.0, 1.0, 0.5, 0.4]
    assert [row.id for row in stay_hard(seen)] == ["ex-7"]


def test_a_set_that_was_learnt_to_nothing_reports_no_row_for_the_last_bit_of_loss() -> None:
    seen = {f"ex-{i}": [2.0, 0.001, 0.0001] for i in range(100)}
    seen["ex-3"] = [2.5, 0.5, 0.4]
    assert stay_hard(seen) == []


def test_inspection_takes_what_training_recorded_and_ignores_the_kind_when_asked() -> None:
    seen = {**losses(30), "ex-7": [9.0, 9.0, 9.0], "gone": [9.0, 9.0, 9.0]}
    rows = columns(*clean(30))
    kinds = {f.kind: f.rows for f in inspect_columns(rows, InspectConfig(), Given(row_losses=seen))}
    assert kinds["hard_row"] == ("ex-7",)
    ignored = inspect_columns(rows, InspectConfig(ignore=("hard_row",)), Given(row_losses=seen))
    assert "hard_row" not in {f.kind for f in ignored}
    assert "hard_row" not in {f.kind for f in inspect_columns(rows, InspectConfig())}
