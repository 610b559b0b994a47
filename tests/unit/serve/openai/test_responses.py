"""Responses without a server: items, events, and what the client's own accumulator makes of them."""

from __future__ import annotations

from typing import Any

import pytest
from openai import omit
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter, ValidationError

from tunery.core.engine import Constraint, Generation, TokenEvent
from tunery.core.example import Message
from tunery.serve.openai.chat import Head
from tunery.serve.openai.response_events import ResponseEvents
from tunery.serve.openai.response_items import input_items, turns_of
from tunery.serve.openai.responses import Echo, ResponsesBody, response_object, stored_turns
from tunery.serve.openai.tool_calls import CallWatch
from tunery.serve.openai.wire import SamplingDefaults

NOW: Any = {"type": "function", "name": "now", "parameters": {"type": "object"}, "strict": False}
CALL = '<tool_call>{"name": "now", "arguments": {"zone": "UTC"}}</tool_call>'
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
HEAD = Head("resp_0123", 1_700_000_000, "bot@1")


def body(**fields: Any) -> ResponsesBody:
    return ResponsesBody.model_validate({"model": "bot", "input": "Time?", **fields})


def echo(request: ResponsesBody) -> Echo:
    settings = request.settings(request.how(SamplingDefaults()), request.carried(()))
    return Echo(settings, request.instructions, request.offer.functions, {}, store=True)


def generation(text: str, reason: Any = "stop") -> Generation:
    return Generation(
        text=text,
        token_ids=(5, 6),
        finish_reason=reason,
        prompt_tokens=7,
        cached_tokens=3,
        ttft_ms=1.0,
        latency_ms=2.0,
    )


def events_of(text: str, *, size: int, reason: Any = "stop") -> list[dict[str, Any]]:
    request = body(tools=[NOW], instructions="Be brief.")
    writer = ResponseEvents(HEAD, echo(request), watch=CallWatch(), logprobs=True)
    pieces = [text[i : i + size] for i in range(0, len(text), size)]
    token = TokenEvent(5, "", -0.5, (), "x", b"x")
    return [
        *writer.begin(),
        *(event for piece in pieces for event in writer.text(piece, (token,))),
        *writer.end(generation(text, reason)),
    ]


@pytest.mark.parametrize("size", [1, 4, 1000])
@pytest.mark.parametrize(
    ("text", "said", "calls"),
    [
        ("It is noon.", "It is noon.", 0),
        ("", "", 0),
        (f"Let me see.\n{CALL}", "Let me see.", 1),
        (f"{CALL}\n{CALL}", "", 2),
        ("a <tool_call> that is none", "a <tool_call> that is none", 0),
    ],
)
def test_the_clients_accumulator_comes_to_the_last_events_response(
    text: str, said: str, calls: int, size: int
) -> None:
    events = events_of(text, size=size)
    state: Any = ResponseStreamState(input_tools=[NOW], text_format=omit)
    for number, event in enumerate(events):
        assert event["sequence_number"] == number
        state.handle_event(EVENT.validate_python(event))
    final = state._completed_response
    Response.model_validate(events[-1]["response"])
    assert (final.status, final.output_text) == ("completed", said)
    kinds = ["message"] * bool(said or not calls) + ["function_call"] * calls
    assert [item.type for item in final.output] == kinds
    assert [item.arguments for item in final.output if item.type == "function_call"] == [
        '{"zone":"UTC"}'
    ] * calls
    assert len({item.id for item in final.output}) == len(kinds)
    likely = [t for item in final.output if item.type == "message" for t in item.content[0].logprobs]
    assert len(likely) == (-(-len(text) // size) if "message" in kinds else 0)


def test_an_answer_that_was_cut_is_incomplete_and_one_that_failed_has_its_reason() -> None:
    last = events_of("It is", size=2, reason="length")[-1]
    assert last["type"] == "response.incomplete"
    assert last["response"]["incomplete_details"] == {"reason": "max_output_tokens"}
    assert last["response"]["output"][0]["status"] == "incomplete"
    writer = ResponseEvents(HEAD, echo(body()), watch=None, logprobs=False)
    list(writer.begin())
    failed = writer.failed({"code": "server_error", "message": "the engine stopped"})
    parsed: Any = EVENT.validate_python(failed)
    assert (parsed.type, parsed.response.status) == ("response.failed", "failed")
    assert parsed.response.error.message == "the engine stopped"


def test_calls_join_the_assistants_turn_before_them() -> None:
    request = body(
        input=[
            {"role": "developer", "content": "Be brief."},
            {
                "role": "user",
                "content": [{"type": "input_text", "text": "Ti"}, {"type": "input_text", "text": "me?"}],
            },
            {"type": "reasoning", "id": "rs_1", "summary": []},
            {
                "type": "message",
                "role": "assistant",
                "id": "msg_1",
                "status": "completed",
                "content": [{"type": "output_text", "text": "Wait.", "annotations": [], "logprobs": []}],
            },
            {"type": "function_call", "call_id": "c1", "name": "now", "arguments": "{}"},
            {"type": "function_call", "call_id": "c2", "name": "now", "arguments": '{"x": '},
            {"type": "function_call_output", "call_id": "c1", "output": "12:00"},
            {
                "type": "function_call_output",
                "call_id": "c2",
                "output": [{"type": "input_text", "text": "?"}],
            },
            {"type": "function_call", "call_id": "c3", "name": "now", "arguments": "{}"},
        ]
    )
    call = '<tool_call>{"name":"now","arguments":{}}</tool_call>'
    broken = r'<tool_call>{"name":"now","arguments":"{\"x\": "}</tool_call>'
    assert [(t.role, t.content) for t in turns_of(request.items)] == [
        ("system", "Be brief."),
        ("user", "Time?"),
        ("assistant", f"Wait.\n{call}\n{broken}"),
        ("tool", "12:00"),
        ("tool", "?"),
        ("assistant", call),
    ]
    again = list(input_items(turns_of(request.items), "k"))
    called = [i["call_id"] for i in again if i["type"] == "function_call"]
    answered = [i["call_id"] for i in again if i["type"] == "function_call_output"]
    assert len(answered) == 2
    assert answered[0] == called[0]
    assert len({i["id"] for i in again}) == len(again)


@pytest.mark.parametrize(
    ("fields", "first_turn", "instructions", "carried"),
    [
        ({"instructions": "Be brief.", "tools": [NOW]}, "instructions", "Be brief.", ["Time?"]),
        ({"instructions": "Be brief."}, "instructions", "Be brief.", ["Time?"]),
        ({"tools": [NOW]}, None, None, ["Time?"]),
        ({}, None, None, ["Time?"]),
        (
            {
                "input": [{"role": "system", "content": "Own."}, {"role": "user", "content": "Hi"}],
                "tools": [NOW],
            },
            "input",
            None,
            ["Own.", "Hi"],
        ),
    ],
)
def test_a_stored_conversation_gives_back_what_a_later_response_inherits(
    fields: dict[str, Any], first_turn: Any, instructions: str | None, carried: list[str]
) -> None:
    request = body(**fields)
    own = request.carried(())
    assert request.settings(request.how(SamplingDefaults()), own)["first_turn"] == first_turn
    found = stored_turns(request.turns(own), first_turn)
    assert (found.instructions, [t.content for t in found.carried]) == (instructions, carried)
    assert [f["name"] for f in found.functions] == (["now"] if "tools" in fields else [])


def test_a_versions_system_prompt_is_not_inherited() -> None:
    served = (Message(role="system", content="Name the intent."), Message(role="user", content="Hi"))
    assert stored_turns(served, None).carried == served[1:]


@pytest.mark.parametrize(
    ("choice", "written"),
    [
        (None, "auto"),
        ("none", "none"),
        ({"type": "function", "name": "now"}, {"type": "function", "name": "now"}),
        (
            {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "now"}]},
            {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "now"}]},
        ),
    ],
)
def test_a_choice_of_tools_is_repeated_as_it_was_sent(choice: Any, written: Any) -> None:
    request = body(tools=[NOW], tool_choice=choice)
    said = response_object(HEAD, echo(request), status="in_progress")
    assert said["tool_choice"] == written
    parsed = Response.model_validate(said)
    assert [t.type for t in parsed.tools] == (["function"] if choice != "none" else [])


def test_the_form_of_the_text_becomes_a_constraint_of_that_name() -> None:
    form = {"format": {"type": "json_schema", "name": "x", "schema": {"type": "array"}, "strict": True}}
    assert body(text=form).constraint() == Constraint(json_schema={"type": "array"})
    assert body(text=form).constraint().field == "text.format"  # type: ignore[union-attr]
    assert body(text={"format": {"type": "text"}}).constraint() is None
    with pytest.raises(ValidationError, match="give one of"):
        body(text=form, guided_regex="a")
