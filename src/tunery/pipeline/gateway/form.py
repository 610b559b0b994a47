"""Which form an answer is expected to have, and the check of it: the scorers' own."""

from __future__ import annotations

from functools import lru_cache

from tunery.core.engine import Constraint
from tunery.core.registry import ModelVersion
from tunery.core.tool_text import read_answer
from tunery.evaluate.form import FormCheck, form_check


class AnswerForms:
    """The checks of the forms that versions were trained to answer in, each made once."""

    def __init__(self) -> None:
        self._of_versions: dict[tuple[str, str], FormCheck | None] = {}

    def check(self, version: ModelVersion | None, constraint: Constraint | None) -> FormCheck | None:
        """Return the check of an answer's form; None where no form is expected.

        What the request asks for counts before what the version was trained to give.

        Args:
            version: What answers; None for a base alone.
            constraint: What the request holds its answer to.
        """
        if constraint is not None:
            return _of_constraint(constraint)
        if version is None:
            return None
        # With the evaluation's id, because a deleted version's number may be given to another.
        key = (version.ref, version.evaluation_id)
        if key not in self._of_versions:
            schema = (version.config.get("evaluate") or {}).get("json_schema")
            self._of_versions[key] = form_check(version.metrics, labels=version.labels, json_schema=schema)
        return self._of_versions[key]


def _of_constraint(constraint: Constraint) -> FormCheck | None:
    if constraint.labels is not None:
        instead = _labels(constraint.labels)
    else:
        instead = _any_json() if constraint.json_schema is not None else None
    calls = constraint.calls
    if calls is None or (instead is None and not calls.required):
        return instead
    return lambda text: bool(read_answer(text).calls) or (instead is not None and instead(text))


@lru_cache(maxsize=64)
def _labels(labels: tuple[str, ...]) -> FormCheck | None:
    return form_check((), labels=labels, json_schema=None)


@lru_cache(maxsize=1)
def _any_json() -> FormCheck | None:
    # The engine follows a request's schema token by token, so that all that can be amiss is an answer cut
    # short, which does not parse. Checking the schema once more would let a client's "pattern", which Python
    # matches by backtracking, hold up the whole server.
    return form_check((), labels=None, json_schema={})
