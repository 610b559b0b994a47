"""Valid JSON: a program can read the answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunery.core.example import Example
from tunery.evaluate.scorers import Declaration, Scorer, ScorerOptions
from tunery.text.answer import NotJson, read_json

DECLARATION = Declaration("valid JSON", checks_form=True, auto=("json",))


class ValidJson:
    """1 when the answer as it stands is one JSON value that follows the schema, if there is one.

    The reference plays no part: valid and wrong is still valid.
    """

    def __init__(self, json_schema: Mapping[str, Any] | None) -> None:
        self._validator = _validator(json_schema) if json_schema else None

    def score(self, prediction: str, example: Example) -> float:
        """Return 1.0 or 0.0."""
        return float(self.valid(prediction))

    def correct(self, prediction: str, example: Example) -> bool:
        """Return whether the answer is valid."""
        return self.valid(prediction)

    def valid(self, prediction: str) -> bool:
        """Return whether the answer parses and follows the schema."""
        try:
            value = read_json(prediction)
            return self._validator is None or bool(self._validator.is_valid(value))
        except (NotJson, RecursionError):  # a recursive schema on a deep answer
            return False


def _validator(json_schema: Mapping[str, Any]) -> Any:
    import jsonschema  # type: ignore[import-untyped]  # ships no types
    from referencing import Registry

    # An empty registry: a "$ref" to elsewhere is never fetched.
    kind = jsonschema.validators.validator_for(json_schema, default=jsonschema.Draft202012Validator)
    return kind(dict(json_schema), registry=Registry())


def make(options: ScorerOptions) -> Scorer:
    """Return the scorer for the task's schema, which may be none."""
    return ValidJson(options.json_schema)
