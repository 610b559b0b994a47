"""Completions through the unmodified client, on the embedded engine with the tiny model."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
import torch
from openai import OpenAI
from peft import PeftModel
from transformers import AutoModelForCausalLM

from tests.integration.live_api import BASE, Live, live, register
from tunery.core.example import Message
from tunery.model.tokenizer import load_tokenizer
from tunery.store.workspace import Workspace

ASK = [{"role": "user", "content": "I am still waiting on my card"}]
TOOLS = [{"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}}]
SYSTEM = "Name the intent of the customer's message."


@pytest.fixture(scope="module")
def server(
    tiny_model: Path, tiny_adapters: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Live]:
    home = tmp_path_factory.mktemp("home")
    workspace = Workspace.open(home, database_url=f"sqlite:///{home / 'tunery.db'}")
    register(workspace, tiny_model, tiny_adapters["a"], "bot", system_prompt=SYSTEM, labels=("card", "loan"))
    register(workspace, tiny_model, tiny_adapters["b"], "bot")
    register(workspace, tiny_model, tiny_adapters["c"], "other")
    workspace.models.set_alias("bot", "champion", 1, actor="test", reason="first")
    with live(workspace, tiny_model) as running:
        yield running
    workspace.close()


@pytest.fixture
def client(server: Live) -> OpenAI:
    return server.client()


def greedy(base: Path, adapter: Path | None, messages: list[dict[str, str]], count: int) -> list[int]:
    """Plain transformers and PEFT: the reference."""
    tokenizer = load_tokenizer(base)
    prompt = tokenizer.render_prompt([Message(**m) for m in messages])
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter)
    ids = torch.tensor([prompt])
    with torch.no_grad():
        for _ in range(count):
            logits = model(input_ids=ids).logits[0, -1]
            ids = torch.cat([ids, logits.argmax().reshape(1, 1)], dim=1)
            if int(ids[0, -1]) in tokenizer.stop_ids:
                break
    return ids[0, len(prompt) :].tolist()


@pytest.mark.parametrize(
    ("name", "adapter", "system"),
    [
        (BASE, None, None),
        ("bot", "a", SYSTEM),
        ("bot@2", "b", None),
        ("bot@champion", "a", SYSTEM),
        ("other", "c", None),
    ],
)
def test_each_name_answers_as_plain_peft_does(
    client: OpenAI,
    tiny_model: Path,
    tiny_adapters: dict[str, Path],
    name: str,
    adapter: str | None,
    system: str | None,
) -> None:
    messages = [*([{"role": "system", "content": system}] if system else []), *ASK]
    ids = greedy(tiny_model, tiny_adapters[adapter] if adapter else None, messages, 12)
    tokenizer = load_tokenizer(tiny_model)
    answer = client.chat.completions.create(model=name, messages=ASK, max_tokens=12)
    assert answer.choices[0].message.content == tokenizer.decode(ids)
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == len(tokenizer.render_prompt([Message(**m) for m in messages]))
    assert answer.usage.completion_tokens == len(ids)
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + len(ids)
    stopped = ids[-1] in tokenizer.stop_ids
    assert answer.choices[0].finish_reason == ("stop" if stopped else "length")


def test_a_system_turn_of_the_request_replaces_the_versions(client: OpenAI) -> None:
    own = client.chat.completions.create(
        model="bot", messages=[{"role": "developer", "content": SYSTEM}, *ASK], max_tokens=8
    )
    inserted = client.chat.completions.create(model="bot", messages=ASK, max_tokens=8)
    other = client.chat.completions.create(
        model="bot", messages=[{"role": "system", "content": "Say a number."}, *ASK], max_tokens=8
    )
    assert own.usage == inserted.usage
    assert own.choices[0].message.content == inserted.choices[0].message.content
    assert other.usage.prompt_tokens != own.usage.prompt_tokens  # type: ignore[union-attr]


def test_streamed_text_and_usage_equal_the_whole_answer(client: OpenAI) -> None:
    whole = client.chat.completions.create(model="bot@2", messages=ASK, max_tokens=24)
    chunks = list(
        client.chat.completions.create(
            model="bot@2", messages=ASK, max_tokens=24, stream=True, stream_options={"include_usage": True}
        )
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == whole.choices[0].finish_reason
    assert chunks[-1].choices == []
    assert chunks[-1].usage.total_tokens == whole.usage.total_tokens  # type: ignore[union-attr]
    assert {c.id for c in chunks} == {chunks[0].id}
    assert all(c.object == "chat.completion.chunk" for c in chunks)


def test_the_clients_own_stream_accumulator_agrees(client: OpenAI) -> None:
    whole = client.chat.completions.create(model="bot@2", messages=ASK, max_tokens=8, logprobs=True)
    with client.chat.completions.stream(model="bot@2", messages=ASK, max_tokens=8, logprobs=True) as stream:
        for _ in stream:
            pass
        # The client's get_final_completion() raises on an answer cut at its limit.
        final = stream.current_completion_snapshot
    assert final.choices[0].message.content == whole.choices[0].message.content
    streamed = final.choices[0].logprobs.content  # type: ignore[union-attr]
    assert [t.token for t in streamed] == [t.token for t in whole.choices[0].logprobs.content]  # type: ignore[union-attr]


def test_logprobs_are_those_of_the_model(client: OpenAI, tiny_model: Path) -> None:
    answer = client.chat.completions.create(
        model=BASE, messages=ASK, max_tokens=1, logprobs=True, top_logprobs=3
    )
    tokenizer = load_tokenizer(tiny_model)
    prompt = tokenizer.render_prompt([Message(**m) for m in ASK])
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    with torch.no_grad():
        expected = model(input_ids=torch.tensor([prompt])).logits[0, -1].log_softmax(-1).topk(3)
    token = answer.choices[0].logprobs.content[0]  # type: ignore[union-attr, index]
    assert [t.logprob for t in token.top_logprobs] == pytest.approx(expected.values.tolist(), abs=1e-4)
    assert token.logprob == pytest.approx(float(expected.values[0]), abs=1e-4)


def test_labels_json_and_schemas_constrain_the_answer(client: OpenAI) -> None:
    labelled = client.chat.completions.create(
        model="bot", messages=ASK, extra_body={"tunery": {"labels": ["card arrival", "top up failed"]}}
    )
    assert labelled.choices[0].message.content in {"card arrival", "top up failed"}
    guided = client.chat.completions.create(
        model="other", messages=ASK, extra_body={"guided_choice": ["yes", "no"]}
    )
    assert guided.choices[0].message.content in {"yes", "no"}
    schema = {
        "type": "object",
        "properties": {"total": {"enum": ["1", "2"]}},
        "required": ["total"],
        "additionalProperties": False,
    }
    answer = client.chat.completions.create(
        model="other",
        messages=ASK,
        max_tokens=100,
        response_format={"type": "json_schema", "json_schema": {"name": "receipt", "schema": schema}},
    )
    assert json.loads(answer.choices[0].message.content or "")["total"] in {"1", "2"}


def test_stop_strings_end_the_answer_and_are_left_out(client: OpenAI) -> None:
    whole = client.chat.completions.create(model="other", messages=ASK, max_tokens=24)
    text = whole.choices[0].message.content or ""
    assert len(text) > 8
    stop = text[4:6]
    cut = client.chat.completions.create(model="other", messages=ASK, max_tokens=24, stop=stop)
    assert cut.choices[0].message.content == text[: text.index(stop)]
    assert cut.choices[0].finish_reason == "stop"
    streamed = client.chat.completions.create(
        model="other", messages=ASK, max_tokens=24, stop=[stop], stream=True
    )
    assert "".join(c.choices[0].delta.content or "" for c in streamed) == text[: text.index(stop)]


def test_a_seed_repeats_and_choices_differ(client: OpenAI) -> None:
    def ask() -> list[str | None]:
        answer = client.chat.completions.create(
            model="bot@2", messages=ASK, max_tokens=12, temperature=1.5, seed=7, n=3
        )
        return [c.message.content for c in answer.choices]

    first = ask()
    assert first == ask()
    assert len(set(first)) > 1


def test_completions_take_text_ids_and_lists(client: OpenAI, tiny_model: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    ids = list(tokenizer.encode("The capital of France"))
    text = client.completions.create(model=BASE, prompt="The capital of France", max_tokens=6, logprobs=2)
    by_ids = client.completions.create(model=BASE, prompt=ids, max_tokens=6)
    several = client.completions.create(model=BASE, prompt=["One two", "The capital of France"], max_tokens=6)
    streamed = client.completions.create(model=BASE, prompt=ids, max_tokens=6, stream=True)
    assert text.choices[0].text == by_ids.choices[0].text == several.choices[1].text
    assert "".join(c.choices[0].text for c in streamed) == text.choices[0].text
    assert text.usage.prompt_tokens == len(ids)  # type: ignore[union-attr]
    assert several.usage.prompt_tokens == len(ids) + len(tokenizer.encode("One two"))  # type: ignore[union-attr]
    columns = text.choices[0].logprobs
    assert columns is not None
    assert "".join(columns.tokens or []) == text.choices[0].text
    assert [len(t) for t in columns.top_logprobs or []] == [2] * len(columns.tokens or [])


def test_no_request_fails_and_none_is_mixed_while_the_champion_moves(server: Live) -> None:
    client, models = server.client(), server.workspace.models
    answers = {
        ref: client.chat.completions.create(model=ref, messages=ASK, max_tokens=6).choices[0].message.content
        for ref in ("bot@1", "bot@2")
    }
    stop, failures, seen = threading.Event(), [], set()

    def ask() -> None:
        while not stop.is_set():
            try:
                answer = client.chat.completions.create(model="bot", messages=ASK, max_tokens=6)
                seen.add(answer.model)
                if answer.choices[0].message.content != answers[answer.model]:
                    failures.append(f"{answer.model} answered {answer.choices[0].message.content!r}")
            except Exception as error:
                failures.append(repr(error))

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for turn in range(12):
        models.set_alias("bot", "champion", 1 + turn % 2, actor="test", reason=f"turn {turn}")
        time.sleep(0.1)
    stop.set()
    for thread in threads:
        thread.join()
    models.set_alias("bot", "champion", 1, actor="test", reason="back")
    assert failures == []
    assert seen == {"bot@1", "bot@2"}


def test_a_client_that_hangs_up_cancels_its_generation(server: Live) -> None:
    client = server.client()
    stream = client.chat.completions.create(model="bot@2", messages=ASK, max_tokens=400, stream=True)
    first = next(iter(stream))
    stream.close()
    for _ in range(200):
        record = _record(server, first.id)
        if record is not None:
            break
        time.sleep(0.05)
    assert record is not None
    assert record.status in {"cancelled", "ok"}
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.05).chat.completions.create(
            model="bot@2", messages=ASK, max_tokens=450, extra_body={"metadata": {"who": "gone"}}
        )
    for _ in range(200):
        gone = [r for r in server.workspace.requests.list(limit=10) if r.metadata.get("who") == "gone"]
        if gone:
            break
        time.sleep(0.05)
    assert gone[0].status == "cancelled"


def _record(server: Live, request_id: str):  # type: ignore[no-untyped-def]
    return server.workspace.requests.find(request_id)


def test_names_that_do_not_exist_are_404_with_the_nearest(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="did you mean 'bot'") as error:
        client.chat.completions.create(model="bott", messages=ASK)
    assert error.value.code == "model_not_found"
    assert error.value.param == "model"
    for name in ("bot@9", "bot@nobody", "ft:tiny-llama:tunery::nothing", "../../etc/passwd", "a/b:c@@"):
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(model=name, messages=ASK)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"temperature": 3}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"n": 99}, "n:"),
        ({"tools": [{"type": "function"}]}, "an object with a name"),
        ({"tools": TOOLS, "tool_choice": "sometimes"}, "tool_choice"),
        ({"tool_choice": "required"}, "no tools"),
        ({"tools": TOOLS, "guided_regex": "a"}, "regex"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "role"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "text"),
        ({"messages": [{"role": "user", "content": "word " * 4000}]}, "context window"),
        ({"response_format": {"type": "json_schema"}}, "json_schema"),
        ({"stop": [""]}, "empty"),
    ],
)
def test_wrong_bodies_are_400_and_say_what_is_wrong(
    client: OpenAI, body: dict[str, object], says: str
) -> None:
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(**{"model": "bot", "messages": ASK, "extra_body": body})  # type: ignore[call-overload]
    assert says in error.value.message
    assert error.value.type == "invalid_request_error"
    assert error.value.request_id
    assert error.value.request_id.startswith("req_")
