"""Field match: how much of a JSON answer is right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunery.core.example import Example
from tunery.evaluate.answer import NotJson, fold, read_json
from tunery.evaluate.scorers import Declaration, Scorer, ScorerOptions

DECLARATION = Declaration("fields right", needs=("json",), auto=("json",))
_ABSENT = object()


class FieldMatch:
    """Share of the reference's top-level fields that the answer has with an equal value.

    Values are equal after :func:`normalised`; a field that the reference has as ``null`` may be absent.
    The answer is correct when every field that counts is equal and, unless ``fields`` were chosen, it
    has no others. An answer that is no JSON object has no field right.

    Args:
        fields: Fields that count; None for all that each reference has.
    """

    def __init__(self, fields: tuple[str, ...] | None = None) -> None:
        self._fields = fields

    def score(self, prediction: str, example: Example) -> float:
        """Return the share of fields right; 1.0 for an empty reference that was met."""
        parts = self.parts(prediction, example)
        return sum(parts.values()) / len(parts) if parts else float(self.correct(prediction, example))

    def correct(self, prediction: str, example: Example) -> bool:
        """Return whether the object is the reference's."""
        wanted, given = _object(example.reference), _object(prediction)
        if wanted is None or given is None:
            return False
        invented = set() if self._fields else {k for k in given if k not in wanted and given[k] is not None}
        return not invented and all(self.parts(prediction, example).values())

    def parts(self, prediction: str, example: Example) -> Mapping[str, float]:
        """Return field to 1.0 or 0.0."""
        wanted, given = _object(example.reference), _object(prediction)
        if wanted is None:
            return {}
        names = self._fields if self._fields is not None else tuple(wanted)
        if given is None:
            return dict.fromkeys(names, 0.0)
        return {name: float(_equal(wanted.get(name), given.get(name, _ABSENT))) for name in names}


def normalised(value: Any) -> Any:
    """Return a JSON value such that two that mean the same compare equal.

    Strings lose differences of case, white space and compatibility forms; numbers compare as numbers, so
    that 9 and 9.0 are one, but never equal a string or a boolean; lists keep their order; objects do not.
    """
    if isinstance(value, bool):
        return ("bool", value)
    if isinstance(value, str):
        return fold(value)
    if isinstance(value, list):
        return [normalised(item) for item in value]
    if isinstance(value, dict):
        return {key: normalised(item) for key, item in value.items()}
    return value


def _equal(wanted: Any, given: Any) -> bool:
    if given is _ABSENT:
        return wanted is None
    try:
        return bool(normalised(wanted) == normalised(given))
    except RecursionError:
        return False


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = read_json(text)
    except NotJson:
        return None
    return value if isinstance(value, dict) else None


def make(options: ScorerOptions) -> Scorer:
    """Return the scorer for the chosen fields, which may be all."""
    return FieldMatch(options.fields)
