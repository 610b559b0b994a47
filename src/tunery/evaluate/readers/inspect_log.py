"""The ``.json`` log of Inspect (inspect_ai): one document with a list of samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tunery.core.errors import ConfigError
from tunery.core.ids import canonical_json
from tunery.evaluate.readers import Reader
from tunery.evaluate.readers.files import Numbered

_GRADES = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}
"""Inspect's words for correct, partly correct, incorrect and no answer."""


def _rows(values: Sequence[Numbered]) -> Iterator[Numbered]:
    samples = values[0].value.get("samples")
    if not samples:
        raise ConfigError(
            "this Inspect log holds no samples", hint="inspect log convert --to json --output-dir OUT FILE"
        )
    scorers = list(dict.fromkeys(name for sample in samples for name in sample.get("scores") or {}))
    repeated = any((sample.get("epoch") or 1) > 1 for sample in samples)
    for number, sample in enumerate(samples, 1):
        yield Numbered(number, _row(sample, scorers, repeated=repeated))


def _row(sample: Mapping[str, Any], scorers: Sequence[str], *, repeated: bool) -> dict[str, Any]:
    values = {name: (score or {}).get("value") for name, score in (sample.get("scores") or {}).items()}
    if sample.get("error"):  # it counts as wrong; left out, it would make its system look better
        values = {name: values.get(name, "I") for name in scorers}
    scores: dict[str, Any] = {}
    for name, value in values.items():
        parts = value if isinstance(value, Mapping) else {"": value}
        scores |= {f"{name}.{part}" if part else name: _number(v) for part, v in parts.items()}
    first = scores.get(scorers[0]) if scorers else None
    target = sample.get("target")
    identity = sample.get("id")
    return {
        "id": f"{identity} epoch {sample.get('epoch')}" if repeated else identity,
        "prediction": _answer(sample.get("output") or {}),
        "reference": target[0] if isinstance(target, list) and len(target) == 1 else target,
        "correct": first == 1 if first is not None and (first in (0, 1) or "P" in values.values()) else None,
        "scores": {name: value for name, value in scores.items() if value is not None},
        "cluster": f"sample {identity}" if repeated else None,
        "asked": canonical_json(sample.get("input")),
    }


def _number(value: Any) -> float | None:
    if isinstance(value, str):
        return _GRADES.get(value)
    return float(value) if isinstance(value, (bool, int, float)) else None


def _answer(output: Mapping[str, Any]) -> str:
    """Return the text of the first choice; what was never answered is empty."""
    choices = output.get("choices") or [{}]
    content = (choices[0].get("message") or {}).get("content", output.get("completion"))
    if isinstance(content, list):
        return "".join(str(part.get("text") or "") for part in content if isinstance(part, Mapping))
    return str(content or "")


READER = Reader(
    recognises=lambda first: "eval" in first and "samples" in first and "status" in first, rows=_rows
)
