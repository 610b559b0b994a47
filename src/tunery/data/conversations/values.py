"""Values of one column: a text, an answer, JSON, or none at all."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from tunery.data.rows.row import BadRow, Flaw, UnusableRow
from tunery.text.normalise import HALF_A_PAIR, is_unicode

INFINITE = "no finite number; write one that is, or as text what is meant"


def is_blank(value: Any) -> bool:
    """Tell whether a value says nothing: none, white space, an empty list, not a number."""
    if isinstance(value, str):
        return not value.strip()
    return value is None or value in ([], {}, ()) or (isinstance(value, float) and math.isnan(value))


def text_of(value: Any, column: str, missing: Callable[[str], UnusableRow], way_out: str = "") -> str:
    """Return a value as text; numbers, dates and booleans are written out.

    Args:
        value: As the file has it.
        column: For messages.
        missing: What is raised where there is no value.
        way_out: What else to do about a value that is no text.

    Raises:
        UnusableRow: There is no value.
        BadRow: It is an object, a list or bytes, an infinite number, or holds half a surrogate pair.
    """
    if isinstance(value, float) and math.isinf(value):
        raise BadRow(Flaw(column, value, INFINITE))
    if value is None or (isinstance(value, str) and not value.strip()):
        raise missing(column)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (Mapping, list, bytes)):
        kind = "bytes" if isinstance(value, bytes) else "an object or list"
        fix = f"{kind}, where text is expected"
        raise BadRow(Flaw(column, value, f"{fix}; {way_out}" if way_out else fix))
    text = str(value)
    if not is_unicode(text):
        raise BadRow(Flaw(column, text, HALF_A_PAIR))
    return text


def compact_json(value: Any) -> str:
    """Return JSON without spaces, keys in their given order: fewer tokens to learn and to serve."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def answer_json(value: Any, column: str) -> str:
    """Return an answer that is an object or list as JSON that any parser reads.

    Raises:
        BadRow: A number in it is infinite or none, for which JSON has no word.
    """
    try:
        json.dumps(value, allow_nan=False, default=str)
    except ValueError:
        raise BadRow(Flaw(column, value, f"in the answer there is {INFINITE}")) from None
    return compact_json(value)


def json_ready(value: Any) -> Any:
    """Return a value as JSON can hold it: dates and the like become text."""
    return json.loads(json.dumps(value, default=str))
