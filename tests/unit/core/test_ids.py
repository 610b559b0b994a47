"""Ids: equal things have one, and things that differ in an order that means something have two."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunery.core.ids import canonical_json, in_order

SCHEMAS: list[dict[str, Any]] = [
    {"properties": {"zeta": {}, "alpha": {}}},
    {"properties": {"alpha": {}, "zeta": {}}},
    {"properties": {"alpha": {}, "mid": {}, "zeta": {}}},
    {"properties": {"alpha": {}, "zeta": {}, "mid": {}}},
    {"properties": {"in": {"properties": {"b": {}, "a": {}}}}},
    {"properties": {"in": {"properties": {"a": {}, "b": {}}}}},
    {"$defs": {"x": {"properties": {"b": {}, "a": {}}}}, "$ref": "#/$defs/x"},
    {"$defs": {"x": {"properties": {"a": {}, "b": {}}}}, "$ref": "#/$defs/x"},
    {"anyOf": [{"properties": {"b": {}, "a": {}}}]},
    {"anyOf": [{"properties": {"a": {}, "b": {}}}]},
]


def test_schemas_that_differ_in_order_alone_are_told_apart() -> None:
    assert len({canonical_json(in_order(schema)) for schema in SCHEMAS}) == len(SCHEMAS)


def test_what_is_sorted_keeps_the_id_it_had() -> None:
    for schema in (SCHEMAS[1], {}, None, [3, 1], {"a": [{"b": 1, "c": 2}]}):
        assert in_order(schema) is schema


@given(st.recursive(st.integers() | st.text(max_size=3), lambda inner: st.dictionaries(st.text(), inner)))
def test_equal_in_order_means_equal_text(value: Any) -> None:
    copied = json.loads(json.dumps(value))
    assert in_order(copied) == in_order(value)
    if isinstance(value, dict) and len(value) > 1:
        turned = dict(reversed(list(value.items())))
        assert canonical_json(in_order(turned)) != canonical_json(in_order(value))
        assert canonical_json(turned) == canonical_json(value)


def test_nan_has_no_id() -> None:
    with pytest.raises(ValueError, match="JSON"):
        in_order({"minimum": float("nan")})
