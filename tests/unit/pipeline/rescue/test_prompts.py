"""Prompts for an old model: read from every form of row, bad rows named and left out, calls as words."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tunery.core.errors import ConfigError
from tunery.pipeline.rescue.prompts import (
    FoundPrompt,
    NoPrompt,
    PromptFile,
    prompt_of,
    read_prompts,
    same_answer,
)

USER = {"role": "user", "content": "Where is my card?"}


@pytest.mark.parametrize(
    ("row", "truth"),
    [
        ({"messages": [USER, {"role": "assistant", "content": "card_arrival", "weight": 1}]}, "card_arrival"),
        ({"messages": [USER]}, None),
        ({"messages": [USER], "answer": "card_arrival"}, "card_arrival"),
        ({"prompt": "Where is my card?", "completion": "card_arrival"}, "card_arrival"),
        ({"question": "Where is my card?", "answer": "card_arrival"}, "card_arrival"),
        (
            {
                "input": {"messages": [USER]},
                "preferred_output": [{"role": "assistant", "content": "card_arrival"}],
                "non_preferred_output": [{"role": "assistant", "content": "no"}],
            },
            "card_arrival",
        ),
    ],
)
def test_every_form_of_row_asks_the_same(row: dict[str, Any], truth: str | None) -> None:
    asked = prompt_of(row, "log")
    assert asked is not None
    assert (list(asked.messages), asked.truth) == ([USER], truth)
    assert asked.id == FoundPrompt("training_file", (USER,)).id


BAD = [
    ({}, "no prompt found in it"),
    ([1], "must be an object"),
    ({"messages": []}, "no prompt found in it"),
    ({"messages": [{"role": "system", "content": "x"}]}, "no prompt found in it"),
    ({"messages": ["x"]}, "messages[0]: must be an object with role and content"),
    ({"messages": [{"content": "x"}]}, "messages[0]: must be an object with role and content"),
    ({"messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content: must be text"),
    ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content: must be text"),
    ({"messages": [{"role": "user", "content": "\ud800"}]}, "half a surrogate pair"),
    (
        {"messages": [USER, {"role": "assistant", "tool_calls": [{"function": {}}]}]},
        "tool_calls: a call needs",
    ),
    ({"messages": [USER, {"role": "assistant", "tool_calls": 3}]}, "tool_calls: must be a list of calls"),
    ({"messages": [USER], "tools": [{"type": "web_search"}]}, "tools: only tools of type function are known"),
    ({"messages": [USER], "preferred_output": ["x"]}, "preferred_output[0]: must be an object"),
    ({"prompt": ""}, "no prompt found in it"),
]


@pytest.mark.parametrize(("row", "said"), BAD)
def test_row_that_asks_nothing_is_named_with_what_is_wrong(row: Any, said: str) -> None:
    with pytest.raises(NoPrompt, match=re.escape(said)):
        prompt_of(row, "log")


def test_bad_rows_take_no_other_with_them(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    lines = [json.dumps(row) for row, _ in BAD]
    file.write_text("\n".join([*lines, "{", json.dumps({"messages": [USER]})]) + "\n")
    read = read_prompts(PromptFile(path=file, origin="log"))
    assert [found.messages for found in read.found] == [(USER,)]
    # What is no JSON is found before rows are looked at.
    assert {line.split(":")[1] for line in read.left_out} == {f" row {n}" for n in range(1, len(BAD) + 2)}
    assert all(line.startswith(f"{file}: row ") for line in read.left_out)
    file.write_text("\n".join(lines))
    with pytest.raises(ConfigError, match="14 problems"):
        read_prompts(PromptFile(path=file, origin="log"))
    file.write_text("")
    with pytest.raises(ConfigError, match="there is no row in the file"):
        read_prompts(PromptFile(path=file, origin="log"))


def test_calls_are_an_answer_in_the_words_that_rows_are_trained_in() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": '{"parcel": 7}'}}
    tools = [{"type": "function", "function": {"name": "find", "parameters": {}}}]
    asked = prompt_of(
        {"messages": [USER, {"role": "assistant", "content": None, "tool_calls": [call]}], "tools": tools},
        "log",
    )
    assert asked.truth == '<tool_call>{"name":"find","arguments":{"parcel":7}}</tool_call>'
    assert same_answer(asked.truth, '<tool_call>{"arguments": {"parcel": 7}, "name": "find"}</tool_call>')
    assert not same_answer(asked.truth, asked.truth.replace("7", "8"))
    assert not same_answer(asked.truth, "find")


def test_tools_and_system_turn_make_another_prompt() -> None:
    system = {"role": "system", "content": "Be brief."}
    ids = {
        FoundPrompt("log", (USER,)).id,
        FoundPrompt("log", (system, USER)).id,
        FoundPrompt("log", (USER,), ({"type": "function"},)).id,
    }
    assert len(ids) == 3
