"""Tools as text: what is written is read back, and masking cannot break a call."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunery.core.example import Message
from tunery.core.tool_text import (
    NotACall,
    call_of,
    describe,
    functions_of,
    mended,
    read_answer,
    read_functions,
    with_functions,
    with_system_prompt,
    write_answer,
)

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
NO_TAGS = st.text(alphabet=st.characters(exclude_characters="<>", exclude_categories=["Cs"])).map(str.strip)


@given(NO_TAGS, st.lists(st.tuples(st.text(min_size=1), st.dictionaries(st.text(), VALUES)), max_size=3))
def test_calls_are_read_back_as_they_were_written(text: str, calls: list[tuple[str, dict[str, Any]]]) -> None:
    made = [call_of(name, arguments) for name, arguments in calls]
    # A tag inside an argument would end the call early; it then stays text, which loses nothing.
    written = write_answer(text, made)
    found = read_answer(written)
    if "tool_call>" not in json.dumps(calls):
        assert found == (text, tuple(made))
    assert write_answer(found.text, found.calls) == written or not found.calls


@given(NO_TAGS, st.lists(st.dictionaries(st.text(), VALUES), min_size=1, max_size=3))
def test_functions_are_read_back_as_they_were_told(text: str, functions: list[dict[str, Any]]) -> None:
    named = [{"name": "f", **f} | {"name": "f"} for f in functions]
    turns = with_functions((Message(role="system", content=text),) if text else (), describe(named))
    assert read_functions(turns[0].content) == (text, tuple(named))


def test_a_system_prompt_goes_before_functions_but_not_over_another_prompt() -> None:
    told = describe([{"name": "now"}])
    user = Message(role="user", content="Time?")
    only_functions = with_functions((user,), told)
    assert with_system_prompt(only_functions, "Be brief.")[0].content == f"Be brief.\n\n{told}"
    own = with_functions((Message(role="system", content="Shout."), user), told)
    assert with_system_prompt(own, "Be brief.") == own
    assert with_system_prompt((user,), None) == (user,)
    assert [m.role for m in with_system_prompt((user,), "Be brief.")] == ["system", "user"]


@pytest.mark.parametrize(
    "text",
    [
        "<tool_call>no json</tool_call>",
        '<tool_call>{"name": 5, "arguments": {}}</tool_call>',
        "<tool_call>[1]</tool_call>",
        '<tool_call>{"name": "f", "arguments": {}}',
        "<tool_call></tool_call>",
    ],
)
def test_what_only_looks_like_a_call_stays_text(text: str) -> None:
    assert read_answer(text) == (text, ())


@pytest.mark.parametrize(
    "tools", [{}, [5], [{"type": "function"}], [{"type": "mcp", "name": "x"}], [{"name": 1}]]
)
def test_what_is_no_function_is_refused(tools: Any) -> None:
    with pytest.raises(NotACall):
        functions_of(tools)


def test_a_mask_in_place_of_a_number_leaves_the_call_readable() -> None:
    masked = write_answer("", [call_of("ring", {"number": 15551234567, "who": ["a", 2]})])
    masked = masked.replace("15551234567", "<PHONE_NUMBER>").replace(",2]", ",<US_SSN>]")
    (call,) = read_answer(mended(masked)).calls
    assert json.loads(call.arguments) == {"number": "<PHONE_NUMBER>", "who": ["a", "<US_SSN>"]}
