"""Responses through the unmodified client: whole, streamed, parsed, followed on, read back and deleted."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

from tests.integration.live_api import BASE, Live, live, register
from tunery.api.config import ServerSettings
from tunery.pipeline.gateway.conversations import ConversationSettings
from tunery.store.workspace import Workspace

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
ASK = "I am still waiting on my card"
SYSTEM = "Name the intent of the customer's message."
NOW: Any = {
    "type": "function",
    "name": "now",
    "description": "Tell the time.",
    "parameters": {
        "type": "object",
        "properties": {"zone": {"enum": ["UTC", "CET"]}},
        "required": ["zone"],
        "additionalProperties": False,
    },
    "strict": True,
}
LABEL: Any = {"format": {"type": "json_schema", "name": "label", "schema": {"enum": ["card", "loan"]}}}


class Total(BaseModel):
    paid: bool


@pytest.fixture(scope="module")
def server(
    tiny_model: Path, tiny_adapters: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Live]:
    home = tmp_path_factory.mktemp("home")
    workspace = Workspace.open(home, database_url=f"sqlite:///{home / 'tunery.db'}")
    register(workspace, tiny_model, tiny_adapters["a"], "bot", system_prompt=SYSTEM)
    workspace.models.set_alias("bot", "champion", 1, actor="test", reason="first")
    with live(workspace, tiny_model) as running:
        yield running
    workspace.close()


@pytest.fixture
def client(server: Live) -> OpenAI:
    return server.client()


def chat(client: OpenAI, *messages: tuple[str, str], model: str = "bot") -> str:
    sent: Any = [{"role": role, "content": content} for role, content in messages]
    done = client.chat.completions.create(model=model, messages=sent, max_tokens=12)
    return done.choices[0].message.content or ""


def test_it_answers_as_chat_does_and_is_recorded_with_its_arm(server: Live, client: OpenAI) -> None:
    done = client.responses.create(model="bot", input=ASK, max_output_tokens=12, metadata={"team": "a"})
    Response.model_validate(done.model_dump(), strict=False)
    assert done.output_text == chat(client, ("user", ASK))
    assert done.id.startswith("resp_")
    assert (done.status, done.model) == ("incomplete", "bot@1")
    assert done.incomplete_details
    assert done.incomplete_details.reason == "max_output_tokens"
    assert done.usage
    assert done.usage.total_tokens == done.usage.input_tokens + 12
    stored = server.workspace.requests.get(client.responses.retrieve(done.id).id)
    assert (stored.model, stored.metadata, stored.completion) == ("bot@1", {"team": "a"}, done.output_text)


def test_what_is_read_back_is_what_was_answered(client: OpenAI) -> None:
    done = client.responses.create(
        model="bot", input=ASK, instructions="Be brief.", max_output_tokens=9, temperature=0.5, top_p=0.9
    )
    again = client.responses.retrieve(done.id)
    ours, theirs = done.model_dump(exclude={"usage"}), again.model_dump(exclude={"usage"})
    assert theirs == ours
    assert (again.instructions, again.temperature, again.top_p) == ("Be brief.", 0.5, 0.9)
    items = client.responses.input_items.list(done.id).data
    assert [(i.type, i.content[0].text) for i in items] == [("message", ASK)]  # type: ignore[union-attr]


def test_the_stream_is_openais_events_in_order_and_comes_to_the_whole_response(client: OpenAI) -> None:
    asked: dict[str, Any] = {"model": "bot", "input": ASK, "max_output_tokens": 12}
    whole = client.responses.create(**asked)
    events = list(client.responses.create(**asked, stream=True))
    for event in events:
        EVENT.validate_python(event.model_dump())
    assert [e.sequence_number for e in events] == list(range(len(events)))
    kinds = [e.type for e in events]
    deltas = kinds.count("response.output_text.delta")
    assert kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        *["response.output_text.delta"] * deltas,
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.incomplete",
    ]
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == whole.output_text
    last = events[-1].response  # type: ignore[union-attr]
    assert last.output_text == whole.output_text
    assert last.usage
    assert whole.usage
    assert last.usage.output_tokens == whole.usage.output_tokens
    assert client.responses.retrieve(last.id).output == last.output


def test_the_clients_own_stream_helper_puts_it_together(client: OpenAI) -> None:
    with client.responses.stream(model="bot", input=ASK, text=LABEL, max_output_tokens=40) as stream:
        text = "".join(e.delta for e in stream if e.type == "response.output_text.delta")
        final = stream.get_final_response()
    assert final.status == "completed"
    assert final.output_text == text
    assert text in ('"card"', '"loan"')


def test_parse_gives_an_object_of_the_class(client: OpenAI) -> None:
    done = client.responses.parse(model="bot", input=ASK, text_format=Total, max_output_tokens=64)
    assert isinstance(done.output_parsed, Total)


@pytest.mark.parametrize("streamed", [False, True])
def test_functions_are_called_and_their_results_answered(client: OpenAI, *, streamed: bool) -> None:
    asked: dict[str, Any] = {
        "model": BASE,
        "input": "What time is it?",
        "tools": [NOW],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "max_output_tokens": 64,
    }
    if streamed:
        with client.responses.stream(**asked) as stream:
            kinds = [event.type for event in stream]
            done: Any = stream.get_final_response()
        assert kinds.count("response.function_call_arguments.done") == 1
        assert kinds[-1] == "response.completed"
    else:
        done = client.responses.create(**asked)
    (call,) = done.output
    assert (call.type, call.name) == ("function_call", "now")
    assert call.arguments in ('{"zone":"UTC"}', '{"zone":"CET"}')
    assert client.responses.retrieve(done.id).output[0].id == call.id
    answer = client.responses.create(
        model=BASE,
        previous_response_id=done.id,
        input=[{"type": "function_call_output", "call_id": call.call_id, "output": "12:00"}],
        max_output_tokens=4,
    )
    items = client.responses.input_items.list(answer.id, order="asc").data
    assert [i.type for i in items] == ["message", "function_call", "function_call_output"]
    sent_whole = client.responses.create(
        model=BASE,
        input=[
            {"role": "user", "content": "What time is it?"},
            *[item.to_dict() for item in done.output],
            {"type": "function_call_output", "call_id": call.call_id, "output": "12:00"},
        ],
        max_output_tokens=4,
    )
    assert sent_whole.output_text == answer.output_text
    assert sent_whole.usage
    assert answer.usage
    assert sent_whole.usage.input_tokens == answer.usage.input_tokens


def test_a_response_follows_on_another_without_its_instructions(client: OpenAI) -> None:
    first = client.responses.create(
        model="bot", input=ASK, instructions="Say a number.", tools=[NOW], max_output_tokens=12
    )
    second = client.responses.create(
        model="bot", input="And now?", previous_response_id=first.id, max_output_tokens=12
    )
    assert second.previous_response_id == first.id
    assert second.output_text == chat(
        client, ("user", ASK), ("assistant", first.output_text), ("user", "And now?")
    )
    third = client.responses.create(
        model="bot",
        input="Again?",
        previous_response_id=second.id,
        instructions="Say a word.",
        max_output_tokens=12,
    )
    assert third.output_text == chat(
        client,
        ("system", "Say a word."),
        ("user", ASK),
        ("assistant", first.output_text),
        ("user", "And now?"),
        ("assistant", second.output_text),
        ("user", "Again?"),
    )
    page = client.responses.input_items.list(third.id, order="asc", limit=2)
    assert [i.content[0].text for i in page] == [  # type: ignore[union-attr]
        ASK,
        first.output_text,
        "And now?",
        second.output_text,
        "Again?",
    ]


def test_log_probabilities_come_where_they_are_included(client: OpenAI) -> None:
    asked: dict[str, Any] = {
        "model": "bot",
        "input": ASK,
        "max_output_tokens": 6,
        "include": ["message.output_text.logprobs"],
        "top_logprobs": 2,
    }
    part: Any = client.responses.create(**asked).output[0].content[0]  # type: ignore[union-attr]
    assert len(part.logprobs) == 6
    assert all(len(token.top_logprobs) == 2 for token in part.logprobs)
    events = list(client.responses.create(**asked, stream=True))
    last: Any = events[-1]
    assert [t.logprob for t in last.response.output[0].content[0].logprobs] == pytest.approx(
        [t.logprob for t in part.logprobs], abs=1e-4
    )
    sent = [t for e in events if e.type == "response.output_text.delta" for t in e.logprobs]
    assert len(sent) >= 5  # a token without text goes with the end


def test_a_batch_of_responses_is_answered_line_by_line(client: OpenAI) -> None:
    bodies = [{"model": "bot", "input": text, "max_output_tokens": 4} for text in (ASK, "And now?")]
    lines = [
        {"custom_id": str(n), "method": "POST", "url": "/v1/responses", "body": b}
        for n, b in enumerate(bodies)
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    file = client.files.create(file=("lines.jsonl", text.encode()), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/responses", completion_window="24h")
    deadline = time.monotonic() + 30
    while batch.status not in ("completed", "failed") and time.monotonic() < deadline:
        time.sleep(0.1)
        batch = client.batches.retrieve(batch.id)
    assert batch.output_file_id, batch.errors
    answers = [json.loads(line) for line in client.files.content(batch.output_file_id).text.splitlines()]
    for sent, answer in zip(bodies, answers, strict=True):
        done = Response.model_validate(answer["response"]["body"])
        assert done.output_text == client.responses.create(**sent).output_text  # type: ignore[call-overload]


def test_what_is_deleted_or_not_stored_is_gone(client: OpenAI) -> None:
    done = client.responses.create(model="bot", input=ASK, max_output_tokens=3)
    client.responses.delete(done.id)
    hidden = client.responses.create(model="bot", input=ASK, max_output_tokens=3, store=False)
    for gone in (done.id, hidden.id, "resp_nowhere", "chatcmpl-0"):
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(gone)
        with pytest.raises(openai.NotFoundError):
            client.responses.delete(gone)
        with pytest.raises(openai.BadRequestError) as error:
            client.responses.create(model="bot", input="And now?", previous_response_id=gone)
        assert error.value.code == "previous_response_not_found"


def test_cancelling_says_what_is_not_served(client: OpenAI) -> None:
    done = client.responses.create(model="bot", input=ASK, max_output_tokens=3)
    with pytest.raises(openai.BadRequestError, match="background"):
        client.responses.cancel(done.id)


SECRET = "My card is 4111 1111 1111 1111 and my mail anna@example.com."


def test_the_model_reads_what_was_said_although_it_is_kept_masked(client: OpenAI) -> None:
    first = client.responses.create(model="bot", input=SECRET, max_output_tokens=12)
    second = client.responses.create(
        model="bot", input="And now?", previous_response_id=first.id, max_output_tokens=12
    )
    said = (("user", SECRET), ("assistant", first.output_text), ("user", "And now?"))
    assert second.output_text == chat(client, *said)
    stored = client.responses.input_items.list(second.id).model_dump_json()
    assert "anna@example.com" not in stored
    assert "4111" not in stored


def test_what_is_not_remembered_any_more_is_refused_where_it_is_masked(
    tiny_model: Path, workspace: Workspace
) -> None:
    settings = ServerSettings(
        port=0, run_jobs=False, base=str(tiny_model), conversations=ConversationSettings(keep_s=0)
    )
    with live(workspace, tiny_model, settings=settings) as server:
        client = server.client()
        masked = client.responses.create(model=BASE, input=SECRET, max_output_tokens=3)
        plain = client.responses.create(model=BASE, input=ASK, max_output_tokens=3)
        with pytest.raises(openai.BadRequestError, match="send the whole conversation") as error:
            client.responses.create(model=BASE, input="And now?", previous_response_id=masked.id)
        assert error.value.param == "previous_response_id"
        client.responses.create(
            model=BASE, input="And now?", previous_response_id=plain.id, max_output_tokens=3
        )


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"background": True}, "background"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"tools": [NOW, NOW]}, "tools"),
        ({"tool_choice": {"type": "web_search"}}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"truncation": "sometimes"}, "truncation"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"reasoning": {"effort": "high"}}, "reasoning"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema"),
        ({"text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": 17}}}}, "text.format"),
        ({"max_tokens": 5}, "max_tokens"),
        ({"input": []}, "input"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input.0.type"),
        ({"input": [{"role": "user", "content": "a"}, {"role": "robot", "content": "x"}]}, "input.1.role"),
        ({"input": [{"role": "user", "content": "a", "contnt": 1}]}, "input.0.contnt"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
            "input.0.content.0.type",
        ),
        ({"input": [{"type": "function_call", "call_id": "c", "name": "", "arguments": ""}]}, "input.0.name"),
    ],
)
def test_what_is_not_served_is_refused_by_its_name(server: Live, fields: dict[str, Any], param: str) -> None:
    answer = server.call("POST", "/v1/responses", {"model": "bot", "input": "hi", **fields})
    assert answer.status == 400, answer.text
    assert answer.json()["error"]["param"] == param, answer.text


def test_vllms_fields_go_along(client: OpenAI) -> None:
    done = client.responses.create(
        model="bot",
        input=ASK,
        max_output_tokens=8,
        extra_body={"guided_regex": "[0-9]+", "repetition_penalty": 1.2, "min_tokens": 3, "stop": ["77"]},
    )
    assert done.output_text.isdecimal()


def test_its_input_is_counted_before_it_is_sent(client: OpenAI) -> None:
    asked: Any = {"model": "bot", "input": ASK, "tools": [NOW], "instructions": "Be brief."}
    counted = client.responses.input_tokens.count(**asked)
    first = client.responses.create(**asked, max_output_tokens=2)
    assert first.usage
    assert (counted.object, counted.input_tokens) == ("response.input_tokens", first.usage.input_tokens)
    following: Any = {"model": "bot", "input": "And now?", "previous_response_id": first.id}
    second = client.responses.create(**following, max_output_tokens=2)
    assert second.usage
    assert client.responses.input_tokens.count(**following).input_tokens == second.usage.input_tokens


def test_a_conversation_that_does_not_fit_loses_its_first_turns_where_the_client_says_so(
    server: Live, client: OpenAI
) -> None:
    turns: Any = [{"role": "user", "content": f"{n} " + "word " * 60} for n in range(9)]
    asked: Any = {"model": "bot", "max_output_tokens": 20, "instructions": "Be brief."}
    with pytest.raises(openai.BadRequestError, match="context window"):
        client.responses.create(**asked, input=turns)
    done = client.responses.create(**asked, input=turns, truncation="auto")
    kept = [i.content[0].text for i in client.responses.input_items.list(done.id, order="asc")]  # type: ignore[union-attr]
    assert 0 < len(kept) < 9
    assert kept == [turn["content"] for turn in turns[-len(kept) :]]
    assert done.usage
    assert done.usage.input_tokens <= 512 - 20
    plain = client.responses.create(**asked, input=turns[-len(kept) :])
    assert plain.usage
    assert plain.output_text == done.output_text
    assert plain.usage.input_tokens == done.usage.input_tokens
    assert client.responses.retrieve(done.id).truncation == "auto"
    more = client.responses.input_tokens.count(
        model="bot", instructions="Be brief.", input=turns[-len(kept) - 1 :]
    )
    assert more.input_tokens > 512 - 20
    with pytest.raises(openai.BadRequestError, match="context window"):
        client.responses.create(**asked, input="word " * 600, truncation="auto")


def test_too_long_an_input_is_said_of_the_input(client: OpenAI) -> None:
    for text in ("word " * 600, "word " * 100_000):
        with pytest.raises(openai.BadRequestError, match="context window") as error:
            client.responses.create(model="bot", input=text)
        assert error.value.param == "input"


def test_a_stream_that_breaks_ends_with_the_reason(tiny_model: Path, workspace: Workspace) -> None:
    with live(workspace, tiny_model) as server:
        client = server.client()
        client.responses.create(model=BASE, input=ASK, max_output_tokens=1)  # opens the engine
        forced: Any = {"ignore_eos": True}
        events = []
        for event in client.responses.create(
            model=BASE, input=ASK, max_output_tokens=480, stream=True, extra_body=forced
        ):
            events.append(event)
            if event.type == "response.output_text.delta":
                engine: Any = server.bases.get(server.bases.default).engine
                engine._decoder.step = lambda: 1 / 0
        last = events[-1]
        assert last.type == "response.failed"
        assert [e.sequence_number for e in events] == list(range(len(events)))
        assert last.response.error
        assert last.response.error.code == "server_error"
        assert "the engine stopped" in last.response.error.message
        assert client.responses.retrieve(last.response.id).status == "failed"


@pytest.mark.parametrize(
    ("form", "takes"),
    [
        ({"guided_grammar": 'root ::= "red" | "blue"'}, ("red", "blue")),
        ({"structured_outputs": {"grammar": 'start: "red" | "blue"'}}, ("red", "blue")),
        ({"structured_outputs": {"choice": ["red", "blue"]}}, ("red", "blue")),
        ({"guided_choice": ["red", "blue"]}, ("red", "blue")),
        ({"guided_regex": "red|blue"}, ("red", "blue")),
        ({"guided_json": {"enum": ["red", "blue"]}}, ('"red"', '"blue"')),
    ],
)
def test_forms_hold_in_chat_and_in_responses(client: OpenAI, form: Any, takes: tuple[str, ...]) -> None:
    messages: Any = [{"role": "user", "content": ASK}]
    said = client.chat.completions.create(model="bot", messages=messages, max_tokens=20, extra_body=form)
    assert said.choices[0].message.content in takes
    done = client.responses.create(model="bot", input=ASK, max_output_tokens=20, extra_body=form)
    assert done.output_text in takes


@pytest.mark.parametrize(
    ("form", "param"),
    [
        ({"guided_grammar": "root ::= " + "(" * 4900 + '"a"' + ")" * 4900}, "guided_grammar"),
        ({"guided_grammar": 'root ::= (("a"{1,9999}){1,9999}){1,9999}'}, "guided_grammar"),
        ({"guided_regex": "(?=a)b"}, "guided_regex"),
        ({"guided_json": {"type": "integer", "multipleOf": 999_999_937}}, "guided_json"),
        ({"structured_outputs": {"grammar": "hello"}}, "structured_outputs.grammar"),
    ],
)
def test_a_hostile_form_is_refused_soon_and_by_its_name(client: OpenAI, form: Any, param: str) -> None:
    begun = time.monotonic()
    with pytest.raises(openai.BadRequestError) as error:
        client.responses.create(model="bot", input=ASK, max_output_tokens=20, extra_body=form)
    assert error.value.param == param
    assert time.monotonic() - begun < 10
