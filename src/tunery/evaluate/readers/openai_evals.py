"""Output items of OpenAI's evals: the list that its API returns, or one item a line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tunery.core.errors import ConfigError
from tunery.core.ids import canonical_json
from tunery.evaluate.readers import Reader
from tunery.evaluate.readers.files import Numbered
from tunery.evaluate.readers.table import NAMES

_ITEM = "eval.run.output_item"
_MADE = re.compile(r"-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
"""What the service puts behind a grader's name."""
_REFERENCES = (*NAMES["reference"], "correct_label", "correct_answer")


def _rows(values: Sequence[Numbered]) -> Iterator[Numbered]:
    items = [(number, value) for number, value in values if isinstance(value, Mapping)]
    if "data" in items[0][1]:
        if any(page.get("has_more") for _, page in items[-1:]):
            raise ConfigError(
                "these output items are a page, and there are more (has_more is true)",
                hint="write every page of evals.runs.output_items.list() to one file, an item a line",
            )
        data = [item for _, page in items for item in page.get("data") or ()]
        items = list(enumerate(data, 1))
    for number, item in items:
        yield Numbered(number, _row(item))


def _row(item: Mapping[str, Any]) -> dict[str, Any]:
    asked = item.get("datasource_item") or {}
    asked = asked.get("item", asked) if isinstance(asked, Mapping) else {}
    sample = item.get("sample") or {}
    said = [turn.get("content") for turn in sample.get("output") or () if turn.get("role") == "assistant"]
    results = [result for result in item.get("results") or () if isinstance(result, Mapping)]
    status = item.get("status")
    return {
        "id": item.get("datasource_item_id"),
        "prediction": str(said[-1] or "") if said else "",
        "reference": next((asked[name] for name in _REFERENCES if asked.get(name) is not None), None),
        # An item that ended in an error counts as wrong.
        "correct": status == "pass" if status in ("pass", "fail", "error") else None,
        "scores": {
            _MADE.sub("", str(r.get("name"))): r["score"] for r in results if r.get("score") is not None
        },
        "asked": canonical_json(asked),
    }


def _recognises(first: Mapping[str, Any]) -> bool:
    data = first.get("data")
    return first.get("object") == _ITEM or (
        isinstance(data, list)
        and bool(data)
        and isinstance(data[0], Mapping)
        and data[0].get("object") == _ITEM
    )


READER = Reader(recognises=_recognises, rows=_rows)
