"""``/tokenize``, ``/detokenize`` and ``/version`` as vLLM's clients call them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tunery
from tests.integration.live_api import BASE, Live, live, register
from tests.tiny.encoder import build_encoder
from tunery.api.config import ServerSettings
from tunery.model.tokenizer import load_tokenizer
from tunery.pipeline.gateway.embedder import EmbeddingSettings
from tunery.store.workspace import Workspace

ASK: Any = [{"role": "user", "content": "I am still waiting on my card"}]
NOW: Any = {"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}}


@pytest.fixture(scope="module")
def server(
    tiny_model: Path, tiny_adapters: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Live]:
    workspace = Workspace.open(tmp_path_factory.mktemp("home"))
    register(workspace, tiny_model, tiny_adapters["a"], "bot", system_prompt="Name the intent.")
    workspace.models.set_alias("bot", "champion", 1, actor="test", reason="first")
    encoder = build_encoder(tmp_path_factory.mktemp("encoders") / "tiny-bert")
    settings = ServerSettings(
        port=0, run_jobs=False, base=str(tiny_model), embeddings=EmbeddingSettings(encoder=str(encoder))
    )
    with live(workspace, tiny_model, settings=settings) as running:
        yield running
    workspace.close()


def tokenize(server: Live, **body: Any) -> dict[str, Any]:
    answer = server.call("POST", "/tokenize", body)
    assert answer.status == 200, answer.text
    found: dict[str, Any] = answer.json()
    assert found["count"] == len(found["tokens"])
    return found


@pytest.mark.parametrize("name", [BASE, "bot", "bot@1"])
@pytest.mark.parametrize("tools", [{}, {"tools": [NOW]}])
def test_a_conversation_has_the_tokens_that_a_chat_completion_counts(
    server: Live, name: str, tools: dict[str, Any]
) -> None:
    found = tokenize(server, model=name, messages=ASK, **tools)
    done = server.client().chat.completions.create(model=name, messages=ASK, max_tokens=1, **tools)
    assert done.usage
    assert (found["count"], found["max_model_len"]) == (done.usage.prompt_tokens, 512)


def test_a_prompt_has_the_tokens_of_the_tokenizers_own_library(server: Live, tiny_model: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    for text in ("the red door", "", "é ü → 🙂", " lead"):
        for special in (True, False):
            expected = tokenizer.hf.encode(text, add_special_tokens=special)
            assert tokenize(server, prompt=text, add_special_tokens=special)["tokens"] == expected
        assert tokenize(server, prompt=text) == tokenize(server, prompt=text, add_special_tokens=True)
    found = tokenize(server, prompt="the red door", return_token_strs=True)
    assert found["token_strs"] == tokenizer.hf.convert_ids_to_tokens(found["tokens"])
    assert tokenize(server, prompt="the")["token_strs"] is None


@pytest.mark.parametrize("text", ["the red door", "é ü → 🙂 中", "<|im_start|>user\n", "  two  spaces  "])
@pytest.mark.parametrize("model", [None, BASE, "bot"])
def test_tokens_become_the_text_again(server: Live, text: str, model: str | None) -> None:
    ids = tokenize(server, model=model, prompt=text, add_special_tokens=False)["tokens"]
    answer = server.call("POST", "/detokenize", {"model": model, "tokens": ids})
    assert (answer.status, answer.json()) == (200, {"prompt": text})


def test_special_tokens_are_shown_by_their_names(server: Live, tiny_model: Path) -> None:
    stop = min(load_tokenizer(tiny_model).stop_ids)
    text = server.call("POST", "/detokenize", {"tokens": [stop]}).json()["prompt"]
    assert text.startswith("<")


def test_the_encoder_counts_in_its_own_tokens(server: Live) -> None:
    whole = tokenize(server, model="tiny-bert", prompt="my card", return_token_strs=True)
    assert whole["token_strs"][0] == "[CLS]"
    answer = server.client().embeddings.create(model="tiny-bert", input=[whole["tokens"]])
    assert answer.usage.prompt_tokens == whole["count"]
    bare = tokenize(server, model="tiny-bert", prompt="my card", add_special_tokens=False)["tokens"]
    assert server.call("POST", "/detokenize", {"model": "tiny-bert", "tokens": bare}).json() == {
        "prompt": "my card"
    }


@pytest.mark.parametrize(
    ("path", "body", "status", "param"),
    [
        ("/tokenize", {}, 400, "prompt"),
        ("/tokenize", {"prompt": "a", "messages": ASK}, 400, "prompt"),
        ("/tokenize", {"prompt": "word " * 100_000}, 400, "prompt"),
        ("/tokenize", {"messages": [{"role": "user", "content": "word " * 100_000}]}, 400, "messages"),
        ("/tokenize", {"prompt": "a", "model": "nobody"}, 404, "model"),
        ("/tokenize", {"prompt": "a", "add_special_token": True}, 400, "add_special_token"),
        ("/tokenize", {"messages": ASK, "model": "tiny-bert"}, 400, "messages"),
        ("/tokenize", {"prompt": "word " * 300_000, "model": "tiny-bert"}, 400, "prompt"),
        ("/detokenize", {"tokens": [10**6]}, 400, "tokens"),
        ("/detokenize", {"tokens": [-1]}, 400, "tokens.0"),
        ("/detokenize", {"tokens": ["5"]}, 400, "tokens.0"),
        ("/detokenize", {"tokens": [1] * 300_000}, 400, "tokens"),
        ("/detokenize", {}, 400, "tokens"),
    ],
)
def test_what_has_no_tokens_is_refused(
    server: Live, path: str, body: dict[str, Any], status: int, param: str
) -> None:
    answer = server.call("POST", path, body)
    assert answer.status == status, answer.text
    assert answer.json()["error"]["param"] == param


def test_the_version_needs_no_key_and_tokens_do(server: Live) -> None:
    assert server.call("GET", "/version", Authorization="").json() == {"version": tunery.__version__}
    for path in ("/tokenize", "/detokenize"):
        assert server.call("POST", path, {"prompt": "a"}, Authorization="Bearer tk-wrong").status == 401
