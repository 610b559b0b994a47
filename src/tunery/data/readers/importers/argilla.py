"""Argilla: reviewed records as its Python client and its server export them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import zip_longest
from types import NoneType
from typing import Any

from tunery.data.config import SourceConfig
from tunery.data.readers.importers.annotations import METADATA, reviewed_row
from tunery.data.rows.refused import Refused, broken
from tunery.data.rows.row import RawRow

_FLAT = ".responses"


def recognises(values: Mapping[str, Any]) -> bool:
    """Tell whether a row is a record of Argilla, nested or flattened."""
    if isinstance(values.get("fields"), Mapping) and "responses" in values:
        return any(key in values for key in ("suggestions", "_server_id", "external_id", "vectors"))
    return any(key.endswith(f"{_FLAT}.users") for key in values)


def convert(rows: Iterator[RawRow], settings: SourceConfig) -> Iterator[RawRow]:
    """Yield one row for each record: its fields, and what reviewers submitted.

    Submitted responses count, drafts and discarded ones do not; a response without a status, as nested
    exports have them, counts as submitted. Suggestions come from models and are never taken for an answer. Of
    several reviewers the majority decides, and a record they are divided on is dropped.

    Args:
        rows: Records of ``dataset.records.to_json`` (``fields``, ``responses`` by question), of the server
            (``responses`` by user), or of ``to_list(flatten=True)`` (``<question>.responses`` columns).
        settings: Of the source; its columns name fields and questions.

    Source:
        https://docs.argilla.io/latest/reference/argilla/records/records (``Record.to_dict``),
        https://docs.argilla.io/latest/how_to_guides/import_export/
    """
    for row in rows:
        if isinstance(row.values, Refused):
            yield row
        elif not isinstance(row.values.get("fields"), Mapping):
            yield _flat(row, settings)._replace(filled=row.filled)
        elif not isinstance(row.values.get("responses"), (Mapping, list, NoneType)):
            yield broken(row.number, "responses must be an object or a list", row.values)
        else:
            fields = {**_metadata(row.values), **row.values["fields"]}
            answers = _nested(row.values.get("responses"))
            yield reviewed_row(row.number, fields, answers, settings)._replace(filled=row.filled)


def _metadata(values: Mapping[str, Any]) -> dict[str, Any]:
    about = values.get("metadata")
    return {f"{METADATA}{k}": v for k, v in about.items()} if isinstance(about, Mapping) else {}


def _nested(responses: Any) -> Iterator[tuple[str, Any]]:
    """Yield question and submitted value of responses by question, or by user."""
    if isinstance(responses, Mapping):  # the client: by question
        for question, given in responses.items():
            for response in given if isinstance(given, list) else []:
                if isinstance(response, Mapping) and _counts(response.get("status")):
                    yield question, response.get("value")
        return
    for response in responses or []:  # the server: by user
        if isinstance(response, Mapping) and _counts(response.get("status")):
            values = response.get("values")
            for question, given in values.items() if isinstance(values, Mapping) else []:
                yield question, given.get("value") if isinstance(given, Mapping) else given


def _flat(row: RawRow, settings: SourceConfig) -> RawRow:
    answers: list[tuple[str, Any]] = []
    questions = [k.removesuffix(".users")[: -len(_FLAT)] for k in row.values if k.endswith(f"{_FLAT}.users")]
    for question in questions:
        columns = (row.values.get(f"{question}{_FLAT}{end}") for end in ("", ".status"))
        pairs = zip_longest(*(c if isinstance(c, list) else [] for c in columns))
        answers += [(question, value) for value, status in pairs if _counts(status)]
    beside = ("id", "status", "_server_id", "external_id", "score")
    fields = {
        k: v
        for k, v in row.values.items()
        if k not in beside and not any(k.startswith((f"{q}{_FLAT}", f"{q}.suggestion")) for q in questions)
    }
    return reviewed_row(row.number, fields, answers, settings)


def _counts(status: Any) -> bool:
    return status is None or status == "submitted"
