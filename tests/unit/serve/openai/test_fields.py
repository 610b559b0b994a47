"""Every field that a client can send is honoured, harmless, or refused by its name; none is passed over."""

from __future__ import annotations

from typing import Any, get_type_hints

import pytest
from openai.types import completion_create_params
from openai.types.chat import (
    ChatCompletionAssistantMessageParam,
    ChatCompletionDeveloperMessageParam,
    ChatCompletionFunctionMessageParam,
    ChatCompletionMessage,
    ChatCompletionStreamOptionsParam,
    ChatCompletionSystemMessageParam,
    ChatCompletionToolMessageParam,
    ChatCompletionUserMessageParam,
    ParsedChatCompletionMessage,
)
from openai.types.chat import completion_create_params as chat_create_params
from openai.types.responses import response_create_params
from pydantic import ValidationError

from tunery.serve.openai.chat import ChatBody, ChatMessage
from tunery.serve.openai.completions import CompletionBody
from tunery.serve.openai.responses import ResponsesBody
from tunery.serve.openai.wire import StreamOptions, Wire

ASK = [{"role": "user", "content": "hi"}]
FUNCTION = {"name": "now", "parameters": {"type": "object"}}
TOOLS = [{"type": "function", "function": FUNCTION}]
HONOURED = "honoured"
HARMLESS = "harmless"

# What each parameter of the client comes to. A pair is a value that is refused, because it would change the
# answer, and one that is taken, because it asks for nothing else than what is done anyway.
SHARED: dict[str, Any] = {
    "model": HONOURED,
    "frequency_penalty": HONOURED,
    "logit_bias": HONOURED,
    "logprobs": HONOURED,
    "max_tokens": HONOURED,
    "n": HONOURED,
    "presence_penalty": HONOURED,
    "seed": HONOURED,
    "stop": HONOURED,
    "stream": HONOURED,
    "stream_options": HONOURED,
    "temperature": HONOURED,
    "top_p": HONOURED,
    "user": HONOURED,
}
CHAT = {
    **SHARED,
    "messages": HONOURED,
    "audio": ({"format": "wav", "voice": "alloy"}, None),
    "function_call": ({"name": "now"}, "auto"),
    "functions": ([FUNCTION], []),
    "max_completion_tokens": HONOURED,
    "metadata": HONOURED,
    "modalities": (["text", "audio"], ["text"]),
    "moderation": ({"model": "omni-moderation-latest"}, None),
    "parallel_tool_calls": HONOURED,
    "prediction": HARMLESS,
    "prompt_cache_key": HARMLESS,
    "prompt_cache_options": HARMLESS,
    "prompt_cache_retention": HARMLESS,
    "reasoning_effort": ("high", "none"),
    "response_format": HONOURED,
    "safety_identifier": HONOURED,
    "service_tier": HARMLESS,
    "store": HONOURED,
    "tool_choice": HONOURED,
    "tools": HONOURED,
    "top_logprobs": HONOURED,
    "verbosity": ("low", "medium"),
    "web_search_options": ({"search_context_size": "low"}, None),
}
COMPLETIONS = {
    **SHARED,
    "prompt": HONOURED,
    "best_of": (2, 1),
    "echo": HONOURED,
    "suffix": (" end", ""),
}
VLLM = {
    "guided_choice": HONOURED,
    "guided_json": HONOURED,
    "guided_regex": HONOURED,
    "structured_outputs": HONOURED,
    "guided_grammar": HONOURED,
    "guided_whitespace_pattern": (" ", None),
    "guided_decoding_backend": HARMLESS,
    "structural_tag": ("{}", None),
    "use_beam_search": (True, False),
    "top_k": HONOURED,
    "min_p": HONOURED,
    "repetition_penalty": HONOURED,
    "length_penalty": (2, 1),
    "min_tokens": HONOURED,
    "stop_token_ids": HONOURED,
    "ignore_eos": HONOURED,
    "include_stop_str_in_output": (True, False),
    "skip_special_tokens": (False, True),
    "spaces_between_special_tokens": (False, True),
    "truncate_prompt_tokens": (5, None),
    "prompt_logprobs": (1, None),
    "allowed_token_ids": ([1], None),
    "bad_words": (["x"], []),
    "logits_processors": (["x"], []),
    "return_tokens_as_token_ids": (True, False),
    "return_token_ids": (True, False),
    "add_special_tokens": (True, False),
    "priority": HARMLESS,
    "request_id": HARMLESS,
    "cache_salt": HARMLESS,
}
VLLM_CHAT = {
    "add_generation_prompt": (False, True),
    "continue_final_message": (True, False),
    "chat_template": ("{{ messages }}", None),
    "chat_template_kwargs": ({"enable_thinking": True}, {"enable_thinking": False}),
    "documents": ([{"text": "x"}], []),
    "mm_processor_kwargs": ({"a": 1}, {}),
    "echo": (True, False),
    "best_of": (2, 1),
    "include_reasoning": HARMLESS,
}
RESPONSES = {
    "model": HONOURED,
    "input": HONOURED,
    "include": HONOURED,
    "instructions": HONOURED,
    "max_output_tokens": HONOURED,
    "metadata": HONOURED,
    "parallel_tool_calls": HONOURED,
    "previous_response_id": HONOURED,
    "safety_identifier": HONOURED,
    "store": HONOURED,
    "stream": HONOURED,
    "stream_options": HONOURED,
    "temperature": HONOURED,
    "text": HONOURED,
    "tool_choice": HONOURED,
    "tools": HONOURED,
    "top_logprobs": HONOURED,
    "top_p": HONOURED,
    "user": HONOURED,
    "access_programs": ({"cyber": "standard"}, None),
    "background": (True, False),
    "background_options": ({"completion_window": "2h"}, None),
    "context_management": ([{"type": "compaction"}], []),
    "conversation": ("conv_1", None),
    "image": ({"context_compression": "auto"}, None),
    "max_tool_calls": HARMLESS,
    "moderation": ({"model": "omni-moderation-latest"}, None),
    "prompt": ({"id": "pmpt_1"}, None),
    "prompt_cache_key": HARMLESS,
    "prompt_cache_options": HARMLESS,
    "prompt_cache_retention": HARMLESS,
    "reasoning": ({"effort": "high"}, {"effort": "none"}),
    "service_tier": HARMLESS,
    "truncation": HONOURED,
}
BEYOND_RESPONSES = dict.fromkeys(SHARED, HONOURED) | {"n": (2, 1)}
BODIES: list[tuple[type[Wire], dict[str, Any], dict[str, Any]]] = [
    (ChatBody, {"model": "m", "messages": ASK}, {**CHAT, **VLLM, **VLLM_CHAT}),
    (CompletionBody, {"model": "m", "prompt": "hi"}, {**COMPLETIONS, **VLLM}),
    (
        ResponsesBody,
        {"model": "m", "input": "hi"},
        {
            **{n: v for n, v in (BEYOND_RESPONSES | VLLM).items() if n in ResponsesBody.model_fields},
            **RESPONSES,
        },
    ),
]
EACH = [
    pytest.param(body, base, name, values, id=f"{body.__name__}-{name}")
    for body, base, table in BODIES
    for name, values in table.items()
    if values != HONOURED
]


def parameters(*kinds: Any) -> set[str]:
    return {name for kind in kinds for name in get_type_hints(kind)}


def test_the_tables_hold_every_parameter_of_the_client() -> None:
    assert set(CHAT) == parameters(
        chat_create_params.CompletionCreateParamsNonStreaming,
        chat_create_params.CompletionCreateParamsStreaming,
    )
    assert set(COMPLETIONS) == parameters(
        completion_create_params.CompletionCreateParamsNonStreaming,
        completion_create_params.CompletionCreateParamsStreaming,
    )
    assert set(RESPONSES) == parameters(
        response_create_params.ResponseCreateParamsNonStreaming,
        response_create_params.ResponseCreateParamsStreaming,
    )


@pytest.mark.parametrize(("body", "base", "name", "values"), EACH)
def test_a_field_that_is_not_served_is_refused_unless_it_changes_nothing(
    body: type[Wire], base: dict[str, Any], name: str, values: Any
) -> None:
    assert body.model_validate({**base, name: None})
    if values == HARMLESS:
        for value in ("x", 7, {"a": 1}, [True]):
            body.model_validate({**base, name: value})
        return
    refused, taken = values
    assert body.model_validate({**base, name: taken})
    with pytest.raises(ValidationError) as error:
        body.model_validate({**base, name: refused})
    found = error.value.errors()
    assert [e["loc"] for e in found] in ([(name,)], [()])
    assert name in str(found[0]["loc"]) + found[0]["msg"]


@pytest.mark.parametrize(("body", "base", "table"), BODIES)
def test_every_field_that_is_read_stands_in_a_table(
    body: type[Wire], base: dict[str, Any], table: dict[str, Any]
) -> None:
    own = {"tunery", "metadata", "store", "safety_identifier", "response_format"}
    caches = {"service_tier", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention"}
    assert set(body.model_fields) - own - caches <= set(table)
    assert set(table) <= set(body.model_fields)


@pytest.mark.parametrize(("body", "base", "table"), BODIES)
@pytest.mark.parametrize("value", [None, 0, "x"])
def test_an_unknown_name_is_refused_with_the_nearest(
    body: type[Wire], base: dict[str, Any], table: dict[str, Any], value: Any
) -> None:
    with pytest.raises(ValidationError) as error:
        body.model_validate({**base, "max_token": value, "extra_body": value})
    first, second = error.value.errors()
    assert (first["loc"], first["type"]) == (("max_token",), "unknown_parameter")
    assert "did you mean 'max_tokens'" in first["msg"] or body is ResponsesBody
    assert second["loc"] == ("extra_body",)


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"stream_options": {"include_usag": True}}, ("stream_options", "include_usag")),
        ({"messages": [{**ASK[0], "contnt": 1}]}, ("messages", 0, "contnt")),
        ({"response_format": {"type": "text", "x": 1}}, ("response_format", "x")),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {}, "strct": 1}}},
            ("response_format", "json_schema", "strct"),
        ),
        ({"structured_outputs": {"choices": ["a"]}}, ("structured_outputs", "choices")),
        ({"tunery": {"label": ["a"]}}, ("tunery", "label")),
    ],
)
def test_an_unknown_name_within_a_field_is_refused(fields: dict[str, Any], place: tuple[Any, ...]) -> None:
    with pytest.raises(ValidationError) as error:
        ChatBody.model_validate({"model": "m", "messages": ASK, **fields})
    assert [e["loc"] for e in error.value.errors()] == [place]


@pytest.mark.parametrize(
    "tool",
    [
        {"type": "custom", "custom": {"name": "x"}},
        {**TOOLS[0], "strict": True},
        {"type": "function", "function": {**FUNCTION, "parameter": {}}},
        {"type": "function", "function": {"name": "x", "parameters": {"type": "string"}}},
        {"type": "function", "function": {"name": "x", "parameters": "object"}},
        {"type": "function", "function": {"name": "\ud800"}},
    ],
)
def test_a_tool_with_a_part_that_nobody_reads_is_refused(tool: Any) -> None:
    with pytest.raises(ValidationError) as error:
        ChatBody.model_validate({"model": "m", "messages": ASK, "tools": [tool]})
    assert error.value.errors()[0]["loc"] == ("tools",)


MESSAGES = (
    ChatCompletionAssistantMessageParam,
    ChatCompletionDeveloperMessageParam,
    ChatCompletionFunctionMessageParam,
    ChatCompletionMessage,
    ChatCompletionSystemMessageParam,
    ChatCompletionToolMessageParam,
    ChatCompletionUserMessageParam,
    ParsedChatCompletionMessage,
)


def test_whatever_the_client_can_put_into_a_message_has_a_place() -> None:
    names = {n for kind in MESSAGES for n in (getattr(kind, "model_fields", None) or get_type_hints(kind))}
    assert names <= set(ChatMessage.model_fields)
    assert set(get_type_hints(ChatCompletionStreamOptionsParam)) <= set(StreamOptions.model_fields)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"role": "assistant", "content": None, "refusal": "I cannot."}, "I cannot."),
        ({"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}, "No."),
        ({"role": "assistant", "content": None}, ""),
        ({"role": "assistant", "content": None, "tool_calls": None}, ""),
        ({"role": "assistant", "content": "Hm", "reasoning_content": "…", "annotations": []}, "Hm"),
        ({"role": "assistant", "content": "Hm", "audio": None, "function_call": None, "parsed": None}, "Hm"),
        ({"role": "tool", "content": None, "tool_call_id": "unknown"}, ""),
        ({"role": "tool", "content": "7"}, "7"),
        ({"role": "function", "name": "now", "content": "12:00"}, "12:00"),
        (
            {"role": "assistant", "content": None, "function_call": {"name": "now", "arguments": "{}"}},
            '<tool_call>{"name":"now","arguments":{}}</tool_call>',
        ),
        (
            {
                "role": "assistant",
                "tool_calls": [{"type": "custom", "custom": {"name": "sh", "input": "ls"}}],
            },
            '<tool_call>{"name":"sh","arguments":"ls"}</tool_call>',
        ),
    ],
)
def test_what_servers_answer_can_be_sent_back(message: dict[str, Any], text: str) -> None:
    assert ChatMessage.model_validate(message).text == text


@pytest.mark.parametrize(
    ("arguments", "written"),
    [
        ('{"x": ', r'"{\"x\": "'),
        ("[1]", '"[1]"'),
        ("{'x': 1}", "\"{'x': 1}\""),
        ("", "{}"),
        (None, "{}"),
        ({"b": 1, "a": 2}, '{"b":1,"a":2}'),
        ('{"b": 1, "a": 2}', '{"b":1,"a":2}'),
        ([1, 2], '"[1,2]"'),
        (7, '"7"'),
        ('"text"', r'"\"text\""'),
        ('{"x": NaN}', r'"{\"x\": NaN}"'),
        (r'{"x": "\ud800"}', r'"{\"x\": \"\\ud800\"}"'),
        ("[" * 3000, '"' + "[" * 3000 + '"'),
        ('{"n": ' + "9" * 5000 + "}", r'"{\"n\": ' + "9" * 5000 + '}"'),
    ],
)
def test_broken_arguments_of_a_history_are_shown_as_their_text(arguments: Any, written: str) -> None:
    call = {"type": "function", "function": {"name": "look_up", "arguments": arguments}}  # no id either
    shown = ChatMessage.model_validate({"role": "assistant", "content": None, "tool_calls": [call]})
    assert shown.text == f'<tool_call>{{"name":"look_up","arguments":{written}}}</tool_call>'


@pytest.mark.parametrize(
    "call",
    [
        {"type": "function", "function": {"arguments": "{}"}},
        {"type": "function", "function": {"name": "", "arguments": "{}"}},
        {"type": "function", "function": {"name": "x", "arguments": "\ud800"}},
        {"type": "function"},
        "now",
    ],
)
def test_a_call_without_a_name_or_with_half_a_character_is_refused(call: Any) -> None:
    with pytest.raises(ValidationError):
        ChatMessage.model_validate({"role": "assistant", "content": None, "tool_calls": [call]})
