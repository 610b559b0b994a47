"""Nested values of columnar files: without the keys that a row has only because other rows have them."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

_SAME = (frozenset({"role", "content"}), frozenset({"from", "value"}), frozenset({"function", "type"}))
"""Keys of turns and calls, whose other keys mean the same whether they are null or absent."""


def is_nested(kind: Any) -> bool:
    """Tell whether values of an Arrow type are objects or lists, or the JSON of them."""
    return pa.types.is_nested(kind) or isinstance(kind, pa.JsonType)


def unfilled(value: Any, kind: Any, path: str, filled: set[str], *, keep: bool = False) -> Any:
    """Return a value without its null keys, which are added to ``filled`` with the way to them.

    The keys of a map and of JSON are each row's own: their nulls were meant and stay. A map comes as pairs,
    JSON as text; both become objects.

    Args:
        value: As pyarrow gives it.
        kind: Its Arrow type.
        path: Where it stands, such as ``messages.tool_calls``.
        filled: What was found so far.
        keep: Whether null keys stay, and are named all the same.
    """
    if value is None:
        return None
    if pa.types.is_struct(kind):
        found = {}
        named = not any(keys <= value.keys() for keys in _SAME)
        for field in kind:
            inner, where = value.get(field.name), f"{path}.{field.name}"
            if inner is None and named:
                filled.add(where)
            if inner is not None or keep:
                found[field.name] = unfilled(inner, field.type, where, filled, keep=keep)
        return found
    if pa.types.is_map(kind):
        pairs = value.items() if isinstance(value, dict) else value
        return {k: unfilled(inner, kind.item_type, path, filled, keep=keep) for k, inner in pairs}
    if isinstance(value, list):
        return [unfilled(inner, kind.value_type, path, filled, keep=keep) for inner in value]
    return _of_json(value) if isinstance(kind, pa.JsonType) else value


def _of_json(text: Any) -> Any:
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return text
