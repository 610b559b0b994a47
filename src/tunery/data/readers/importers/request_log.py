"""The gateway's own request log: served calls as chat rows."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tunery.core.errors import NotFoundError, ResourceError
from tunery.core.example import REQUEST_ID, SPLIT_HINT, Drop
from tunery.core.rollout import RequestRecord
from tunery.data.config import SourceConfig, TrafficConfig
from tunery.data.readers.importers.sampling import Sampler
from tunery.data.rows.refused import Refused, broken, unusable
from tunery.data.rows.row import RawRow
from tunery.store.whole_file import write_whole

_KEYS = frozenset({"endpoint", "messages", "completion", "subject", "status"})
_CUT = ("length", "content_filter")  # a tuple: what is looked for may be of any kind


class TrafficExport(NamedTuple):
    """What :func:`write_traffic` wrote."""

    rows: int
    """Rows written [count]."""
    skipped: dict[str, int]
    """Reason to requests that became no row [count]."""


def recognises(values: Mapping[str, Any]) -> bool:
    """Tell whether a row is a record of the request log."""
    return values.keys() >= _KEYS


def convert(rows: Iterator[RawRow], settings: SourceConfig) -> Iterator[RawRow]:
    """Yield one chat row for each record that may be learnt from; the others are dropped with a reason.

    Rows carry ``metadata.split_hint: train``: the answers are a model's own and nobody has reviewed them, so
    a test on them would measure how much a model agrees with its predecessor.

    Args:
        rows: Records as JSON objects (:class:`tunery.core.rollout.RequestRecord`).
        settings: Of the source; ``traffic`` is the rule.
    """
    sampler = Sampler(settings.traffic)
    for row in rows:
        if isinstance(row.values, Refused):
            yield row
        elif not recognises(row.values) or not isinstance(row.values["messages"], list):
            yield broken(row.number, "is no record of a request log", row.values)
        elif (why := _left_out(row.values, sampler)) is not None:
            yield unusable(row.number, why.reason, why.detail, row.values)
        else:
            yield RawRow(row.number, _row(row.values))


def write_traffic(requests: Iterable[RequestRecord], destination: Path, rule: TrafficConfig) -> TrafficExport:
    """Write served calls that may be learnt from as a JSON Lines file of chat rows.

    Args:
        requests: Served calls; newest first gives each user's newest.
        destination: The file; one that is there is replaced once the new one is whole.
        rule: Share, cap and consent.

    Returns:
        How many rows were written, and why other requests became none.

    Raises:
        NotFoundError: There is no request; the file stays as it is.
        ResourceError: The file cannot be written.
    """
    sampler = Sampler(rule)
    skipped: Counter[str] = Counter()
    written = 0
    try:
        with write_whole(destination) as stream:
            for request in requests:
                values = request.model_dump(mode="json")
                why = _left_out(values, sampler)
                if why is not None:
                    skipped[why.reason] += 1
                    continue
                stream.write(json.dumps(_row(values), ensure_ascii=False) + "\n")
                written += 1
            if not written and not skipped:
                raise NotFoundError(
                    "there is no such request in the log",
                    hint="check --model; what tunery serve answers is kept there",
                )
    except OSError as error:
        raise ResourceError(f"cannot write {destination}: {error.strerror}") from None
    return TrafficExport(written, dict(sorted(skipped.items())))


def _left_out(values: Mapping[str, Any], sampler: Sampler) -> Drop | None:
    """Return why a record becomes no row: there is nothing to learn from it, or the rule leaves it out."""
    name = f"request {values.get('id')}"
    if values.get("status") != "ok":
        return Drop("request_failed", f"{name} ended with status {values.get('status')!r}")
    if not values["messages"]:
        return Drop("text_not_kept", f"{name}: its text was not kept")
    if values.get("finish_reason") in _CUT:
        return Drop("answer_cut", f"{name}: its answer ended by {values['finish_reason']}")
    if not str(values.get("completion") or "").strip():
        return Drop("empty_output", f"{name}: its answer is empty")
    if values.get("format_valid") is False:
        return Drop("format_invalid", f"{name}: its answer had not the form that was requested")
    about = values.get("metadata")
    return sampler.skip(
        str(values.get("id")), str(values["subject"]), about if isinstance(about, Mapping) else {}
    )


def _row(values: Mapping[str, Any]) -> dict[str, Any]:
    answer = {"role": "assistant", "content": values.get("completion")}
    return {
        "messages": [*map(_context_turn, values["messages"]), answer],
        "user": values.get("subject"),
        "model": values.get("model"),
        "request_id": values.get("id"),
        "metadata": {SPLIT_HINT: "train", REQUEST_ID: values.get("id")},
    }


def _context_turn(turn: Any) -> Any:
    """Return a turn before the answer, without the weight that records write down for every role."""
    if not isinstance(turn, Mapping):
        return turn
    if turn.get("role") == "assistant":  # from whoever served then; the last answer alone is learnt
        return {**turn, "weight": 0}
    return {k: v for k, v in turn.items() if k != "weight"}
