"""OpenAI's templates: ``{{ item.x }}`` and ``{{ sample.output_text }}``, filled from a row and its answer."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from tunery.core.example import Example
from tunery.text.answer import NotJson, read_json

_PLACE = re.compile(r"\{\{\s*([^{}]*?)\s*\}\}")
_STEP = re.compile(r"[^.\[\]]+")
_ABSENT = object()


class NoValue(Exception):  # noqa: N818 - an outcome that counts as a grader's error
    """A template names what a row or its answer does not have; says what."""


def item_of(example: Example) -> dict[str, Any]:
    """Return a row as ``item``: its own columns, and what every row has beneath them."""
    turns = [{"role": turn.role, "content": turn.content} for turn in example.prompt]
    own = {
        "id": example.id,
        "messages": turns,
        "input": turns[-1]["content"] if turns else "",
        "prompt": turns[-1]["content"] if turns else "",
        "reference": example.reference,
        "reference_answer": example.reference,
        "output": example.reference,
        "label": example.label if example.label is not None else example.reference,
    }
    return {**own, **{key: value for key, value in example.metadata.items() if _is_json(value)}}


def sample_of(answer: str) -> dict[str, Any]:
    """Return an answer as ``sample``; ``output_json`` is None where it is no JSON."""
    try:
        value = read_json(answer)
    except NotJson:
        value = None
    message = {"role": "assistant", "content": answer}
    return {"output_text": answer, "output_json": value, "choices": [{"message": message}]}


def fill(template: str, sample: Mapping[str, Any], item: Mapping[str, Any]) -> str:
    """Return a template with its places filled, once: what a value holds is text and no template.

    Raises:
        NoValue: A place names what is not there.
    """
    return _PLACE.sub(lambda found: _text(_value(found[1], {"sample": sample, "item": item})), template)


def places(template: str) -> Iterable[str]:
    """Yield what a template names."""
    return (found[1] for found in _PLACE.finditer(template))


def has(place: str, item: Mapping[str, Any]) -> bool:
    """Return whether a row has what a place names; what an answer may have is not known before."""
    if place.split(".", 1)[0].strip() == "sample":
        return place.partition(".")[2].split(".")[0].split("[")[0] in sample_of("{}")
    try:
        _value(place, {"item": item})
    except NoValue:
        return False
    return True


def _value(place: str, names: Mapping[str, Any]) -> Any:
    value: Any = names
    for step in _STEP.findall(place):
        if isinstance(value, str):
            value = _parsed(value)
        if isinstance(value, Mapping):
            value = value.get(step, _ABSENT)
        elif isinstance(value, list) and step.lstrip("-").isdigit() and -len(value) <= int(step) < len(value):
            value = value[int(step)]
        else:
            value = _ABSENT
        if value is _ABSENT:
            raise NoValue(f"there is no {place}")
    return value


def _parsed(text: str) -> Any:
    """Return the JSON that a column holds as text, as references do; None where it holds none."""
    try:
        return read_json(text)
    except NotJson:
        return None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _is_json(value: Any) -> bool:
    return value is None or isinstance(value, (str, int, float, bool, list, tuple, Mapping))
