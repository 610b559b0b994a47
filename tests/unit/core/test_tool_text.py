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
    ToolCall,
    call_of,
    describe,
    functions_of,
    read_answer,
    read_forced,
    read_functions,
    with_functions,
    with_system_prompt,
    with_words,
    words_of,
    write_answer,
)

CALL = '<tool_call>{"name":"now","arguments":{}}</tool_call>'
TAGS = st.sampled_from(["<tool_call>", "</tool_call>", "a </tool_call> b"])
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | TAGS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
NO_TAGS = st.text(alphabet=st.characters(exclude_characters="<>", exclude_categories=["Cs"])).map(str.strip)


@given(NO_TAGS, st.lists(st.tuples(st.text(min_size=1), st.dictionaries(st.text(), VALUES)), max_size=3))
def test_calls_are_read_back_as_they_were_written(text: str, calls: list[tuple[str, dict[str, Any]]]) -> None:
    written = [call_of(name, arguments) for name, arguments in calls]
    assert read_answer(write_answer(text, written)) == (text, tuple(written))


@given(NO_TAGS, st.lists(st.dictionaries(st.text(), VALUES), min_size=1, max_size=3))
def test_functions_are_read_back_as_they_were_told(text: str, functions: list[dict[str, Any]]) -> None:
    named = [{"name": "f", **f} | {"name": "f"} for f in functions]
    turns = with_functions((Message(role="system", content=text),) if text else (), describe(named))
    assert read_functions(turns[0].content) == (text, tuple(named))


def test_a_system_prompt_goes_before_functions_but_not_over_another_prompt() -> None:
    described = describe([{"name": "now"}])
    user = Message(role="user", content="Time?")
    only_functions = with_functions((user,), described)
    assert with_system_prompt(only_functions, "Be brief.")[0].content == f"Be brief.\n\n{described}"
    own = with_functions((Message(role="system", content="Shout."), user), described)
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


def test_words_in_calls_are_cleaned_as_they_are_meant() -> None:
    given = {"number": 15551234567, "body": 'Hi\n"bob"@x', "deep": [{"a": "keep", "n": 2, "ok": True}, None]}
    turn = Message(role="assistant", content=write_answer("Calling.", [call_of("ring", given)]), weight=0)
    words = words_of(turn)
    assert words == ["Calling.", "15551234567", 'Hi\n"bob"@x', "keep", "2"]
    assert with_words(turn, words) is turn
    cleaned = with_words(turn, ["Calling!", "<PHONE_NUMBER>", 'Hi\n<"NAME">\u2028', "keep", "2"])
    assert cleaned.weight == 0
    answer = read_answer(cleaned.content)
    assert answer.text == "Calling!"
    assert json.loads(answer.calls[0].arguments) == {
        "number": "<PHONE_NUMBER>",
        "body": 'Hi\n<"NAME">\u2028',
        "deep": [{"a": "keep", "n": 2, "ok": True}, None],
    }


def test_descriptions_of_functions_are_not_cleaned() -> None:
    described = describe([{"name": "mail", "description": "Such as a@b.org"}])
    for text, replaced in (("Be brief.", "Be <X>."), ("Be brief.", "")):
        turn = with_functions((Message(role="system", content=text),), described)[0]
        assert words_of(turn) == [text]
        before = (Message(role="system", content=replaced),) if replaced else ()
        expected = with_functions(before, described)[0].content
        assert read_functions(with_words(turn, [replaced]).content) == read_functions(expected)
    plain = Message(role="system", content="Be brief.")
    assert with_words(plain, ["x"]).content == "x"


def test_half_a_character_is_no_call_and_no_function() -> None:
    with pytest.raises(NotACall, match="surrogate"):
        call_of("f", '{"x": "\\ud83d"}')
    with pytest.raises(NotACall, match="surrogate"):
        describe([{"name": "f", "description": "\ud83d"}])
    text = '<tool_call>{"name":"f","arguments":{"x":"\\ud83d"}}</tool_call>'
    assert read_answer(text) == (text, ())


@pytest.mark.parametrize(
    "text", ["<tool_call>" + "\n" * 50_000, "<tool_call>" * 10_000, "</tool_call>" * 10_000]
)
def test_hostile_text_is_read_at_once(text: str) -> None:
    assert read_answer(text) == (text, ())
    assert words_of(Message(role="assistant", content=text)) == [text]


def test_a_tag_that_was_opened_in_vain_does_not_hide_a_call() -> None:
    found = read_answer('Use <tool_call> so: <tool_call>{"name": "f", "arguments": {}}</tool_call>')
    assert found == ("Use <tool_call> so:", (ToolCall("f", "{}"),))


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        ("", ()),
        ("Hi", ()),
        ("<tool_call>{", ()),
        ('<tool_call>{"name":"now","arguments":', (ToolCall("now", ""),)),
        ('<tool_call>{"name":"n\\"ow","arguments":{"a":"<', (ToolCall('n"ow', '{"a":"<'),)),
        (f"{CALL}\n<tool_call>{{", (ToolCall("now", "{}"),)),
        (
            f'{CALL}\n<tool_call>{{"name":"b","arguments":{{"x":',
            (ToolCall("now", "{}"), ToolCall("b", '{"x":')),
        ),
        (f"{CALL}\n{CALL}", (ToolCall("now", "{}"), ToolCall("now", "{}"))),
    ],
)
def test_a_demanded_call_that_was_cut_off_is_told_as_far_as_it_came(
    text: str, calls: tuple[ToolCall, ...]
) -> None:
    assert read_forced(text).calls == calls
