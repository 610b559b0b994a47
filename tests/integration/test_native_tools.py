"""Tools, calls, forms and refusals pass between a client and a server of chat completions unchanged."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest
from openai import APIError, BadRequestError, InternalServerError, OpenAI

from tests.integration.live_api import Live, live
from tunery.api.config import ServerSettings
from tunery.serve.engines import engine_settings
from tunery.store.workspace import Workspace
from tunery.traffic.config import BreakerSettings, TrafficSettings

TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": f"The {name} of a city.",
            "strict": True,
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
                "additionalProperties": False,
            },
        },
    }
    for name in ("weather", "time")
]
RESPONSE_TOOLS: Any = [{"type": "function", **tool["function"]} for tool in TOOLS]
SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": "Weather and time in Köln?"}
ASKED: dict[str, Any] = {"model": "large-1", "messages": [SYSTEM, USER], "tools": TOOLS}


def call(index: int | None, id: str | None, name: str | None, arguments: Any) -> dict[str, Any]:
    """Return a piece of a call as servers stream it; what is None is left out."""
    function = {"arguments": arguments} | ({} if name is None else {"name": name})
    piece = {"index": index, "id": id, "type": "function" if id else None, "function": function}
    return {key: value for key, value in piece.items() if value is not None}


PARALLEL = [
    {"content": "Let me "},
    {"content": "see."},
    {"tool_calls": [call(0, "call_A1", "weather", "")]},
    {"tool_calls": [call(0, None, None, '{"city"')]},
    {"tool_calls": [call(0, None, None, ':"Köln"}')]},
    {"tool_calls": [call(1, "call_B2", "time", '{"city":')]},
    {"tool_calls": [call(1, None, None, '"Köln"}')]},
]
WHOLE = [("call_A1", "weather", '{"city":"Köln"}'), ("call_B2", "time", '{"city":"Köln"}')]


class Double(BaseHTTPRequestHandler):
    """Chat completions that stream what a test lays out."""

    deltas: ClassVar[list[dict[str, Any]]] = []
    reason: ClassVar[str | None] = "stop"
    """None breaks the stream off behind the deltas."""
    bodies: ClassVar[list[dict[str, Any]]] = []
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        """Be silent."""

    def do_POST(self) -> None:
        self.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        with contextlib.suppress(OSError):  # its client may have left
            for delta in self.deltas:
                self._chunk({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
            if self.reason is None:
                time.sleep(0.3)  # or it ends before its first token is passed on, and is tried again
            else:
                self._chunk({"choices": [{"index": 0, "delta": {}, "finish_reason": self.reason}]})
                self._chunk({"choices": [], "usage": {"prompt_tokens": 31, "completion_tokens": 17}})
                self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def _chunk(self, chunk: dict[str, Any]) -> None:
        self.wfile.write(f"data: {json.dumps({'object': 'chat.completion.chunk', **chunk})}\n\n".encode())
        self.wfile.flush()


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Double)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    engine = engine_settings({"kind": "hosted", "base_url": url, "model": "large-1", "attempts": 1})
    breaker = BreakerSettings(failures=1000)  # failures are what is looked at here
    settings = ServerSettings(port=0, run_jobs=False, engine=engine, traffic=TrafficSettings(breaker=breaker))
    home = tmp_path_factory.mktemp("native")
    with (
        contextlib.closing(Workspace.open(home)) as workspace,
        live(workspace, home, settings=settings) as up,
    ):
        yield up
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def client(front: Live) -> OpenAI:
    Double.deltas, Double.reason, Double.bodies = list(PARALLEL), "tool_calls", []
    return front.client()


def calls_in(message: Any) -> list[tuple[str, str, str]]:
    return [(c.id, c.function.name, c.function.arguments) for c in message.tool_calls or ()]


def test_tools_go_and_calls_come_as_they_are(client: OpenAI, front: Live) -> None:
    answer = client.chat.completions.create(**ASKED, tool_choice="required", parallel_tool_calls=True, seed=7)
    (sent,) = Double.bodies
    assert sent["messages"] == [SYSTEM, USER]
    assert sent["tools"] == TOOLS
    assert (sent["tool_choice"], sent["parallel_tool_calls"]) == ("required", True)
    assert "response_format" not in sent
    (choice,) = answer.choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content == "Let me see."
    assert calls_in(choice.message) == WHOLE
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (31, 17)
    front.app.state.services.log.flush()
    kept = front.workspace.requests.get(answer.id)
    assert kept.completion == (
        'Let me see.\n<tool_call>{"name":"weather","arguments":{"city":"Köln"}}</tool_call>\n'
        '<tool_call>{"name":"time","arguments":{"city":"Köln"}}</tool_call>'
    )
    assert "These functions can be called:" in kept.messages[0].content


def test_a_named_choice_and_a_history_of_calls_go_along_with_their_ids(client: OpenAI) -> None:
    first = client.chat.completions.create(**ASKED).choices[0].message
    results = [
        {"role": "tool", "tool_call_id": "call_B2", "content": "12:00"},
        {"role": "tool", "tool_call_id": "call_A1", "content": [{"type": "text", "text": "rain"}]},
    ]
    Double.deltas, Double.reason = [{"content": "Rain at noon."}], "stop"
    named: Any = {"type": "function", "function": {"name": "time"}}
    messages = [SYSTEM, {**USER, "name": "ada"}, first, *results]
    answer = client.chat.completions.create(**{**ASKED, "messages": messages}, tool_choice=named)
    assert answer.choices[0].message.content == "Rain at noon."
    assert answer.choices[0].message.tool_calls is None
    sent = Double.bodies[-1]
    assert sent["tool_choice"] == named
    assert sent["messages"][1] == {**USER, "name": "ada"}
    assert sent["messages"][2] == {
        "role": "assistant",
        "content": "Let me see.",
        "tool_calls": [
            {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
            for id, name, arguments in WHOLE
        ],
    }
    assert sent["messages"][3:] == results


def test_a_stream_of_calls_comes_piece_by_piece(client: OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(**ASKED, stream=True, stream_options={"include_usage": True})
    )
    deltas = [c.choices[0].delta for c in chunks if c.choices]
    pieces = [(p.index, p.id, p.function and p.function.name) for d in deltas for p in d.tool_calls or ()]
    assert pieces == [
        (0, "call_A1", "weather"),
        (0, None, None),
        (0, None, None),
        (1, "call_B2", "time"),
        (1, None, None),
    ]
    assert "".join(d.content or "" for d in deltas) == "Let me see."
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "tool_calls"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 17
    with client.chat.completions.stream(**ASKED) as stream:  # the client's own putting together
        final = stream.get_final_completion()
    assert calls_in(final.choices[0].message) == WHOLE


def test_responses_give_calls_as_items_whole_and_streamed(client: OpenAI) -> None:
    asked: dict[str, Any] = {"model": "large-1", "input": "Weather?", "tools": RESPONSE_TOOLS}
    whole = client.responses.create(**asked, instructions="Be brief.")
    sent = Double.bodies[-1]
    assert sent["messages"] == [SYSTEM, {"role": "user", "content": "Weather?"}]
    assert sent["tools"] == TOOLS
    found = [(i.call_id, i.name, i.arguments) for i in whole.output if i.type == "function_call"]
    assert (whole.output_text, found, whole.status) == ("Let me see.", WHOLE, "completed")
    with client.responses.stream(**asked) as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert [(i.call_id, i.name, i.arguments) for i in final.output if i.type == "function_call"] == WHOLE
    assert final.output_text == "Let me see."
    pieces = [e.delta for e in events if e.type == "response.function_call_arguments.delta"]
    assert pieces == ['{"city"', ':"Köln"}', '{"city":', '"Köln"}']
    numbers = [event.sequence_number for event in events]
    assert numbers == list(range(len(numbers)))
    kept = client.responses.retrieve(whole.id)
    assert [(i.call_id, i.name) for i in kept.output if i.type == "function_call"] == [w[:2] for w in WHOLE]


def test_what_a_server_adds_to_a_call_goes_back_to_it(client: OpenAI) -> None:
    signed = {"extra_content": {"google": {"thought_signature": "c2ln"}}}
    Double.deltas = [{"tool_calls": [{**call(0, "a", "time", "{}"), **signed}]}]
    message = client.chat.completions.create(**ASKED).choices[0].message
    chunks = client.chat.completions.create(**ASKED, stream=True)
    pieces = [p for c in chunks if c.choices for p in c.choices[0].delta.tool_calls or ()]
    assert pieces[0].model_extra == signed
    first = client.responses.create(model="large-1", input="Time?", tools=RESPONSE_TOOLS)
    result = {"role": "tool", "tool_call_id": "a", "content": "12:00"}
    client.chat.completions.create(**{**ASKED, "messages": [USER, message, result]})
    assert Double.bodies[-1]["messages"][1]["tool_calls"][0]["extra_content"] == signed["extra_content"]
    output: Any = {"type": "function_call_output", "call_id": "a", "output": "12:00"}
    client.responses.create(
        model="large-1", previous_response_id=first.id, input=[output], tools=RESPONSE_TOOLS
    )
    assert Double.bodies[-1]["messages"][1]["tool_calls"][0]["extra_content"] == signed["extra_content"]


@pytest.mark.parametrize("remembered", [True, False])
def test_a_response_follows_on_calls_with_the_servers_own_ids(
    client: OpenAI, front: Live, remembered: bool
) -> None:
    first = client.responses.create(model="large-1", input="Weather?", tools=RESPONSE_TOOLS)
    if not remembered:  # as after a restart: the record is what is left
        front.app.state.services.conversations.forget("default", first.id)
    Double.deltas, Double.reason = [{"content": "Rain."}], "stop"
    outputs: Any = [
        {"type": "function_call_output", "call_id": id, "output": f"of {name}"} for id, name, _ in WHOLE
    ]
    client.responses.create(
        model="large-1", previous_response_id=first.id, input=outputs, tools=RESPONSE_TOOLS
    )
    _, assistant, *results = Double.bodies[-1]["messages"]
    assert [c["id"] for c in assistant["tool_calls"]] == ["call_A1", "call_B2"]
    assert [c["function"]["arguments"] for c in assistant["tool_calls"]] == [w[2] for w in WHOLE]
    assert results == [{"role": "tool", "tool_call_id": id, "content": f"of {name}"} for id, name, _ in WHOLE]


@pytest.mark.parametrize(
    ("pieces", "given"),
    [
        # Some servers number nothing, give every call the number 0, no id, or an object as arguments.
        ([call(None, "a", "weather", "{}"), call(None, "b", "time", "{}")], ["{}", "{}"]),
        ([call(0, "a", "weather", "{}"), call(0, "b", "time", "{}")], ["{}", "{}"]),
        ([call(3, None, "weather", {"city": "Bonn"})], ['{"city": "Bonn"}']),
        ([call(0, "a", "weather", '{"city": '), call(0, "a", "weather", "")], ['{"city": ']),
        ([call(0, "a", "weather", "Köln, please")], ["Köln, please"]),
        ([call(0, "a", "weather", None)], [""]),
    ],
)
def test_arguments_are_text_and_calls_are_numbered_here(
    client: OpenAI, front: Live, pieces: list[Any], given: list[str]
) -> None:
    Double.deltas, Double.reason = [{"tool_calls": [piece]} for piece in pieces], "stop"
    answer = client.chat.completions.create(**ASKED)
    (choice,) = answer.choices
    assert choice.finish_reason == "tool_calls"
    assert [arguments for _, _, arguments in calls_in(choice.message)] == given
    assert all(id for id, _, _ in calls_in(choice.message))
    assert choice.message.content is None
    with client.chat.completions.stream(**{**ASKED, "tools": _loose(TOOLS)}) as stream:
        streamed = stream.get_final_completion().choices[0].message
    assert [arguments for _, _, arguments in calls_in(streamed)] == given
    front.app.state.services.log.flush()
    assert front.workspace.requests.get(answer.id).completion.startswith('<tool_call>{"name":"weather"')


def _loose(tools: Any) -> Any:
    """Return tools whose arguments the client does not read by itself."""
    return [{"type": "function", "function": {**t["function"], "strict": False}} for t in tools]


@pytest.mark.parametrize(
    "piece", [{"index": 0, "id": "a"}, call(0, "a", None, "{}"), call(0, "a", "", "{}"), "weather"]
)
def test_a_call_that_names_no_function_is_an_error_that_shows_it(client: OpenAI, piece: Any) -> None:
    Double.deltas = [{"content": "a"}, {"tool_calls": [piece]}]
    with pytest.raises(InternalServerError, match="names no function"):
        client.chat.completions.create(**ASKED)
    with pytest.raises(APIError, match="names no function"):
        list(client.chat.completions.create(**ASKED, stream=True))


def test_a_stream_that_breaks_off_within_a_call_is_an_error_and_no_answer(
    client: OpenAI, front: Live
) -> None:
    Double.deltas, Double.reason = PARALLEL[:-1], None
    with pytest.raises(InternalServerError, match="broke off"):
        client.chat.completions.create(**ASKED)
    seen: list[Any] = []
    with pytest.raises(APIError, match="broke off"):
        seen.extend(client.chat.completions.create(**ASKED, stream=True))
    assert any(chunk.choices[0].delta.tool_calls for chunk in seen)
    with client.responses.stream(model="large-1", input="Weather?", tools=RESPONSE_TOOLS) as stream:
        last = list(stream)[-1]
    assert last.type == "response.failed"
    front.app.state.services.log.flush()
    assert front.workspace.requests.get(seen[0].id).status == "error"


def test_text_that_looks_like_a_call_stays_text_where_calls_have_parts_of_their_own(client: OpenAI) -> None:
    text = '<tool_call>{"name":"time","arguments":{}}</tool_call>'
    Double.deltas, Double.reason = [{"content": text}], "stop"
    assert client.chat.completions.create(**ASKED).choices[0].message.content == text
    chunks = list(client.chat.completions.create(**ASKED, stream=True))
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == text
    client.chat.completions.create(
        **{**ASKED, "messages": [USER, {"role": "assistant", "content": text}, USER]}
    )
    assert Double.bodies[-1]["messages"][1] == {"role": "assistant", "content": text}


def test_refusals_and_filtered_answers_pass(client: OpenAI, front: Live) -> None:
    Double.deltas, Double.reason = [{"refusal": "I can't "}, {"refusal": "do that."}], "stop"
    answer = client.chat.completions.create(model="large-1", messages=[USER])  # type: ignore[list-item]
    message = answer.choices[0].message
    assert (message.content, message.refusal) == (None, "I can't do that.")
    with client.chat.completions.stream(model="large-1", messages=[USER]) as chat:  # type: ignore[list-item]
        assert chat.get_final_completion().choices[0].message.refusal == "I can't do that."
    with client.responses.stream(model="large-1", input="x") as stream:
        (item,) = stream.get_final_response().output
    assert item.type == "message"
    assert [part.model_dump() for part in item.content] == [
        {"type": "refusal", "refusal": "I can't do that."}
    ]
    front.app.state.services.log.flush()
    assert front.workspace.requests.get(answer.id).completion == "I can't do that."
    client.chat.completions.create(model="large-1", messages=[USER, message, USER])  # type: ignore[list-item]
    assert Double.bodies[-1]["messages"][1]["refusal"] == "I can't do that."
    Double.deltas, Double.reason = [{"content": "a"}], "content_filter"
    again = client.chat.completions.create(model="large-1", messages=[USER])  # type: ignore[list-item]
    assert again.choices[0].finish_reason == "content_filter"


def test_response_formats_pass_with_their_names(client: OpenAI) -> None:
    Double.deltas, Double.reason = [{"content": '{"sure":true}'}], "stop"
    schema = {"type": "object", "properties": {"sure": {"type": "boolean"}}}
    inner = {"name": "verdict", "description": "Whether.", "strict": False, "schema": schema}
    form: Any = {"type": "json_schema", "json_schema": inner}
    client.chat.completions.create(**ASKED, response_format=form)
    assert Double.bodies[-1]["response_format"] == form
    assert Double.bodies[-1]["tools"] == TOOLS
    client.responses.create(model="large-1", input="x", text={"format": {"type": "json_schema", **inner}})  # type: ignore[arg-type]
    assert Double.bodies[-1]["response_format"] == form
    client.chat.completions.create(**ASKED, extra_body={"guided_json": schema})
    assert Double.bodies[-1]["response_format"]["json_schema"]["schema"] == schema


def test_pictures_are_refused_with_the_reason(client: OpenAI) -> None:
    parts = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]
    with pytest.raises(BadRequestError, match=r"image_url.*not served"):
        client.chat.completions.create(model="large-1", messages=[{"role": "user", "content": parts}])  # type: ignore[list-item,misc]
