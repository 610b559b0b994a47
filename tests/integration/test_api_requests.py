"""What requests ask for, through the unmodified client: forced calls, echo, bytes, and refusals by name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
import torch
from openai import OpenAI
from transformers import AutoModelForCausalLM

from tests.integration.live_api import BASE, Live, live
from tunery.model.tokenizer import ChatTokenizer, load_tokenizer
from tunery.store.workspace import Workspace

ASK = [{"role": "user", "content": "What time is it, and how warm?"}]
ZONE = {
    "type": "object",
    "properties": {"zone": {"enum": ["UTC", "CET"]}},
    "required": ["zone"],
    "additionalProperties": False,
}
PLACE = {
    "$defs": {"town": {"enum": ["Oslo", "Bern"]}},
    "type": "object",
    "properties": {"town": {"$ref": "#/$defs/town"}},
    "required": ["town"],
    "additionalProperties": False,
}
TOOLS = [
    {"type": "function", "function": {"name": "now", "parameters": ZONE}},
    {"type": "function", "function": {"name": "warmth", "parameters": PLACE}},
]
SCHEMAS = {"now": ZONE, "warmth": PLACE}
ALLOWED = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [TOOLS[1]]}}


@pytest.fixture(scope="module")
def server(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    home = tmp_path_factory.mktemp("home")
    workspace = Workspace.open(home, database_url=f"sqlite:///{home / 'tunery.db'}")
    with live(workspace, tiny_model) as running:
        yield running
    workspace.close()


@pytest.fixture
def client(server: Live) -> OpenAI:
    return server.client()


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> ChatTokenizer:
    return load_tokenizer(tiny_model)


def names_of(message: Any) -> list[str]:
    return [call.function.name for call in message.tool_calls or []]


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ("required", {"now", "warmth"}),
        ({"type": "function", "function": {"name": "warmth"}}, {"warmth"}),
        (ALLOWED, {"warmth"}),
    ],
)
@pytest.mark.parametrize("parallel", [True, False, None])
def test_a_forced_call_is_made_whole_and_streamed(
    client: OpenAI, choice: Any, names: set[str], parallel: bool | None
) -> None:
    asked: dict[str, Any] = {"model": BASE, "messages": ASK, "tools": TOOLS, "tool_choice": choice}
    asked |= {"max_tokens": 200, "seed": 3, "temperature": 1.0}
    if parallel is not None:
        asked["parallel_tool_calls"] = parallel
    whole = client.chat.completions.create(**asked).choices[0]
    assert whole.finish_reason == "tool_calls"
    assert whole.message.content is None
    assert set(names_of(whole.message)) <= names
    assert names_of(whole.message)
    assert parallel is not False or len(names_of(whole.message)) == 1
    for call in whole.message.tool_calls or []:
        (value,) = json.loads(call.function.arguments).values()
        assert value in ("UTC", "CET", "Oslo", "Bern")
    with client.chat.completions.stream(**asked) as stream:
        for _ in stream:
            pass
        streamed = stream.get_final_completion().choices[0]
    assert [(c.function.name, c.function.arguments) for c in streamed.message.tool_calls or []] == [
        (c.function.name, c.function.arguments) for c in whole.message.tool_calls or []
    ]
    assert streamed.finish_reason == "tool_calls"


def test_a_call_can_be_sent_back_and_answered(client: OpenAI) -> None:
    first = client.chat.completions.create(
        model=BASE,
        messages=ASK,
        tools=TOOLS[:1],
        tool_choice="required",
        parallel_tool_calls=False,
        max_tokens=90,
    )
    message = first.choices[0].message
    (call,) = message.tool_calls or []
    result = {"role": "tool", "tool_call_id": call.id, "content": "12:00"}
    again = client.chat.completions.create(model=BASE, messages=[*ASK, message, result], max_tokens=4)
    assert again.choices[0].finish_reason in ("length", "stop")


def test_tools_beside_a_fixed_form_give_one_or_the_other(client: OpenAI) -> None:
    schema = {**ZONE, "properties": {"zone": {"const": "none"}}}
    form = {"type": "json_schema", "json_schema": {"name": "z", "schema": schema}}
    seen = set()
    for seed in range(6):
        choice = client.chat.completions.create(
            model=BASE,
            messages=ASK,
            tools=TOOLS[:1],
            response_format=form,
            max_tokens=200,
            seed=seed,
            temperature=2,
        ).choices[0]
        if choice.finish_reason == "tool_calls":
            seen.add("call")
        elif choice.finish_reason == "stop":
            assert json.loads(choice.message.content or "") == {"zone": "none"}
            seen.add("answer")
    assert seen
    silent = client.chat.completions.create(
        model=BASE, messages=ASK, tools=TOOLS, tool_choice="none", response_format=form, max_tokens=200
    )
    assert silent.choices[0].message.tool_calls is None


@pytest.mark.parametrize("arguments", ['{"x": ', "[1]", "{'x': 1}", "", "null", '{"x": NaN}'])
def test_a_conversation_with_a_broken_call_goes_on(client: OpenAI, arguments: str) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": arguments}}
    answer = client.chat.completions.create(
        model=BASE,
        max_tokens=2,
        messages=[
            *ASK,
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "failed: the arguments are no JSON"},
            *ASK,
        ],
    )
    assert answer.choices[0].finish_reason


@pytest.mark.parametrize("stream", [False, True])
def test_bytes_of_log_probabilities_join_to_the_answer(client: OpenAI, stream: bool) -> None:
    asked: dict[str, Any] = {"model": BASE, "messages": ASK, "max_tokens": 40, "temperature": 2.0, "seed": 3}
    asked |= {"logprobs": True, "top_logprobs": 5}
    if stream:
        chunks = [c.choices[0] for c in client.chat.completions.create(**asked, stream=True)]
        text = "".join(c.delta.content or "" for c in chunks)
        tokens = [t for c in chunks if c.logprobs for t in c.logprobs.content or []]
    else:
        choice = client.chat.completions.create(**asked).choices[0]
        text, tokens = choice.message.content or "", choice.logprobs.content  # type: ignore[union-attr,assignment]
    raw = b"".join(bytes(t.bytes or []) for t in tokens)
    assert raw.decode("utf-8", "replace") == text
    assert any(len(t.bytes or []) == 1 and t.bytes[0] > 127 for t in tokens), "a piece of a character"
    for token in tokens:
        assert token.bytes != [239, 191, 189]
        assert len({t.token for t in token.top_logprobs}) == 5


def test_alternatives_of_completions_are_never_merged(client: OpenAI) -> None:
    asked: dict[str, Any] = {
        "model": BASE,
        "prompt": "x",
        "max_tokens": 60,
        "temperature": 2.0,
        "logprobs": 20,
    }
    choice = client.completions.create(**asked, seed=1).choices[0]
    columns = choice.logprobs
    assert columns is not None
    assert {len(top) for top in columns.top_logprobs or []} == {20}
    assert any(name.startswith("bytes:\\x") for top in columns.top_logprobs or [] for name in top)
    chunks = list(client.completions.create(**asked, seed=1, stream=True))
    streamed = [c.choices[0].logprobs for c in chunks if c.choices[0].logprobs]
    assert [t for s in streamed for t in s.tokens or []] == columns.tokens
    assert [o for s in streamed for o in s.text_offset or []] == columns.text_offset


def log_likelihoods(base: Path, ids: list[int]) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)


@pytest.mark.parametrize("text", ["The capital of France is Paris", "naïve 🙂 text", "x"])
def test_echo_scores_a_prompt_as_transformers_does(
    client: OpenAI, tiny_model: Path, tokenizer: ChatTokenizer, text: str
) -> None:
    ids = list(tokenizer.encode(text))
    expected = log_likelihoods(tiny_model, ids)
    for prompt in (text, ids):
        choice = client.completions.create(
            model=BASE, prompt=prompt, max_tokens=0, echo=True, logprobs=1
        ).choices[0]
        columns = choice.logprobs
        assert columns is not None
        assert (choice.text, choice.finish_reason) == (text, "length")
        assert columns.token_logprobs is not None
        assert columns.top_logprobs is not None
        assert (columns.token_logprobs[0], columns.top_logprobs[0]) == (None, None)
        assert columns.token_logprobs[1:] == pytest.approx(
            [float(expected[place, token]) for place, token in enumerate(ids[1:])], abs=1e-4
        )
        best = [next(iter(top.values())) for top in columns.top_logprobs[1:]]
        assert best == pytest.approx(expected[:-1].max(-1).values.tolist(), abs=1e-4)
        assert len(columns.tokens or []) == len(columns.text_offset or []) == len(ids)
        for token, offset in zip(columns.tokens or [], columns.text_offset or [], strict=True):
            assert token.startswith("bytes:") or text.startswith(token, offset)


def test_echo_goes_before_what_follows_and_through_batches(client: OpenAI, tokenizer: ChatTokenizer) -> None:
    prompts = [list(tokenizer.encode(t)) for t in ("One two", "The capital of France")]
    answer = client.completions.create(
        model=BASE, prompt=prompts, max_tokens=1, echo=True, logprobs=1, n=2, temperature=0, seed=1234
    )
    assert [c.index for c in answer.choices] == [0, 1, 2, 3]
    for number, choice in enumerate(answer.choices):
        given = prompts[number // 2]
        assert choice.text.startswith(tokenizer.decode(given))
        columns = choice.logprobs
        assert columns is not None
        # What lm-eval relies on: one more than the prompt's, whatever the last token is.
        assert len(columns.token_logprobs or []) == len(given) + 1
    plain = client.completions.create(model=BASE, prompt=prompts[0], max_tokens=3)
    echoed = client.completions.create(model=BASE, prompt=prompts[0], max_tokens=3, echo=True)
    assert echoed.choices[0].text == "One two" + plain.choices[0].text
    streamed = client.completions.create(model=BASE, prompt=prompts[0], max_tokens=3, echo=True, stream=True)
    assert "".join(c.choices[0].text for c in streamed) == echoed.choices[0].text


def test_no_token_and_no_echo_is_an_empty_answer(client: OpenAI) -> None:
    answer = client.completions.create(model=BASE, prompt="One two", max_tokens=0)
    assert (answer.choices[0].text, answer.usage.completion_tokens) == ("", 0)  # type: ignore[union-attr]


DEEP: dict[str, Any] = {"type": "integer"}
for _ in range(64):
    DEEP = {"type": "object", "properties": {"a": DEEP}}
JSON_FORM = '{"type":"json_schema","json_schema":{"name":"x","schema":%s}}'


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("response_format", JSON_FORM % '{"type":"integer","minimum":1e400}'),
        ("response_format", JSON_FORM % json.dumps(DEEP)),
        ("response_format", JSON_FORM % r'{"type":"object","properties":{"\ud800":{}}}'),
        ("response_format", JSON_FORM % '{"type":"string","pattern":"["}'),
        ("guided_json", '{"$ref":"http://example.invalid/x"}'),
        ("tools", '[{"type":"function","function":{"name":"f","parameters":{"minimum":NaN}}}]'),
        ("tools", r'[{"type":"function","function":{"name":"f","description":"\udfff"}}]'),
        ("tool_choice", '{"type":"function","function":{"name":"nobody"}}'),
        ("tool_choice", '"required"'),
        ("temperature", "Infinity"),
        ("seed", "9" * 5000),
        ("user", r'"\u0000"'),
        ("metadata", r'{"a":"\u0000"}'),
        ("stop", r'["\ud800"]'),
        ("zzz", "[" * 900 + "]" * 900),
        ("zzz", "[" * 9000 + "]" * 9000),
        ("top_logprobs", "3"),
        ("n", '1, "n": 1'),
        ("response_fromat", "{}"),
    ],
)
def test_no_value_breaks_the_server_and_each_is_refused_with_its_field(
    server: Live, field: str, value: str
) -> None:
    body = (
        f'{{"model":"{BASE}","messages":[{{"role":"user","content":"hi"}}],"max_tokens":4,"{field}":{value}}}'
    )
    answer = post(server, "/v1/chat/completions", body)
    assert answer.status_code == 400, answer.text
    assert str(answer.json()["error"]["param"]).split(".")[0] == field


@pytest.mark.parametrize("prompt", ["[4294967296]", "[-1]", "[512]", "[[1],[4294967296]]", "[true]", "[1.5]"])
def test_a_token_that_does_not_exist_is_refused_with_its_field(server: Live, prompt: str) -> None:
    for more in ("", ',"echo":true,"logprobs":1'):
        answer = post(server, "/v1/completions", f'{{"model":"{BASE}","prompt":{prompt}{more}}}')
        assert answer.status_code == 400, answer.text
        assert str(answer.json()["error"]["param"]).split(".")[0] == "prompt"


@pytest.mark.parametrize(
    "path",
    ["/v1/files/%00", "/v1/models/a%00", "/v1/fine_tuning/jobs/%00/events", "/v1/chat/completions/%00"],
)
def test_a_path_with_a_nul_is_not_found(server: Live, path: str) -> None:
    with server.http() as http:
        assert http.get(path).status_code == 404
        assert http.get("/v1/files", params={"after": "a\0"}).json()["error"]["param"] == "after"


def post(server: Live, path: str, body: str) -> httpx2.Response:
    with server.http() as http:
        return http.post(path, content=body, headers={"content-type": "application/json"})


def test_an_unknown_parameter_has_openais_code(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="did you mean 'max_tokens'") as error:
        client.chat.completions.create(model=BASE, messages=ASK, extra_body={"max_token": 3})
    assert (error.value.code, error.value.param) == ("unknown_parameter", "max_token")
