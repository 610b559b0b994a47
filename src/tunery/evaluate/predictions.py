"""Prediction files: one JSON object a line with ``id``, ``prediction``, ``reference``, ``correct``."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tunery.core.errors import ConfigError, ResourceError
from tunery.core.evaluation import Prediction
from tunery.core.ids import canonical_json
from tunery.store.whole_file import write_json_lines

_PROBLEMS_SHOWN = 20


class PredictionRow(NamedTuple):
    """One line of a prediction file from any source."""

    id: str
    prediction: str | None
    reference: str | None
    correct: bool | None
    scores: Mapping[str, float]
    cluster: str | None = None


def write_predictions(path: Path, predictions: Iterable[Prediction]) -> None:
    """Write predictions as JSON lines; the file appears whole or not at all.

    Raises:
        ResourceError: The file cannot be written; says why.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json_lines(path, (prediction.model_dump(mode="json") for prediction in predictions))
    except OSError as error:
        raise ResourceError(f"{path}: cannot be written: {error.strerror}") from None


def read_predictions(path: Path) -> list[Prediction]:
    """Read back what :func:`write_predictions` wrote.

    Raises:
        ConfigError: A line is not such a row; lists rows.
    """
    predictions: list[Prediction] = []
    problems: list[str] = []
    for number, value in _json_lines(path, problems):
        try:
            predictions.append(Prediction.model_validate(value))
        except ValueError as error:
            problems.append(f"row {number}: {str(error).splitlines()[0]}")
    _refuse(path, problems)
    return predictions


def read_prediction_rows(path: Path) -> list[PredictionRow]:
    """Read a prediction file from any source.

    Every row needs an ``id`` that no other row has, and either ``correct`` (true, false, 1 or 0) or both
    ``prediction`` and ``reference``; a prediction or reference that is not a string is taken as its JSON.
    ``cluster`` names what rows share that are right or wrong together. Other keys are ignored, except that
    numbers in ``scores`` are kept. Blank lines are skipped.

    Raises:
        ConfigError: The file is missing, empty, not UTF-8, or has bad rows; lists them by row number.
    """
    rows: list[PredictionRow] = []
    problems: list[str] = []
    first_seen: dict[str, int] = {}
    for number, value in _json_lines(path, problems):
        try:
            row = _row(value)
        except ValueError as error:
            problems.append(f"row {number}: {error}")
            continue
        if row.id in first_seen:
            problems.append(f"row {number}: id {row.id!r:.80} was already given on row {first_seen[row.id]}")
            continue
        first_seen[row.id] = number
        rows.append(row)
    _refuse(path, problems)
    if not rows:
        raise ConfigError(f"{path}: has no rows")
    return rows


def _json_lines(path: Path, problems: list[str]) -> Iterable[tuple[int, Any]]:
    """Yield line number and parsed value; lines that do not parse go to ``problems``."""
    try:
        # utf-8-sig: spreadsheets put a byte order mark in front.
        with path.open(encoding="utf-8-sig") as stream:
            for number, line in enumerate(stream, 1):
                if not line.strip():
                    continue
                try:
                    yield number, json.loads(line)
                except (json.JSONDecodeError, RecursionError) as error:
                    problems.append(f"row {number}: not JSON ({error!s:.80})")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise ConfigError(
            f"{path}: {error.strerror}", hint="tunery evaluate run RECIPE --predictions OUT.jsonl"
        ) from None


def _refuse(path: Path, problems: list[str]) -> None:
    if problems:
        raise ConfigError.of_problems(str(path), problems, limit=_PROBLEMS_SHOWN)


def _row(value: Any) -> PredictionRow:
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object, found {type(value).__name__}")
    identity = value.get("id")
    if isinstance(identity, bool) or not isinstance(identity, (str, int)) or identity == "":
        raise ValueError("needs an 'id' that is a string or a whole number")
    correct = value.get("correct")
    if correct is not None and (not isinstance(correct, (bool, int)) or correct not in (0, 1)):
        raise ValueError(f"'correct' must be true or false, found {correct!r:.40}")
    prediction, reference = _text(value.get("prediction")), _text(value.get("reference"))
    if correct is None and (prediction is None or reference is None):
        missing = "prediction" if prediction is None else "reference"
        raise ValueError(f"has no {missing!r}, which is needed where 'correct' is missing")
    cluster = value.get("cluster")
    return PredictionRow(
        str(identity),
        prediction,
        reference,
        None if correct is None else bool(correct),
        _scores(value),
        None if cluster is None else str(cluster),
    )


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else canonical_json(value)


def _scores(value: Mapping[str, Any]) -> dict[str, float]:
    scores = value.get("scores")
    if not isinstance(scores, dict):
        return {}
    return {
        str(name): float(score)
        for name, score in scores.items()
        if isinstance(score, (int, float)) and math.isfinite(score)
    }
