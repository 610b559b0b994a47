"""Conversations: what is accepted, and the reason for each thing that is not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tunery.core.example import Message
from tunery.data.conversations.messages import check_conversation, parse_messages, parse_transcript
from tunery.data.rows.row import BadRow, UnusableRow

USER = {"role": "user", "content": "Hi"}
ANSWER = {"role": "assistant", "content": "Hello"}


def test_turns_keep_role_content_and_weight() -> None:
    given = [{"role": "developer", "content": "Be kind."}, USER, {**ANSWER, "weight": 0}, USER, ANSWER]
    found = parse_messages(given, "messages")
    assert [(m.role, m.content, m.weight) for m in found] == [
        ("system", "Be kind.", 1),
        ("user", "Hi", 1),
        ("assistant", "Hello", 0),
        ("user", "Hi", 1),
        ("assistant", "Hello", 1),
    ]


def test_a_json_string_and_text_parts_are_understood() -> None:
    parts = {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}
    found = parse_messages(json.dumps([parts, ANSWER]), "messages")
    assert found[0].content == "ab"


@pytest.mark.parametrize(
    ("turn", "field", "fix"),
    [
        ({"role": "assitant", "content": "x"}, "messages[0].role", "did you mean 'assistant'?"),
        (
            {"content": "x"},
            "messages[0].role",
            "must be one of assistant, developer, function, system, tool, user",
        ),
        ({"role": "user"}, "messages[0].content", "must be text"),
        ({"role": "user", "content": 5}, "messages[0].content", "must be text"),
        ({"role": "user", "content": [{"type": "image_url"}]}, "messages[0].content", "must be text"),
        ({"role": "user", "content": "\ud800"}, "messages[0].content", "half a surrogate pair"),
        ({**ANSWER, "weight": 2}, "messages[0].weight", "must be 0"),
        ({**ANSWER, "weight": "maybe"}, "messages[0].weight", "must be 0"),
        ({**ANSWER, "loss_weight": 0.5}, "messages[0].loss_weight", "no weight between"),
        ({**ANSWER, "weight": 1, "train": False}, "messages[0]", "contradict"),
        ({**ANSWER, "mask": True}, "messages[0].mask", "may mean learnt or hidden"),
        ({"from": "gpt", "value": "x", "mask": 0}, "messages[0].mask", "may mean learnt or hidden"),
        ({**ANSWER, "tool_calls": [{}]}, "messages[0].tool_calls", "needs the function's name"),
        ({**ANSWER, "tool_calls": "f()"}, "messages[0].tool_calls", "must be a list of calls"),
        (
            {**ANSWER, "tool_calls": [{"function": {"name": "f", "arguments": "{bad"}}]},
            "messages[0].tool_calls",
            "must be the JSON of an object",
        ),
        (
            {**ANSWER, "tool_calls": [{"function": {"name": "f", "arguments": '{"x": 1e400}'}}]},
            "messages[0].tool_calls",
            "infinite",
        ),
        (
            {**ANSWER, "function_call": {"name": "f", "arguments": "[1]"}},
            "messages[0].function_call",
            "must be an object",
        ),
        (
            {**USER, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]},
            "messages[0].tool_calls",
            "only the assistant",
        ),
        ({**USER, "text": "x"}, "messages[0].text", "unknown key"),
        ("Hi", "messages[0]", "must be an object"),
        ({"from": "humen", "value": "x"}, "messages[0].from", "did you mean 'human'?"),
        ({"from": "gpt"}, "messages[0].value", "must be text"),
        ({"from": "function_call", "value": "{}"}, "messages[0].value", "needs the function's name"),
        ({"from": "function_call", "value": "f()"}, "messages[0].value", "the JSON of a call"),
    ],
)
def test_each_flaw_is_reported_with_field_and_fix(turn: Any, field: str, fix: str) -> None:
    with pytest.raises(BadRow) as caught:
        parse_messages([turn], "messages")
    assert caught.value.flaws[0].field == field
    assert fix in caught.value.flaws[0].fix


def test_all_flaws_of_a_conversation_are_reported_at_once() -> None:
    with pytest.raises(BadRow) as caught:
        parse_messages([{"role": "usr", "content": 1}, {"role": "user"}], "messages")
    assert [f.field for f in caught.value.flaws] == [
        "messages[0].role",
        "messages[0].content",
        "messages[1].content",
    ]


@pytest.mark.parametrize(
    ("roles", "fix"),
    [
        (("user",), "the last turn must be the assistant's"),
        (("user", "system", "assistant"), "a system turn can only be the first"),
        (("system", "assistant"), "add a user turn"),
    ],
)
def test_conversations_in_the_wrong_order_are_refused(roles: tuple[Any, ...], fix: str) -> None:
    with pytest.raises(BadRow) as caught:
        check_conversation(tuple(Message(role=r, content="x") for r in roles), "messages")
    assert any(fix in f.fix for f in caught.value.flaws)


@pytest.mark.parametrize(
    ("turns", "reason"),
    [
        ([("user", "x", 1), ("assistant", " \n", 1)], "empty_output"),
        ([("user", " ", 1), ("assistant", "x", 1)], "empty_input"),
        ([("user", "x", 1), ("assistant", "x", 0)], "no_trained_turn"),
    ],
)
def test_conversations_that_teach_nothing_are_dropped(turns: list[tuple[Any, str, Any]], reason: str) -> None:
    messages = tuple(Message(role=r, content=c, weight=w) for r, c, w in turns)
    with pytest.raises(UnusableRow) as caught:
        check_conversation(messages, "messages")
    assert caught.value.drop.reason == reason


def test_transcripts_are_read_and_other_text_is_not() -> None:
    text = "\n\nHuman: Is Human: a word?\n\nAssistant: Yes.\n\nIt is.\n\nHuman: Thanks\n\nAssistant:"
    found = parse_transcript(text)
    assert found is not None
    assert [(m.role, m.content) for m in found] == [
        ("user", "Is Human: a word?"),
        ("assistant", "Yes.\n\nIt is."),
        ("user", "Thanks"),
        ("assistant", ""),
    ]
    assert parse_transcript("Say: Human: no") is None
    assert parse_transcript("plain") is None
