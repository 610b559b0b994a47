"""Understanding: raw rows as conversations, or why they are none."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tunery.core.example import SEED_PROMPTS, SPLIT_HINT, Drop, Dropped
from tunery.core.ids import sampling_key
from tunery.data.config import SourceConfig
from tunery.data.conversations.parse import json_ready, parse_row
from tunery.data.conversations.shapes import Mapped, shape_of_keys
from tunery.data.rows.dropped import dropped_row
from tunery.data.rows.flaws import BAD_ROW, sentence
from tunery.data.rows.row import BadRow, Draft, Flaw, RawRow, UnusableRow
from tunery.text.normalise import HALF_A_PAIR, is_unicode


class Understood(NamedTuple):
    """What raw rows mean; each is in one of the two lists."""

    drafts: list[Draft]
    dropped: list[Dropped]
    """Rows that are well formed but teach nothing, and as ``bad_row`` those that cannot be understood."""


def understand(rows: Sequence[RawRow], mapped: Mapped, settings: SourceConfig) -> Understood:
    """Read raw rows as conversations."""
    found = Understood([], [])
    for raw in rows:
        try:
            found.drafts.append(_draft(raw, mapped, settings))
            continue
        except BadRow as bad:
            drop = Drop(BAD_ROW, "; ".join(map(sentence, bad.flaws)))
        except UnusableRow as unusable:
            drop = unusable.drop
        found.dropped.append(dropped_row(settings.path, raw.number, drop, dict(raw.values)))
    return found


def _draft(raw: RawRow, mapped: Mapped, settings: SourceConfig) -> Draft:
    _check_shape(raw, mapped, settings)
    conversation = parse_row(raw.values, mapped, settings)
    draft = Draft(
        source=settings.path,
        row=raw.number,
        messages=conversation.messages,
        rejected=conversation.rejected,
        group_keys=_group_keys(raw, settings.columns.groups),
        metadata={c: json_ready(raw.values.get(c)) for c in settings.columns.metadata} | _hint(raw),
        sampling_key=None
        if settings.limit is None
        else sampling_key(0, "limit", raw.number, conversation.messages[-1].content),
    )
    for column, value in (("group", draft.group_keys), ("metadata", draft.metadata)):
        if value and not is_unicode(written := json.dumps(value, ensure_ascii=False, default=str)):
            raise BadRow(Flaw(column, written, HALF_A_PAIR))
    return draft


def _group_keys(raw: RawRow, columns: Sequence[str]) -> tuple[str, ...]:
    """Return a row's values in the group columns, with the column's name before them.

    A single column gives its bare value too, first: so files tie together whose columns have other names.
    """
    values = [(c, raw.values.get(c)) for c in columns]
    named = tuple(f"{column}={value}" for column, value in values if value is not None)
    return (str(values[0][1]), *named) if len(columns) == 1 and named else named


def _hint(raw: RawRow) -> dict[str, Any]:
    """Return what a row states of its own split: rows from feedback or a teacher are for training only."""
    about = raw.values.get("metadata")
    if not isinstance(about, Mapping) or about.get(SPLIT_HINT) != "train":
        return {}
    fingerprints = about.get(SEED_PROMPTS)
    if not isinstance(fingerprints, list):
        return {SPLIT_HINT: "train"}
    return {SPLIT_HINT: "train", SEED_PROMPTS: [str(f) for f in fingerprints]}


def _check_shape(raw: RawRow, mapped: Mapped, settings: SourceConfig) -> None:
    """Refuse a row that lacks this file's columns but has those of another shape."""
    if all(column in raw.values for column in mapped.needed) or settings.shape != "auto":
        return
    other = shape_of_keys(raw.values)
    if other is not None and other != mapped.shape:
        keys = ", ".join(list(raw.values)[:6])
        fix = f"this is a {other} row among {mapped.shape} rows; put one shape in each file"
        raise BadRow(Flaw("(columns)", keys, fix))
