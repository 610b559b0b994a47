"""Prediction files: ours, one JSON object a line, and those of any other system."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tunery.core.errors import ConfigError, ResourceError
from tunery.core.evaluation import Prediction
from tunery.core.ids import canonical_json
from tunery.evaluate.readers import read_answers
from tunery.evaluate.readers.files import load
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
    asked: str | None = None
    """What the row was asked, where its file says so; comparable within files of one kind."""


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
    for number, value in load(path, problems):
        try:
            predictions.append(Prediction.model_validate(value))
        except ValueError as error:
            problems.append(f"row {number}: {str(error).splitlines()[0]}")
    _refuse(path, problems)
    return predictions


def read_prediction_rows(path: Path) -> list[PredictionRow]:
    """Read a file of answers from any system; :mod:`tunery.evaluate.readers` says which are known.

    Every row needs an ``id`` that no other row has, and ``correct`` (true, false, 1 or 0), both
    ``prediction`` and ``reference``, or a score. A prediction or reference that is not a string is taken as
    its JSON; a score that is no number stays one, so that whoever compares by it can refuse it.

    Raises:
        ConfigError: The file is missing, empty, not UTF-8, or has bad rows; lists them by row number.
    """
    rows: list[PredictionRow] = []
    problems: list[str] = []
    first_seen: dict[str, int] = {}
    for number, value in read_answers(path, problems):
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


def _refuse(path: Path, problems: list[str]) -> None:
    if problems:
        raise ConfigError.of_problems(str(path), problems, limit=_PROBLEMS_SHOWN)


def _row(value: Any) -> PredictionRow:
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object, found {type(value).__name__}")
    identity = value.get("id")
    if isinstance(identity, float) and identity.is_integer():  # a column of whole numbers with a gap
        identity = int(identity)
    if isinstance(identity, bool) or not isinstance(identity, (str, int)) or identity == "":
        raise ValueError("needs an 'id' that is a string or a whole number")
    correct = value.get("correct")
    if correct is not None and (not isinstance(correct, (bool, int)) or correct not in (0, 1)):
        raise ValueError(f"'correct' must be true or false, found {correct!r:.40}")
    prediction, reference = _text(value.get("prediction")), _text(value.get("reference"))
    scores = _scores(value.get("scores"))
    if correct is None and (prediction is None or reference is None) and not scores:
        missing = "prediction" if prediction is None else "reference"
        raise ValueError(f"has no {missing!r}, which is needed where 'correct' is missing")
    cluster = value.get("cluster")
    return PredictionRow(
        str(identity),
        prediction,
        reference,
        None if correct is None else bool(correct),
        scores,
        None if cluster is None else str(cluster),
        value.get("asked"),
    )


def _text(value: Any) -> str | None:
    """Return a text as it is and anything else as its JSON; what is no number is no text either."""
    if value is None or isinstance(value, str):
        return value
    return None if isinstance(value, float) and math.isnan(value) else canonical_json(value)


def _scores(scores: Any) -> dict[str, float]:
    if not isinstance(scores, Mapping):
        return {}
    found = {}
    for name, score in scores.items():
        try:  # tables write numbers as text
            number = float(score) if isinstance(score, (str, int, float)) else None
        except ValueError:
            raise ValueError(f"score {str(name)!r:.40} is {score!r:.40}, not a number") from None
        if number is not None:
            found[str(name)] = number
    return found
