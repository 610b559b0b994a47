"""``samples_*.jsonl`` of lm-evaluation-harness (``--log_samples``): a line a document and filter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tunery.core.ids import canonical_json
from tunery.evaluate.readers import Reader
from tunery.evaluate.readers.files import Numbered

_RIGHT = ("exact_match", "acc", "pass@1", "pass_at_1", "prompt_level_strict_acc")
"""Metrics that say whether a document is right, the first that a file has."""
_NOT_METRICS = {"doc_id", "target", "filter"}


def _rows(values: Sequence[Numbered]) -> Iterator[Numbered]:
    """Yield a row a document; where several filters read the same answers, each has scores of its own."""
    rows = [(number, value) for number, value in values if isinstance(value, Mapping)]
    several = len({value.get("filter") for _, value in rows}) > 1
    seen: Counter[tuple[str, str]] = Counter()
    merged: dict[tuple[str, int], Numbered] = {}
    for number, value in rows:
        filtered, document = str(value.get("filter")), str(value.get("doc_id"))
        seen[filtered, document] += 1
        place = (document, seen[filtered, document])
        row = _row(value, suffix=f",{filtered}" if several else "")
        if place in merged:
            merged[place].value["scores"].update(row["scores"])
        else:
            merged[place] = Numbered(number, row)
    yield from merged.values()


def _row(value: Mapping[str, Any], *, suffix: str) -> dict[str, Any]:
    scores = _scores(value)
    right = next((name for name in _RIGHT if scores.get(name) in (0, 1)), None)
    said = value.get("filtered_resps") or value.get("resps") or [None]
    answer = said[0]
    while isinstance(answer, list) and len(answer) == 1:  # repeats are a list in the list
        answer = answer[0]
    # Of a choice among answers there are only likelihoods; with several filters no answer is the one.
    text = answer if isinstance(answer, str) and len(said) == 1 and not suffix else None
    return {
        "id": value.get("doc_id"),
        "prediction": text,
        "reference": value.get("target"),
        "correct": scores[right] if right and not suffix else None,
        "scores": {f"{name}{suffix}": score for name, score in scores.items()},
        "asked": value.get("doc_hash") or canonical_json(value.get("doc")),
    }


def _scores(value: Mapping[str, Any]) -> dict[str, Any]:
    names = value.get("metrics") or [n for n in value if n not in _NOT_METRICS]
    numbers = {n: value[n] for n in names if isinstance(value.get(n), (bool, int, float))}
    return {n: int(x) if isinstance(x, bool) or x in (0, 1) else x for n, x in numbers.items()}


READER = Reader(
    recognises=lambda first: "doc_id" in first and ("resps" in first or "filtered_resps" in first), rows=_rows
)
