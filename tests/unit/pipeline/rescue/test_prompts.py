"""Prompts for an old model: read from every form of row, each drawn once, twins for the same purpose."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunery.core.errors import ConfigError
from tunery.pipeline.rescue.holdout import HoldOut, drawn_prompts
from tunery.pipeline.rescue.prompts import (
    FoundPrompt,
    NoPrompt,
    PromptFile,
    prompt_of,
    read_prompts,
    same_answer,
)
from tunery.rescue.records import RecordedPrompt

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


def asked(text: str, origin: str = "training_file", truth: str | None = None) -> FoundPrompt:
    return FoundPrompt(origin, ({"role": "user", "content": text},), (), truth)


def portions(drawn: list[RecordedPrompt]) -> dict[str, str]:
    return {str(prompt.messages[-1]["content"]): prompt.portion for prompt in drawn}


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 400), min_size=4, max_size=120), st.integers(1, 99), st.integers(0, 4))
def test_twins_share_a_purpose_and_later_prompts_change_none(
    numbers: list[int], cut: int, labels: int
) -> None:
    texts = [
        f"{n * 7919} please tell me where parcel number {n * 104729} of customer {n} is" for n in numbers
    ]
    twins = [text.upper() for text in texts[::3]]
    truths = [f"label {len(text) % labels}" if labels else None for text in [*texts, *twins]]
    every = [asked(text, truth=truth) for text, truth in zip([*texts, *twins], truths, strict=True)]
    size = HoldOut(share=0.3, at_least=2)
    here = len(every) * cut // 100
    first = drawn_prompts(every[:here], [], size)
    later = drawn_prompts(every, first, size)
    assert later[: len(first)] == first
    assert len({prompt.id for prompt in later}) == len(later)
    found = portions(later)
    for text, twin in zip(texts[::3], twins, strict=True):
        assert found[text] == found[twin]


@settings(max_examples=25, deadline=None)
@given(st.permutations([(n, length) for n in range(12) for length in (1, 2, 3)]), st.integers(0, 36))
def test_a_conversation_s_prompts_share_a_purpose(order: list[tuple[int, int]], cut: int) -> None:
    def conversation(n: int, length: int) -> FoundPrompt:
        words = [f"{(n + 1) * 15485863 * (turn + 2)} {(n + 3) * 32452843 + turn * 7919}" for turn in range(3)]
        turns: list[dict[str, Any]] = []
        for word in words[:length]:
            turns += [{"role": "user", "content": word}, {"role": "assistant", "content": f"about {word}"}]
        return FoundPrompt("log", tuple(turns[:-1]))

    every = [conversation(n, length) for n, length in order]
    size = HoldOut(share=0.3, at_least=4)
    drawn = drawn_prompts(every[cut:], drawn_prompts(every[:cut], [], size) if cut else [], size)
    found = {prompt.id: prompt.portion for prompt in drawn}
    for n in range(12):
        assert len({found[conversation(n, length).id] for length in (1, 2, 3)}) == 1
    assert cut or set(found.values()) == {"train", "holdout"}


def test_holdout_comes_from_validation_first_and_has_its_size() -> None:
    rows = [asked(f"{n * 7919} {n * 104729} {n * 1299709}") for n in range(1000)]
    validation = [asked(f"v {n * 15485863} {n * 32452843}", "validation_file") for n in range(60)]
    drawn = drawn_prompts([*rows, *validation], [], HoldOut(share=0.1, at_least=20))
    held = [prompt for prompt in drawn if prompt.portion == "holdout"]
    assert len(held) == 106
    assert sum(prompt.origin == "validation_file" for prompt in held) == 60
    again = drawn_prompts([*rows, *validation], [], HoldOut(share=0.1, at_least=20))
    assert again == drawn


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from("aaaaabbbcd"), min_size=40, max_size=160), st.integers(40, 100))
def test_holdout_has_its_share_of_every_label_however_the_prompts_arrive(labels: list[str], cut: int) -> None:
    rows = [
        asked(f"{n * 7919} {n * 104729} {n * 1299709}", truth=label) for n, label in enumerate(labels * 2)
    ]
    size = HoldOut(share=0.25, at_least=2)
    drawn = drawn_prompts(rows, [], size)
    held = Counter(prompt.truth for prompt in drawn if prompt.portion == "holdout")
    for label, count in Counter(row.truth for row in rows).items():
        assert abs(held[label] - 0.25 * count) <= 1.0
    first = drawn_prompts(rows[: len(rows) * cut // 100], [], size)
    later = drawn_prompts(rows, first, size)
    assert later[: len(first)] == first
    assert Counter(p.portion for p in later)["holdout"] <= round(0.25 * len(rows)) + 1


def test_rows_without_a_label_are_held_out_by_the_plain_rule() -> None:
    texts = [f"{n * 7919} {n * 104729} {n * 1299709}" for n in range(200)]
    plain = drawn_prompts([asked(text) for text in texts], [], HoldOut(share=0.2, at_least=2))
    open_text = drawn_prompts(
        [asked(text, truth=f"an answer of its own, {text}") for text in texts],
        [],
        HoldOut(share=0.2, at_least=2),
    )
    assert portions(plain) == portions(open_text)
    few = [asked(text, truth="ab"[n % 2] if n < 150 else None) for n, text in enumerate(texts)]
    some = drawn_prompts(few, [], HoldOut(share=0.2, at_least=2))
    assert Counter(p.truth for p in some if p.portion == "holdout") == {"a": 15, "b": 15, None: 10}


def test_owner_s_answer_is_kept_wherever_the_prompt_was_found_first() -> None:
    drawn = drawn_prompts([asked("a b c d", "log"), asked("a b c d", truth="yes")], [], HoldOut())
    assert [prompt.truth for prompt in drawn] == ["yes"]
