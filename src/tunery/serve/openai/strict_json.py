"""JSON as a server should take it: everything that two readers could understand differently is refused.

Python's own reader takes NaN, makes ``1e400`` infinity, lets the last of two equal keys win and passes half
characters on, all of which break something far behind it: a grammar, a database, the answer itself.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

MAX_DEPTH = 64
"""Objects and lists within each other [count]; what reads them further on recurses, too."""


_TOKENS = ("prompt", "input", "tokens")
"""Fields that may hold token ids."""
MAX_PARTS = 50_000
"""Values and names in a body [count], those of :data:`_TOKENS` aside. Looking at a value
takes far longer than sending it took: sixteen megabytes of ``1,1,…`` are eight million of them, and each may
be wrong in a way of its own."""


class BadJson(ValueError):  # noqa: N818 - says what is wrong with the text
    """JSON that is not taken.

    Args:
        path: Keys and list positions to the value at fault; empty where it is the text itself.
    """

    def __init__(self, message: str, path: tuple[str | int, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.path = path


def read_strictly(text: str | bytes) -> Any:
    """Return what JSON text holds.

    Raises:
        BadJson: It is no JSON, or holds a number that is none, a key given twice, half a character, more than
            :data:`MAX_PARTS` parts, or is nested more than :data:`MAX_DEPTH` deep; says where.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        value, odd = _load(text)
    except UnicodeDecodeError as error:
        raise BadJson(f"the body is not UTF-8 (byte {error.start})") from None
    except json.JSONDecodeError as error:
        raise BadJson(f"the body is not JSON: {error.msg} at character {error.pos}") from None
    except RecursionError:
        raise BadJson(_TOO_DEEP, _field_too_deep(text)) from None
    _check_depth(value)
    if odd or "\\ud" in text or "\\uD" in text:
        for path, leaf in _leaves(value, ()):
            _check_leaf(path, leaf)
    return value


def _load(text: str) -> tuple[Any, bool]:
    """Return what JSON text holds, and whether there is a number in it that is none."""
    odd, parts = False, 0

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal parts
        parts += 1 + len(pairs)
        if parts > MAX_PARTS:
            raise BadJson(_TOO_MANY)
        return _once(pairs)

    def number(written: str) -> float:
        nonlocal odd
        value = float(written)
        odd = odd or not math.isfinite(value)
        return value

    try:
        value = json.loads(text, object_pairs_hook=once, parse_float=number, parse_constant=number)
    except (BadJson, json.JSONDecodeError):
        raise
    except ValueError:  # Python bounds the digits of whole numbers; as a fraction such a one is infinite
        value = json.loads(
            text, object_pairs_hook=once, parse_float=number, parse_constant=number, parse_int=number
        )
    return value, odd


_MARKS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]')


def _field_too_deep(text: str | bytes) -> tuple[str, ...]:
    """Return the field in which text that cannot be read is nested too deeply."""
    depth, key = 0, ""
    for mark in _MARKS.finditer(str(text)):
        if mark[0] in "[{":
            depth += 1
        elif mark[0] in "]}":
            depth -= 1
        elif depth == 1:
            key = mark[0][1:-1]
        if depth > MAX_DEPTH:
            break
    return (key,) if key else ()


_TOO_DEEP = f"nested more than {MAX_DEPTH} deep"
_TOO_MANY = f"the body holds over {MAX_PARTS:,} values and names"


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise BadJson(f"the key {twice!r:.80} is given twice", (twice,))
    return value


def _check_depth(value: Any) -> None:
    """Refuse deep nesting, level by level, because a reader that recurses could not tell."""
    parts = 0
    for key, inner in value.items() if isinstance(value, dict) else [("", value)]:
        level, depth = [inner], 1 if isinstance(value, dict) else 0
        while level := [v for v in level if type(v) is dict or type(v) is list]:
            depth += 1
            # Of token ids only the lists: the first wrong one in each is told.
            parts += len(level) if key in _TOKENS else sum(map(len, level))
            if parts > MAX_PARTS:
                raise BadJson(_TOO_MANY)
            if depth > MAX_DEPTH:
                raise BadJson(_TOO_DEEP, (key,) if key else ())
            level = [v for c in level for v in (c.values() if type(c) is dict else c)]


def _leaves(value: Any, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Yield every text, key and fraction with its place."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield path, key
            yield from _leaves(inner, (*path, key))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            if not isinstance(inner, int):
                yield from _leaves(inner, (*path, place))
    elif isinstance(value, (str, float)):
        yield path, value


def _check_leaf(path: tuple[str | int, ...], leaf: Any) -> None:
    if isinstance(leaf, float) and not math.isfinite(leaf):
        raise BadJson("a number must be finite and of a usual size", path)
    if isinstance(leaf, str) and not leaf.isascii():
        try:
            leaf.encode("utf-8")
        except UnicodeEncodeError as error:
            at = error.start
            raise BadJson(f"half a character (a lone surrogate) at position {at}", path) from None
