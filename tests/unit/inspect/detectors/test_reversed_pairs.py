"""Findings about preference pairs."""

from __future__ import annotations

import numpy as np

from tests.unit.inspect.detectors.rows import columns
from tests.unit.inspect.labels.test_reversed_pairs import pairs
from tunery.inspect.detectors import reversed_pairs


def test_reversed_preferences_are_shown_without_edits() -> None:
    given = pairs(120)
    turned = set(np.random.default_rng(1).choice(120, 8, replace=False).tolist())
    given = [(p, r, c) if i in turned else (p, c, r) for i, (p, c, r) in enumerate(given)]
    prompts, chosen, rejected = (list(column) for column in zip(*given, strict=True))
    (found,) = reversed_pairs.find(columns(prompts, chosen), rejected)
    assert (found.kind, found.severity, found.edits) == ("disputed_preference", "medium", ())
    assert set(found.rows) == {f"ex-{i}" for i in turned}
