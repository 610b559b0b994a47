"""What a source says, as records: a field that is missing or of another type costs that field alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from typing import Any

from tunery.rescue.folder import is_source_id
from tunery.rescue.records import JobPapers, SourceCheckpoint, SourceFile, SourceJob

_FINE_TUNED = re.compile(r"^ft:|[:.]ft-")
"""Of a model's name: at OpenAI ``ft:BASE:ORG:SUFFIX:ID``, before 2024 ``BASE:ft-ORG-…``; at Azure
``BASE.ft-ID``."""
_BEHIND = re.compile(r"[:.]ft-.*$")
FINAL = frozenset({"succeeded", "failed", "cancelled"})
"""Status of a job that does not change any more."""


def is_fine_tuned(model: str) -> bool:
    """Tell a fine-tuned model by its name.

    >>> [is_fine_tuned(name) for name in ("ft:gpt-4o:acme::a1", "curie:ft-acme", "gpt-4o.ft-0a", "gpt-4o")]
    [True, True, True, False]
    """
    return bool(_FINE_TUNED.search(model))


def base_of(model: str) -> str:
    """Return what a model was trained from by its name; a model that was not, is its own base.

    >>> base_of("ft:gpt-4o-2024-08-06:acme::Ab1"), base_of("gpt-4o.ft-0a1b"), base_of("curie:ft-acme")
    ('gpt-4o-2024-08-06', 'gpt-4o', 'curie')
    """
    if model.startswith("ft:"):
        return model.split(":")[1] or model
    return _BEHIND.sub("", model) or model


def job_of(papers: JobPapers) -> SourceJob | None:
    """Return a job's record, None where what the source gave has no usable id."""
    raw = papers.job
    if not is_source_id(raw.get("id")):
        return None
    method = raw.get("method")
    kind = _text(method.get("type")) if isinstance(method, Mapping) else None
    own = method.get(kind) if isinstance(method, Mapping) and kind else None
    settings = own.get("hyperparameters") if isinstance(own, Mapping) else None
    results = raw.get("result_files")
    return SourceJob(
        id=raw["id"],
        scope=papers.scope,
        base=_text(raw.get("model")) or "unknown",
        status=_text(raw.get("status")) or "unknown",
        method=kind or "supervised",
        hyperparameters={**_settings(raw.get("hyperparameters")), **_settings(settings)},
        suffix=_text(raw.get("user_provided_suffix")) or _suffix_in(_text(raw.get("fine_tuned_model")) or ""),
        seed=_whole(raw.get("seed")),
        training_file=_id(raw.get("training_file")),
        validation_file=_id(raw.get("validation_file")),
        result_files=tuple(dict.fromkeys(filter(is_source_id, results))) if isinstance(results, list) else (),
        fine_tuned_model=_text(raw.get("fine_tuned_model")),
        trained_tokens=_whole(raw.get("trained_tokens")),
        created_at=moment_of(raw.get("created_at")),
        finished_at=moment_of(raw.get("finished_at")),
        checkpoints=tuple(_checkpoints(papers.checkpoints)),
        events=len(papers.events),
    )


def _suffix_in(model: str) -> str | None:
    """Return the fourth part of ``ft:BASE:ORG:SUFFIX:ID``."""
    parts = model.split(":")
    return parts[3] or None if len(parts) == 5 else None


def file_of(raw: object, scope: str) -> SourceFile | None:
    """Return a file's record, None where what the source listed has no usable id."""
    if not isinstance(raw, Mapping) or not is_source_id(raw.get("id")):
        return None
    return SourceFile(
        id=raw["id"],
        scope=scope,
        filename=_text(raw.get("filename")) or "",
        purpose=_text(raw.get("purpose")) or "",
        bytes=max(0, _whole(raw.get("bytes")) or 0),
        created_at=moment_of(raw.get("created_at")),
    )


def _checkpoints(listed: Iterable[object]) -> Iterable[SourceCheckpoint]:
    for raw in listed:
        if isinstance(raw, Mapping) and (name := _text(raw.get("fine_tuned_model_checkpoint"))):
            metrics = _mapping(raw.get("metrics"))
            yield SourceCheckpoint(
                id=_text(raw.get("id")) or name,
                name=name,
                step=_whole(raw.get("step_number")) or 0,
                metrics={key: float(value) for key, value in metrics.items() if _is_number(value)},
            )


def moment_of(value: object) -> datetime | None:
    """Return a Unix time as a moment, None where it is none."""
    if not _is_number(value):
        return None
    try:
        return datetime.fromtimestamp(float(value), UTC)  # type: ignore[arg-type]  # a number, as checked
    except (ValueError, OverflowError, OSError):
        return None


def end_of(raw: Mapping[str, Any]) -> date | None:
    """Return the day on which a model ends by its own object; Azure has it as a Unix time in another field.

    >>> end_of({"shutdown_date": "2027-01-14"}), end_of({"deprecation": {"inference": 1798761600}})
    (datetime.date(2027, 1, 14), datetime.date(2027, 1, 1))
    """
    try:
        return date.fromisoformat(raw.get("shutdown_date") or "")
    except (ValueError, TypeError):
        at = moment_of(_mapping(raw.get("deprecation")).get("inference"))
        return at.date() if at else None


def _is_number(value: object) -> bool:
    # No time and no metric is larger; an integer may be too large to be compared as a float.
    known = isinstance(value, (int, float)) and not isinstance(value, bool)
    return known and abs(value) < 10**15  # type: ignore[arg-type]  # NaN is not less, either


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value and value.isprintable() else None


def _id(value: object) -> str | None:
    return value if isinstance(value, str) and is_source_id(value) else None


def _settings(value: object) -> dict[str, Any]:
    return {k: v for k, v in _mapping(value).items() if v is None or isinstance(v, (str, int, float))}


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
