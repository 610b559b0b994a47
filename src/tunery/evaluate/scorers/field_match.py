"""Field match: how much of a JSON answer is right."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from tunery.core.example import Example
from tunery.evaluate.scorers import Declaration, Scorer, ScorerOptions
from tunery.text.answer import NotJson, fold, read_json, squeeze

DECLARATION = Declaration("fields right", needs=("json",), auto=("json",))
_ABSENT = object()


class FieldMatch:
    """Share of the reference's top-level fields that the answer has with an equal value.

    Values are equal after :func:`normalised`, or as they are where that would confuse two values of the field
    that the references or the schema have, such as ``MB`` and ``Mb``; a field that the reference has as
    ``null`` may be absent. The answer is correct when every field that counts is equal and, unless ``fields``
    were chosen, it has no others. An answer that is no JSON object has no field right.

    Args:
        fields: Fields that count; None for all that each reference has.
        told_apart: Field to the folded strings that stand for several.
    """

    def __init__(
        self, fields: tuple[str, ...] | None = None, told_apart: Mapping[str, Collection[str]] | None = None
    ) -> None:
        self._fields = fields
        self._told_apart = told_apart or {}

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
        return {name: float(self._equal(name, wanted.get(name), given.get(name, _ABSENT))) for name in names}

    def _equal(self, name: str, wanted: Any, given: Any) -> bool:
        if given is _ABSENT:
            return wanted is None
        apart = self._told_apart.get(name, ())
        try:
            return bool(normalised(wanted, apart) == normalised(given, apart))
        except RecursionError:
            return False


def normalised(value: Any, told_apart: Collection[str] = ()) -> Any:
    """Return a JSON value such that two that mean the same compare equal.

    Strings lose differences of case, white space and the way letters are written; numbers compare as numbers,
    so that 9 and 9.0 are one, but never equal a string or a boolean; lists keep their order; objects do not.

    Args:
        value: Of JSON.
        told_apart: What :func:`~tunery.text.answer.fold` makes of strings that must be the same as they
            are, because the references hold another one that it would take for the same.
    """
    if isinstance(value, bool):
        return ("bool", value)
    if isinstance(value, str):
        folded = fold(value)
        return ("as it is", squeeze(value)) if folded in told_apart else folded
    if isinstance(value, list):
        return [normalised(item, told_apart) for item in value]
    if isinstance(value, dict):
        return {key: normalised(item, told_apart) for key, item in value.items()}
    return value


def _confusable(values: Iterable[Any]) -> frozenset[str]:
    """Return what several different strings among values fold to."""
    found: dict[str, set[str]] = defaultdict(set)
    for value in values:
        for text in _strings(value):
            found[fold(text)].add(squeeze(text))
    return frozenset(folded for folded, texts in found.items() if len(texts) > 1)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _strings(inner)


def _values_by_field(references: Iterable[str], schema: Mapping[str, Any] | None) -> dict[str, list[Any]]:
    """Return the values that each field may have: those of the references and those that the schema lists."""
    found: dict[str, list[Any]] = defaultdict(list)
    for reference in references:
        for name, value in (_object(reference) or {}).items():
            found[name].append(value)
    properties = (schema or {}).get("properties")
    for name, about in properties.items() if isinstance(properties, Mapping) else ():
        if isinstance(about, Mapping) and isinstance(about.get("enum"), list):
            found[name].extend(about["enum"])
    return found


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = read_json(text)
    except NotJson:
        return None
    return value if isinstance(value, dict) else None


def make(options: ScorerOptions) -> Scorer:
    """Return the scorer for the chosen fields, which may be all."""
    values = _values_by_field(options.references, options.json_schema)
    return FieldMatch(options.fields, {name: _confusable(found) for name, found in values.items()})
