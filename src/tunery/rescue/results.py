"""Result files of jobs: a CSV of metrics by step, which a source gives as it is or in base64."""

from __future__ import annotations

import base64
import binascii
import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

_LARGEST = 64 * 1024 * 1024


class Results(NamedTuple):
    """What a result file says."""

    form: Literal["csv", "base64"]
    """Whether its bytes are the CSV, or the CSV in base64."""
    last: Mapping[str, float]
    """The newest value of each metric."""


def read_results(file: Path) -> Results | None:
    """Return what a result file says, None where it is no such CSV or is over 64 MiB; its bytes decide.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     _ = file.write(base64.b64encode(b"step,train_loss,valid_loss\\n1,0.5,0.7\\n2,0.4,\\n"))
    ...     file.flush()
    ...     read_results(Path(file.name))
    Results(form='base64', last={'step': 2.0, 'train_loss': 0.4, 'valid_loss': 0.7})
    """
    if file.stat().st_size > _LARGEST:
        return None
    raw = file.read_bytes()
    last = _last(raw)
    if last is not None:
        return Results("csv", last)
    try:
        last = _last(base64.b64decode(b"".join(raw.split()), validate=True))
    except binascii.Error:
        return None
    return None if last is None else Results("base64", last)


def _last(raw: bytes) -> dict[str, float] | None:
    try:
        lines = raw.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        return None
    if not lines or "step" not in lines[0].split(","):
        return None
    last: dict[str, float] = {}
    for row in csv.DictReader(lines):
        for name, value in row.items():
            try:
                number = float(value)
            except (TypeError, ValueError):
                continue  # a step at which this was not measured
            if math.isfinite(number) and name:
                last[name] = number
    return last
