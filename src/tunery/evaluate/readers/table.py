"""Rows with the column names that people use: our own prediction files, and any table."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tunery.evaluate.readers import Reader
from tunery.evaluate.readers.files import Numbered

NAMES: Mapping[str, tuple[str, ...]] = {
    key: tuple(names.split())
    for key, names in {
        "id": "id example_id sample_id question_id row_id doc_id custom_id uid idx index",
        "prediction": "prediction predicted output response completion generation generated_text",
        "reference": "reference target expected expected_output ground_truth gold ideal label answer",
        "correct": "correct is_correct passed pass success",
        "cluster": "cluster group",
    }.items()
}
"""What each key may be called; the first that a row has is taken."""
_WORDS = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}


def _rows(values: Sequence[Numbered]) -> Iterator[Numbered]:
    for number, value in values:
        yield Numbered(number, _named(value) if isinstance(value, Mapping) else value)


def _named(row: Mapping[str, Any]) -> dict[str, Any]:
    columns = {str(name).strip().lower(): value for name, value in row.items()}
    found = {
        key: next((columns[name] for name in names if name in columns), None) for key, names in NAMES.items()
    }
    given = columns.get("scores")
    scores = dict(given) if isinstance(given, Mapping) else {}
    if columns.get("score") not in (None, ""):
        scores["score"] = columns["score"]
    found["correct"] = _right_or_wrong(found["correct"])
    return {**found, "scores": scores, "cluster": None if found["cluster"] == "" else found["cluster"]}


def _right_or_wrong(value: Any) -> Any:
    """Return a truth value where tables write one as a word or a number; an empty cell is none."""
    if isinstance(value, str):
        return None if not value.strip() else _WORDS.get(value.strip().lower(), value)
    if isinstance(value, float):
        return None if math.isnan(value) else int(value) if value in (0.0, 1.0) else value
    return value


READER = Reader(recognises=lambda _: True, rows=_rows)
