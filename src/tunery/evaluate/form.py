"""Whether an answer has the form that a task asks for, told by the scorers and without a reference."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

from tunery.evaluate.metrics import declaration_of, metric_names
from tunery.evaluate.scorers import FormScorer, ScorerOptions, make_scorer

FormCheck = Callable[[str], bool]
"""An answer to whether its form is valid; never raises on what a model may write."""
_OF_LABELS, _OF_JSON = "accuracy", "valid_json"


def form_check(
    metrics: Iterable[str], *, labels: Sequence[str] | None, json_schema: Mapping[str, Any] | None
) -> FormCheck | None:
    """Return the check of an answer's form, None where none is asked for.

    A closed label set is the narrowest form there is and decides alone. Else every scorer among ``metrics``
    that checks form must call the answer valid, and where one needs JSON, it must be valid JSON.

    Args:
        metrics: What answers are measured by; names that no scorer has are passed over.
        labels: The closed label set.
        json_schema: What a JSON answer must follow; given, it asks for JSON by itself, ``{}`` for any.
    """
    options = ScorerOptions(tuple(labels) if labels is not None else None, json_schema)
    names = (_OF_LABELS,) if labels else _form_scorers(metrics, as_json=json_schema is not None)
    checks = [cast(FormScorer, make_scorer(name, options)).valid for name in names]
    if len(checks) < 2:
        return checks[0] if checks else None
    return lambda answer: all(check(answer) for check in checks)


def _form_scorers(metrics: Iterable[str], *, as_json: bool) -> tuple[str, ...]:
    declared = {name: declaration_of(name) for name in set(metrics) & set(metric_names())}
    names = {name for name, one in declared.items() if one.checks_form and "labels" not in one.needs}
    if as_json or any("json" in one.needs for one in declared.values()):
        names.add(_OF_JSON)
    return tuple(sorted(names))
