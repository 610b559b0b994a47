"""What an answer must be goes to a server in its own words, or is refused by the field that says so."""

from __future__ import annotations

from typing import Any

import pytest

from tunery.core.engine import GenerationRequest
from tunery.core.errors import ConfigError
from tunery.core.example import Message
from tunery.serve.engines.upstream.chat import ChatDialect
from tunery.serve.engines.upstream.dialect import Dialect
from tunery.serve.engines.upstream.llamacpp import LlamaCppDialect
from tunery.serve.engines.upstream.openai import OpenAIDialect
from tunery.serve.engines.upstream.vllm import VllmDialect
from tunery.serve.openai.chat import ChatBody
from tunery.serve.openai.wire import SamplingDefaults

SCHEMA = {"type": "object", "properties": {"sure": {"type": "boolean"}}}
GRAMMAR = 'root ::= "red" | "blue"'
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
NAMED = {"name": "answer", "strict": True, "schema": SCHEMA}
JSON_FORM = {"type": "json_schema", "json_schema": NAMED}
OBJECT = {"type": "json_object"}

FORMS = [
    # fields of a request, what vLLM gets as structured_outputs, what chat completions get as response_format
    ({"guided_json": SCHEMA}, {"json": SCHEMA}, JSON_FORM),
    ({"guided_json": '{"type": "object"}'}, {"json": {"type": "object"}}, OBJECT),
    ({"structured_outputs": {"json": SCHEMA}}, {"json": SCHEMA}, JSON_FORM),
    ({"structured_outputs": {"json_object": True}}, {"json": {"type": "object"}}, OBJECT),
    ({"response_format": JSON_FORM}, {"json": SCHEMA}, JSON_FORM),
    ({"response_format": OBJECT}, {"json": {"type": "object"}}, OBJECT),
    ({"guided_choice": ["a", "b"]}, {"choice": ("a", "b")}, "guided_choice"),
    ({"structured_outputs": {"choice": ["a"]}}, {"choice": ("a",)}, "structured_outputs.choice"),
    ({"tunery": {"labels": ["a", "b"]}}, {"choice": ("a", "b")}, "tunery.labels"),
    ({"guided_regex": "[ab]+"}, {"regex": "[ab]+"}, "guided_regex"),
    ({"structured_outputs": {"regex": "[ab]+"}}, {"regex": "[ab]+"}, "structured_outputs.regex"),
    ({"guided_grammar": GRAMMAR}, {"grammar": GRAMMAR}, "guided_grammar"),
    ({"structured_outputs": {"grammar": GRAMMAR}}, {"grammar": GRAMMAR}, "structured_outputs.grammar"),
]


def body_of(dialect: Dialect, **fields: Any) -> dict[str, Any]:
    body = ChatBody.model_validate({"model": "m", "messages": [{"role": "user", "content": "x"}], **fields})
    request = GenerationRequest(
        (5, 6),
        sampling=body.how(SamplingDefaults()),
        constraint=body.constraint(),
        messages=(Message(role="user", content="x"),),
        chat=body.chat(),
    )
    return dialect.body(request, "m", 8)


@pytest.mark.parametrize(("fields", "structured", "chat"), FORMS)
def test_each_form_goes_in_the_servers_words_or_is_refused_by_its_field(
    fields: dict[str, Any], structured: dict[str, Any], chat: dict[str, Any] | str
) -> None:
    for dialect in (VllmDialect(), OpenAIDialect()):
        assert body_of(dialect, **fields)["structured_outputs"] == structured
    assert body_of(LlamaCppDialect(), **fields)["grammar"].startswith("%llguidance")
    if isinstance(chat, dict):
        assert body_of(ChatDialect(), **fields)["response_format"] == chat
        return
    with pytest.raises(ConfigError, match="labels, patterns and grammars are not passed on") as refused:
        body_of(ChatDialect(), **fields)
    assert refused.value.param == chat


def test_calls_are_the_chat_servers_own_and_refused_where_ids_go_and_a_call_must_come() -> None:
    both = {"tools": TOOLS, "guided_json": SCHEMA}
    sent = body_of(ChatDialect(), **both)
    assert (sent["tools"], sent["response_format"]) == (TOOLS, JSON_FORM)
    required = {"tools": TOOLS, "tool_choice": "required"}
    assert body_of(ChatDialect(), **required)["tool_choice"] == "required"
    for dialect in (VllmDialect(), OpenAIDialect()):
        assert "structured_outputs" not in body_of(dialect, tools=TOOLS)  # the prompt describes them
        for fields in (both, required):
            with pytest.raises(ConfigError, match="calls of functions") as refused:
                body_of(dialect, **fields)
            assert refused.value.param == "tools"


def test_a_turn_alone_is_no_form() -> None:
    for fields in ({}, {"response_format": {"type": "text"}}):
        assert "structured_outputs" not in body_of(VllmDialect(), **fields)
        assert body_of(ChatDialect(), **fields).get("response_format") in (None, {"type": "text"})
