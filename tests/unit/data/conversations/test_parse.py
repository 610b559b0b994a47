"""Row shapes: every shape gives the conversation its users mean, mapped or detected."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from tunery.core.errors import ConfigError
from tunery.core.tool_text import describe
from tunery.data.config import ColumnsConfig, SourceConfig
from tunery.data.conversations.parse import parse_row
from tunery.data.conversations.shapes import map_columns
from tunery.data.rows.row import BadRow, Draft, RawRow, UnusableRow


def parse(row: dict[str, Any], **settings: Any) -> tuple[str, Draft]:
    source = SourceConfig(path="a.jsonl", **settings)
    mapped = map_columns(source, row)
    return mapped.shape, parse_row(RawRow(1, row), mapped, source)


def turns_of(conversation: Draft) -> list[tuple[str, str]]:
    return [(m.role, m.content) for m in conversation.turns]


HI = [{"role": "user", "content": "Hi"}]
HELLO = [{"role": "assistant", "content": "Hello"}]
OI = [{"role": "assistant", "content": "Oi"}]


@pytest.mark.parametrize(
    ("row", "settings", "shape", "messages"),
    [
        (
            {"text": "Where?", "category": "card_arrival"},
            {"columns": ColumnsConfig(input="text", output="category"), "label_style": "words"},
            "columns",
            [("user", "Where?"), ("assistant", "card arrival")],
        ),
        (
            {"messages": HI, "reference_answer": {"mood": "good"}},
            {},
            "chat",
            [("user", "Hi"), ("assistant", '{"mood":"good"}')],
        ),
        ({"input": "a_b", "output": "c_d"}, {}, "columns", [("user", "a_b"), ("assistant", "c_d")]),
        (
            {"instruction": "Fix.", "input": "He go.", "output": "He goes."},
            {},
            "instruction",
            [("user", "Fix.\n\nHe go."), ("assistant", "He goes.")],
        ),
        (
            {"instruction": "Fix.", "input": "", "output": "Ok"},
            {},
            "instruction",
            [("user", "Fix."), ("assistant", "Ok")],
        ),
        (
            {"task": "Fix.", "output": "Ok"},
            {"columns": ColumnsConfig(instruction="task")},
            "instruction",
            [("user", "Fix."), ("assistant", "Ok")],
        ),
        (
            {"prompt": "1+1=", "completion": 2},
            {},
            "completion",
            [("user", "1+1="), ("assistant", "2")],
        ),
        (
            {"question": "1+1=", "answer": "2"},
            {"columns": ColumnsConfig(prompt="question", completion="answer")},
            "completion",
            [("user", "1+1="), ("assistant", "2")],
        ),
        (
            {
                "messages": [
                    *HI,
                    {
                        "role": "assistant",
                        "content": None,
                        "tool_calls": [
                            {"id": "c1", "type": "function", "function": {"name": "now", "arguments": "{}"}}
                        ],
                    },
                    {"role": "tool", "tool_call_id": "c1", "content": "12:00"},
                    *HELLO,
                ],
                "tools": [{"type": "function", "function": {"name": "now"}}],
            },
            {},
            "chat",
            [
                ("system", describe([{"name": "now"}])),
                ("user", "Hi"),
                ("assistant", '<tool_call>{"name":"now","arguments":{}}</tool_call>'),
                ("tool", "12:00"),
                ("assistant", "Hello"),
            ],
        ),
        (
            {
                "tools": '[{"name": "now"}]',
                "conversations": [
                    {"from": "system", "value": "Be brief."},
                    {"from": "human", "value": "Time?"},
                    {"from": "function_call", "value": '{"name": "now", "arguments": {"zone": "UTC"}}'},
                ],
            },
            {},
            "chat",
            [
                ("system", "Be brief.\n\n" + describe([{"name": "now"}])),
                ("user", "Time?"),
                ("assistant", '<tool_call>{"name":"now","arguments":{"zone":"UTC"}}</tool_call>'),
            ],
        ),
        (
            {"messages": HI + HELLO, "parallel_tool_calls": False},
            {},
            "chat",
            [("user", "Hi"), ("assistant", "Hello")],
        ),
        (
            {
                "id": "x1",
                "conversations": [
                    {"from": "system", "value": "Be kind."},
                    {"from": "human", "value": "Hi"},
                    {"from": "gpt", "value": "Hello", "weight": None},
                ],
            },
            {},
            "chat",
            [("system", "Be kind."), ("user", "Hi"), ("assistant", "Hello")],
        ),
        (
            {"conversation": "c7", "input": "a", "output": "b"},
            {},
            "columns",
            [("user", "a"), ("assistant", "b")],
        ),
        (
            {"turns": HI + HELLO},
            {"columns": ColumnsConfig(messages="turns")},
            "chat",
            [("user", "Hi"), ("assistant", "Hello")],
        ),
    ],
)
def test_shapes_are_recognised_and_read(
    row: dict[str, Any], settings: dict[str, Any], shape: str, messages: list[tuple[str, str]]
) -> None:
    found, conversation = parse(row, **settings)
    assert found == shape
    assert turns_of(conversation) == messages
    assert not conversation.is_pair


@pytest.mark.parametrize(
    "row",
    [
        {"input": {"messages": HI}, "preferred_output": HELLO, "non_preferred_output": OI},
        {"prompt": "Hi", "chosen": "Hello", "rejected": "Oi"},
        {"prompt": HI, "chosen": HELLO, "rejected": OI},
        {"prompt": HI, "chosen": HI + HELLO, "rejected": HI + OI},
        {"chosen": HI + HELLO, "rejected": HI + OI},
        {"instruction": "Hi", "input": "", "output": "Hello", "chosen": "Hello", "rejected": "Oi"},
        {"input": "Hi", "chosen": "Hello", "rejected": "Oi"},
        {"messages": HI, "chosen": "Hello", "rejected": "Oi"},
        {
            "chosen": "\n\nHuman: Hi\n\nAssistant: Hello",
            "rejected": "\n\nHuman: Hi\n\nAssistant: Oi",
        },
    ],
)
def test_every_way_to_write_a_preference_pair_means_the_same(row: dict[str, Any]) -> None:
    shape, conversation = parse(row)
    assert shape == "preference"
    assert conversation.is_pair
    assert turns_of(conversation) == [("user", "Hi"), ("assistant", "Hello"), ("assistant", "Oi")]


def test_mapped_preference_columns_are_used() -> None:
    columns = ColumnsConfig(prompt="q", chosen="good", rejected="bad")
    _, conversation = parse({"q": "Hi", "good": "Hello", "bad": "Oi"}, columns=columns)
    assert conversation.is_pair
    assert conversation.turns[-1].content == "Oi"


def test_an_object_becomes_compact_json_in_its_own_key_order() -> None:
    row = {"input": "receipt", "output": {"total": "9.00", "shop": "Café", "day": datetime.date(2024, 5, 31)}}
    _, conversation = parse(row, output_json=True)
    assert conversation.turns[-1].content == '{"total":"9.00","shop":"Café","day":"2024-05-31"}'
    row["output"] = '{ "total" : "9.00" }'
    assert parse(row, output_json=True)[1].turns[-1].content == '{"total":"9.00"}'


@pytest.mark.parametrize(
    ("row", "settings", "fix"),
    [
        ({"input": "a", "output": {"x": 1}}, {}, "output_json: true"),
        ({"input": {"x": 1}, "output": "b"}, {}, "text is expected"),
        ({"input": "a", "output": "no json"}, {"output_json": True}, "not JSON"),
        ({"input": b"a", "output": "b"}, {}, "bytes"),
        ({"input": "a", "output": float("inf")}, {}, "no finite number"),
        ({"input": float("-inf"), "output": "b"}, {}, "no finite number"),
        ({"input": "a", "output": {"x": [float("inf")]}}, {"output_json": True}, "no finite number"),
        ({"input": "a", "output": '{"x": 1e400}'}, {"output_json": True}, "no finite number"),
        ({"messages": HI, "reference_answer": {"x": float("-inf")}}, {}, "no finite number"),
        ({"input": "\ud800", "output": "b"}, {}, "surrogate"),
        ({"messages": HI + HELLO, "tools": [{"type": "function"}]}, {}, "an object with a name"),
        ({"messages": HI + HELLO, "tools": "no json"}, {}, "the JSON of one"),
        ({"messages": HI + HELLO, "tools": [{"type": "web_search"}]}, {}, "only tools of type function"),
        ({"prompt": HI, "chosen": HI + HI + HELLO, "rejected": OI}, {}, "must be one assistant turn"),
    ],
)
def test_rows_that_cannot_be_understood_say_why(
    row: dict[str, Any], settings: dict[str, Any], fix: str
) -> None:
    with pytest.raises(BadRow) as caught:
        parse(row, **settings)
    assert any(fix in flaw.fix for flaw in caught.value.flaws)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"input": " \n", "output": "b"}, "empty_input"),
        ({"input": "a", "output": None}, "empty_output"),
        ({"prompt": "a", "completion": ""}, "empty_output"),
        ({"prompt": "a", "chosen": "b", "rejected": " "}, "empty_output"),
        ({"chosen": "b", "rejected": "c"}, "empty_input"),
        ({"chosen": HI + HELLO, "rejected": [{"role": "user", "content": "Ho"}, *OI]}, "prompts_differ"),
    ],
)
def test_rows_that_teach_nothing_are_dropped_with_a_reason(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(UnusableRow) as caught:
        parse(row)
    assert caught.value.drop.reason == reason


@pytest.mark.parametrize("label", ["spam", 2, "", None, 0.5])
def test_a_label_that_is_neither_yes_nor_no_says_nothing_of_liking(label: Any) -> None:
    row = {"prompt": "a", "completion": "b", "label": label}
    assert turns_of(parse(row)[1]) == [("user", "a"), ("assistant", "b")]


@pytest.mark.parametrize("label", [1, "1", True])
def test_a_label_that_is_the_answer_itself_is_a_class(label: Any) -> None:
    row = {"prompt": "a", "completion": "1", "label": label}
    draft = parse(row)[1]
    assert turns_of(draft)[-1] == ("assistant", "1")
    assert draft.desirable is (True if label is True else None)


def test_columns_that_tell_no_shape_are_listed() -> None:
    with pytest.raises(ConfigError, match="'question', 'reply'") as caught:
        parse({"question": "a", "reply": "b"})
    assert "columns:" in (caught.value.hint or "")
