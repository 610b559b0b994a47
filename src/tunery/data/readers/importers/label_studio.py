"""Label Studio: annotated tasks as its JSON export has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tunery.data.config import SourceConfig
from tunery.data.readers.importers.annotations import reviewed_row
from tunery.data.rows.refused import Refused, broken
from tunery.data.rows.row import RawRow

_ANSWERS = {"choices": "choices", "textarea": "text", "rating": "rating", "number": "number"}
"""Type of a result to the key of its value. Regions, boxes and rankings mark places, they answer nothing."""


def recognises(values: Mapping[str, Any]) -> bool:
    """Tell whether a row is a task of Label Studio."""
    return isinstance(values.get("data"), Mapping) and isinstance(_annotations(values), list)


def convert(rows: Iterator[RawRow], settings: SourceConfig) -> Iterator[RawRow]:
    """Yield one row for each task: its data, and what annotators chose or wrote, by ``from_name``.

    Cancelled annotations do not count; where one is marked as ground truth, only such count. Predictions come
    from models and are never taken for an answer. Of several annotators the majority decides, and a task they
    are divided on is dropped.

    Args:
        rows: Tasks of an export in the format JSON, not JSON-MIN, which does not say who answered.
        settings: Of the source; its columns name keys of ``data`` and names of controls.

    Source:
        https://labelstud.io/guide/task_format (tasks and annotations),
        https://labelstud.io/tags/choices and https://labelstud.io/tags/textarea (results)
    """
    for row in rows:
        if isinstance(row.values, Refused):
            yield row
        elif not recognises(row.values):
            yield broken(row.number, "a task needs data and a list of annotations", row.values)
        else:
            answers = _answers(_annotations(row.values))
            found = reviewed_row(row.number, row.values["data"], answers, settings)
            yield found._replace(filled=row.filled)


def _annotations(values: Mapping[str, Any]) -> Any:
    return values["annotations"] if "annotations" in values else values.get("completions")


def _answers(annotations: list[Any]) -> Iterator[tuple[str, Any]]:
    given = [
        a
        for a in annotations
        if isinstance(a, Mapping) and not a.get("was_cancelled") and isinstance(a.get("result"), list)
    ]
    for annotation in [a for a in given if a.get("ground_truth")] or given:
        yield from _of_one(annotation["result"]).items()


def _of_one(results: list[Any]) -> dict[str, Any]:
    """Return what one annotator answered, by the control's name."""
    answers: dict[str, Any] = {}
    for result in results:
        if not isinstance(result, Mapping) or not isinstance(result.get("value"), Mapping):
            continue
        kind, name = result.get("type"), result.get("from_name")
        if not isinstance(kind, str) or kind not in _ANSWERS or not isinstance(name, str):
            continue
        value = result["value"].get(_ANSWERS[kind])
        if kind == "textarea" and isinstance(value, list):
            value = "\n".join(str(v) for v in value)
        elif kind == "choices" and isinstance(value, list) and len(value) == 1:
            value = value[0]
        if value not in (None, "", []):
            answers[name] = value
    return answers
