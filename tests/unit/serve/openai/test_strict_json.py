"""JSON that two readers could understand differently is refused, with the place; all other JSON is read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunery.serve.openai.strict_json import MAX_DEPTH, BadJson, read_strictly

a_value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(a_value)
def test_what_json_can_hold_is_read_as_json_reads_it(value: Any) -> None:
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")):
        assert read_strictly(text) == json.loads(text)


def nested(depth: int, around: str = "[]") -> str:
    opening, closing = (around[0], around[1]) if around == "[]" else ('{"a":', "}")
    return opening * depth + "1" + closing * depth


@pytest.mark.parametrize(
    ("text", "path", "says"),
    [
        ("", (), "not JSON"),
        ("{", (), "not JSON"),
        (b'"\xff"', (), "not UTF-8"),
        (b"\xff\xfe{}", (), "not UTF-8"),
        ('{"a": [NaN]}', ("a", 0), "finite"),
        ('{"a": {"b": -Infinity}}', ("a", "b"), "finite"),
        ('{"a": 1e400}', ("a",), "finite"),
        ('{"a": ' + "1" * 400 + ".0}", ("a",), "finite"),
        ('{"a": [1, "\\ud800"]}', ("a", 1), "half a character"),
        ('{"a": {"\\uDC00x": 1}}', ("a",), "half a character"),
        ('{"a": 1, "a": 2}', ("a",), "given twice"),
        ('{"b": {"a": 1, "a": 1}}', ("a",), "given twice"),
        ('{"a": [' + "9" * 5000 + "]}", ("a", 0), "finite"),
        ('{"b": "[[[", "a": ' + nested(5_000) + "}", ("a",), "deep"),
        ('{"a": ' + nested(MAX_DEPTH) + "}", ("a",), "deep"),
        ('{"b": 1, "a": ' + nested(MAX_DEPTH, "{}") + "}", ("a",), "deep"),
        (nested(100_000), (), "deep"),
    ],
)
def test_what_is_refused_is_told_with_its_place(
    text: str | bytes, path: tuple[str | int, ...], says: str
) -> None:
    with pytest.raises(BadJson, match=says) as error:
        read_strictly(text)
    assert error.value.path == path


def test_whole_characters_and_deep_enough_nesting_are_taken() -> None:
    assert read_strictly('{"a": "\\ud83d\\ude00"}') == {"a": "\U0001f600"}
    assert read_strictly('{"a": ' + nested(MAX_DEPTH - 1) + "}")
    assert read_strictly('{"prompt": [' + ",".join(["1"] * 100_000) + "]}")["prompt"][-1] == 1
