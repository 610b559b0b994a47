"""Bodies to engine requests and generations to OpenAI's objects, judged by the client's own types."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import ValidationError

from tunery.core.engine import Constraint, Generation, TokenEvent, TopLogprob
from tunery.core.tool_text import ToolCall, read_answer, read_functions
from tunery.serve.openai import chat, completions
from tunery.serve.openai.chat import ChatBody, Head
from tunery.serve.openai.completions import CompletionBody
from tunery.serve.openai.tool_calls import CallWatch
from tunery.serve.openai.wire import SamplingDefaults

ASK = [{"role": "user", "content": "hi"}]
HEAD = Head("chatcmpl-1", 1_700_000_000, "bot@1")
TOKENS = (
    TokenEvent(
        1,
        "he",
        -0.5,
        (TopLogprob(1, "he", -0.5, b"he"), TopLogprob(2, "x", float("-inf"), b"x")),
        "he",
        b"he",
    ),
    TokenEvent(2, "y", -9.0, (), "y", b"y"),
)


def a_generation(text: str = "hey", **changes: Any) -> Generation:
    fields: dict[str, Any] = {
        "text": text,
        "token_ids": (1, 2),
        "finish_reason": "stop",
        "prompt_tokens": 10,
        "cached_tokens": 4,
        "ttft_ms": 1.0,
        "latency_ms": 2.0,
        "tokens": TOKENS,
    }
    return Generation(**{**fields, **changes})


def body(**fields: Any) -> ChatBody:
    return ChatBody.model_validate({"model": "bot", "messages": ASK, **fields})


def test_what_is_left_open_gets_the_defaults() -> None:
    how = body(temperature=None, max_tokens=None).how(SamplingDefaults(max_tokens=9))
    assert (how.max_tokens, how.temperature, how.top_p, how.seed, how.stop) == (9, 0.0, 1.0, None, ())
    assert how.logprobs is None


def test_what_is_asked_for_is_passed_on() -> None:
    request = body(
        max_tokens=5, max_completion_tokens=7, temperature=0.3, top_p=0.9, seed=-4, stop="end", logprobs=True
    )
    how = request.how(SamplingDefaults())
    assert (how.max_tokens, how.temperature, how.top_p, how.seed, how.stop) == (7, 0.3, 0.9, -4, ("end",))
    assert how.logprobs == 0
    assert body(logprobs=True, top_logprobs=5).how(SamplingDefaults()).logprobs == 5


def test_what_changes_logits_is_passed_on() -> None:
    how = body(
        presence_penalty=0.5,
        frequency_penalty=-1,
        repetition_penalty=1.2,
        logit_bias={"5": -100, "7": 1.5},
        top_k=-1,
        min_p=0.1,
        min_tokens=3,
        stop_token_ids=[9],
        ignore_eos=True,
    ).how(SamplingDefaults())
    assert (how.presence_penalty, how.frequency_penalty, how.repetition_penalty) == (0.5, -1, 1.2)
    assert how.logit_bias == ((5, -100.0), (7, 1.5))
    assert (how.top_k, how.min_p, how.min_tokens) == (0, 0.1, 3)
    assert (how.stop_token_ids, how.ignore_eos) == ((9,), True)
    assert not body().how(SamplingDefaults()).adjusts


def test_developer_turns_and_text_parts_are_read() -> None:
    turns = body(
        messages=[
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        ]
    ).turns()
    assert [(m.role, m.content) for m in turns] == [("system", "Be brief."), ("user", "ab")]


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({}, None),
        ({"response_format": {"type": "text"}}, None),
        ({"response_format": {"type": "json_object"}}, Constraint(json_schema={"type": "object"})),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "array"}}}},
            Constraint(json_schema={"type": "array"}),
        ),
        ({"tunery": {"labels": ["a", "b"]}}, Constraint(labels=("a", "b"))),
        ({"guided_choice": ["a"]}, Constraint(labels=("a",))),
        ({"guided_grammar": 'root ::= "a"'}, Constraint(grammar='root ::= "a"')),
        ({"structured_outputs": {"grammar": 'start: "a"'}}, Constraint(grammar='start: "a"')),
    ],
)
def test_each_way_to_ask_for_a_form_becomes_a_constraint(
    fields: dict[str, Any], wanted: Constraint | None
) -> None:
    assert body(**fields).constraint() == wanted


@pytest.mark.parametrize(
    "fields",
    [
        {"guided_choice": ["a"], "tunery": {"labels": ["b"]}},
        {"guided_grammar": 'root ::= "a"', "guided_regex": "a"},
        {"guided_grammar": "a" * 10_001},
        {"frequency_penalty": 2.5},
        {"presence_penalty": float("nan")},
        {"logit_bias": {"1": 101}},
        {"logit_bias": {"-1": 1}},
        {"logit_bias": {"word": 1}},
        {"logit_bias": {str(i): 0 for i in range(1025)}},
        {"repetition_penalty": 0},
        {"min_p": 1.5},
        {"top_k": -2},
        {"stop_token_ids": ["5"]},
        {"ignore_eos": 1},
        {"top_logprobs": 3},
        {"metadata": {f"k{i}": "v" for i in range(17)}},
        {"metadata": {"k" * 65: "v"}},
        {"metadata": {"k": "v" * 513}},
        {"temperature": float("nan")},
        {"messages": [{"role": "user", "content": "\ud800"}]},
        {"messages": [{"role": "user"}]},
        {"messages": [{"role": "assistant", "content": "x", "tool_calls": [{}]}]},
    ],
)
def test_what_cannot_be_honoured_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        body(**fields)


def test_a_completion_and_its_chunks_are_what_the_clients_types_say() -> None:
    done = a_generation()
    whole = chat.completion_of(HEAD, [done, done], logprobs=True)
    ChatCompletion.model_validate(whole, strict=True)
    assert whole["usage"]["prompt_tokens"] == 10
    assert whole["usage"]["completion_tokens"] == 6  # two tokens and the stop token, twice
    content = whole["choices"][0]["logprobs"]["content"]
    assert content[0]["bytes"] == [104, 101]
    assert content[0]["top_logprobs"][1]["logprob"] == -9999.0
    for chunk in (
        chat.first_chunk(HEAD, 0),
        chat.text_chunk(HEAD, 0, "he", chat.logprobs_of(TOKENS)),
        chat.last_chunk(HEAD, 0, done),
        chat.usage_chunk(HEAD, [done]),
    ):
        ChatCompletionChunk.model_validate(chunk, strict=True)


TOOLS = [{"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}}]
CALL = '<tool_call>{"name": "now", "arguments": {"zone": "UTC"}}</tool_call>'


def test_functions_are_told_of_in_the_system_turn_and_calls_go_back_as_text() -> None:
    request = body(
        tools=TOOLS,
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Time?"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "c",
                        "type": "function",
                        "function": {"name": "now", "arguments": '{"zone": "UTC"}'},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "c", "content": "12:00"},
        ],
    )
    turns = request.turns()
    assert read_functions(turns[0].content) == ("Be brief.", (TOOLS[0]["function"],))
    assert read_answer(turns[2].content).calls == (ToolCall("now", '{"zone":"UTC"}'),)
    assert request.may_call
    silent = body(tools=TOOLS, tool_choice="none")
    assert not silent.may_call
    assert [t.role for t in silent.turns()] == ["user"]


def test_a_call_is_told_as_the_clients_types_say() -> None:
    done = a_generation(text=f"One moment.\n{CALL}\n{CALL}")
    whole = chat.completion_of(HEAD, [done, a_generation()], logprobs=False, offer=body(tools=TOOLS).offer)
    found = ChatCompletion.model_validate(whole, strict=True)
    assert found.choices[0].finish_reason == "tool_calls"
    assert found.choices[0].message.content == "One moment."
    first, second = found.choices[0].message.tool_calls or []
    assert first.id != second.id
    assert first.type == "function"
    assert (first.function.name, first.function.arguments) == ("now", '{"zone":"UTC"}')
    assert found.choices[1].finish_reason == "stop"
    assert found.choices[1].message.tool_calls is None
    calls = read_answer(done.text).calls
    chunk = ChatCompletionChunk.model_validate(chat.calls_chunk(HEAD, 0, calls), strict=True)
    assert [c.index for c in chunk.choices[0].delta.tool_calls or []] == [0, 1]


@given(st.lists(st.sampled_from(["a ", "<", "<tool", "_call>", CALL, "\n", "<tool_call>{", "b"])), st.data())
def test_a_stream_says_what_the_whole_answer_says(parts: list[str], data: st.DataObject) -> None:
    text = "".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    watch = CallWatch()
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    sent = "".join(watch.feed(piece) for piece in pieces)
    left = watch.end()
    whole = read_answer(text)
    assert left.calls == whole.calls
    assert sent + left.text == whole.text


def test_text_completions_are_what_the_clients_types_say() -> None:
    done = a_generation(finish_reason="length")
    whole = completions.text_completion(HEAD, [done] * 4, prompts=2, echo=None, logprobs=True)
    Completion.model_validate(whole, strict=True)
    assert whole["usage"] == {
        "prompt_tokens": 20,
        "completion_tokens": 8,
        "total_tokens": 28,
        "prompt_tokens_details": {"cached_tokens": 8},
    }
    assert whole["choices"][3]["index"] == 3
    columns = completions.Columns().of(TOKENS)
    assert columns["text_offset"] == [0, 2]
    chunk = completions.text_chunk(HEAD, 0, "he", columns)
    assert chunk["choices"][0].pop("finish_reason") is None  # as OpenAI sends it, whatever the type says
    chunk["choices"][0]["finish_reason"] = "stop"
    Completion.model_validate(chunk, strict=True)
    Completion.model_validate(completions.last_chunk(HEAD, 0, done), strict=True)
    Completion.model_validate(completions.usage_chunk(HEAD, [done], prompts=1), strict=True)


def test_a_cancelled_completion_is_told_as_one_cut_at_its_limit() -> None:
    assert chat.finish_reason(a_generation(finish_reason="cancelled")) == "length"


@pytest.mark.parametrize(
    ("prompt", "wanted"),
    [("a", ("a",)), ([1, 2], ((1, 2),)), (["a", "b"], ("a", "b")), ([[1], [2, 3]], ((1,), (2, 3)))],
)
def test_each_form_of_prompt_is_read(prompt: Any, wanted: Any) -> None:
    assert CompletionBody.model_validate({"model": "m", "prompt": prompt}).prompts() == wanted


@pytest.mark.parametrize(
    "fields",
    [
        {"suffix": "x"},
        {"best_of": 3},
        {"prompt": []},
        {"prompt": [-1]},
        {"prompt": [2**31]},
        {"prompt": [[1], [2**32]]},
        {"echo": True, "logprobs": 1, "stream": True},
    ],
)
def test_completion_extras_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        CompletionBody.model_validate({"model": "m", "prompt": "a", **fields})


INNER: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "string"}}}
CLOSED = {**INNER, "additionalProperties": False}


@pytest.mark.parametrize(
    ("parameters", "followed"),
    [
        (None, {"type": "object"}),
        ({}, {"type": "object"}),
        ({"type": "object"}, {"type": "object"}),
        (INNER, CLOSED),
        ({**INNER, "additionalProperties": True}, {**INNER, "additionalProperties": True}),
        ({"properties": {"b": 1, "a": 2}}, {"properties": {"b": 1, "a": 2}}),
        ({"$ref": "#/$defs/x", "$defs": {"x": INNER}}, {"$defs": {"x": CLOSED}}),
        ({**INNER, "allOf": [{"required": ["a"]}]}, {**INNER, "allOf": [{"required": ["a"]}]}),
    ],
)
def test_arguments_of_a_forced_call_are_those_declared(parameters: Any, followed: dict[str, Any]) -> None:
    tool = {"type": "function", "function": {"name": "now", "parameters": parameters}}
    constraint = body(tools=[tool], tool_choice="required").constraint()
    assert constraint is not None
    assert constraint.calls is not None
    ((name, schema),) = constraint.calls.functions
    assert name == "now"
    assert followed.items() <= schema.items()
    assert list(schema.get("properties", {})) == list(followed.get("properties", {})), "in their order"


def test_a_free_choice_leaves_the_model_alone_unless_a_schema_is_promised() -> None:
    assert body(tools=TOOLS).constraint() is None
    strict = [{"type": "function", "function": {"name": "now", "strict": True, "parameters": INNER}}]
    promised = body(tools=strict).constraint()
    assert promised is not None
    assert promised.calls is not None
    assert not promised.calls.required
    assert body(tools=strict, tool_choice="none").constraint() is None
    narrowed = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": TOOLS}}
    other = {"type": "function", "function": {"name": "other"}}
    held = body(tools=[*TOOLS, other], tool_choice=narrowed).constraint()
    assert held is not None
    assert held.calls is not None
    assert [name for name, _ in held.calls.functions] == ["now"]


def test_one_call_alone_is_told_where_several_are_not_welcome() -> None:
    done = a_generation(text=f"{CALL}\n{CALL}")
    for parallel, count in ((None, 2), (True, 2), (False, 1)):
        offer = body(tools=TOOLS, parallel_tool_calls=parallel).offer
        whole = chat.completion_of(HEAD, [done], logprobs=False, offer=offer)
        assert len(whole["choices"][0]["message"]["tool_calls"]) == count
