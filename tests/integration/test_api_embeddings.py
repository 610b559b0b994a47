"""Embeddings through the unmodified client, on a tiny BERT; plain transformers beside it as the reference."""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
import torch
from openai import OpenAI
from tokenizers import Tokenizer
from transformers import BertModel

from tests.integration.live_api import BASE, Live, live
from tests.tiny.encoder import MAX_TOKENS, build_encoder
from tunery.api.config import ServerSettings
from tunery.core.errors import ConfigError, ResourceError
from tunery.pipeline.gateway.embedder import Embedder, EmbeddingSettings
from tunery.store.workspace import Workspace

NAME = "tiny-bert"
TEXTS = ["where is my card?", "i lost it", "", "where is my card?", "a much longer question, again and again"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_encoder(tmp_path_factory.mktemp("encoders") / NAME)


@pytest.fixture(scope="module")
def server(encoder: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    workspace = Workspace.open(tmp_path_factory.mktemp("home"))
    settings = ServerSettings(
        port=0,
        run_jobs=False,
        base=str(tiny_model),
        embeddings=EmbeddingSettings(encoder=str(encoder), max_tokens=3000),
    )
    with live(workspace, tiny_model, settings=settings) as running:
        yield running
    workspace.close()


@pytest.fixture
def client(server: Live) -> OpenAI:
    return server.client()


def reference(encoder: Path, texts: list[str]) -> np.ndarray[Any, Any]:
    """Mean over the tokens' last states, length one, one text at a time."""
    model = BertModel.from_pretrained(encoder, add_pooling_layer=False).eval()
    tokenizer = Tokenizer.from_file(str(encoder / "tokenizer.json"))
    rows = []
    with torch.inference_mode():
        for text in texts:
            states = model(torch.tensor([tokenizer.encode(text).ids])).last_hidden_state[0]
            rows.append(torch.nn.functional.normalize(states.mean(dim=0), dim=0).numpy())
    return np.stack(rows)


def vectors(answer: Any) -> np.ndarray[Any, Any]:
    assert [item.index for item in answer.data] == list(range(len(answer.data)))
    rows = [item.embedding for item in answer.data]
    if isinstance(rows[0], str):  # base64 that was asked for by name stays as it came
        rows = [np.frombuffer(base64.b64decode(row), dtype="<f4") for row in rows]
    return np.array(rows)


@pytest.mark.parametrize("encoding", [{}, {"encoding_format": "float"}, {"encoding_format": "base64"}])
def test_vectors_are_the_mean_over_tokens_in_the_order_of_the_inputs(
    client: OpenAI, encoder: Path, encoding: Any
) -> None:
    answer = client.embeddings.create(model=NAME, input=TEXTS, **encoding)
    assert (answer.object, answer.model, answer.data[0].object) == ("list", NAME, "embedding")
    np.testing.assert_allclose(vectors(answer), reference(encoder, TEXTS), atol=1e-5)
    tokenizer = Tokenizer.from_file(str(encoder / "tokenizer.json"))
    assert answer.usage.prompt_tokens == sum(len(tokenizer.encode(t).ids) for t in TEXTS)


def test_text_and_its_token_ids_have_one_vector(client: OpenAI, encoder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(encoder / "tokenizer.json"))
    bare = tokenizer.encode(TEXTS[0], add_special_tokens=False).ids
    whole = tokenizer.encode(TEXTS[0]).ids
    for given in (TEXTS[0], bare, whole, [bare], [TEXTS[0]]):
        answer = client.embeddings.create(model=NAME, input=given)
        np.testing.assert_allclose(vectors(answer), reference(encoder, TEXTS[:1]), atol=1e-5)


def test_its_name_is_listed_and_described(client: OpenAI) -> None:
    listed = {model.id: model.owned_by for model in client.models.list()}
    assert listed[NAME] == "encoder"
    assert client.models.retrieve(NAME).id == NAME
    with pytest.raises(openai.ConflictError):
        client.models.delete(NAME)


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"dimensions": 12}, "dimensions", "24 numbers"),
        ({"input": []}, "input", ""),
        ({"input": [[]]}, "input", ""),
        ({"input": ["a", "b" * 60]}, "input", "input 1 has 62 tokens"),
        ({"input": [[5, 9999]]}, "input", "token id 9999"),
        ({"input": ["a b c d e f g h"] * 400}, "input", "may have 3,000"),
        ({"input": ["a"] * 2049}, "input", ""),
        ({"input": ["a" * 20_000, "b" * 10_001]}, "input", "may have 30,000"),
        ({"encoding_format": "hex"}, "encoding_format", ""),
        ({"model": BASE}, "model", "answers conversations"),
        ({"dimension": 24}, "dimension", "did you mean 'dimensions'"),
    ],
)
def test_what_cannot_be_given_is_refused(server: Live, fields: Any, param: str, words: str) -> None:
    answer = server.call("POST", "/v1/embeddings", {"model": NAME, "input": "hi", **fields})
    assert answer.status == 400, answer.text
    error = answer.json()["error"]
    assert error["param"].split(".")[0] == param
    assert words in error["message"]


def test_an_unknown_model_names_the_one_there_is(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match=NAME) as error:
        client.embeddings.create(model="text-embedding-3-small", input="hi")
    assert error.value.code == "model_not_found"


def test_long_texts_are_cut_where_the_client_says_so(client: OpenAI) -> None:
    long = client.embeddings.create(model=NAME, input="b" * 60, extra_body={"truncate_prompt_tokens": -1})
    exact = client.embeddings.create(model=NAME, input="b" * (MAX_TOKENS - 2))
    np.testing.assert_allclose(vectors(long), vectors(exact), atol=1e-5)


def test_many_at_once_each_get_their_own(client: OpenAI, encoder: Path) -> None:
    expected = reference(encoder, TEXTS)
    wrong: list[Exception] = []

    def ask(place: int) -> None:
        texts = [*TEXTS[place:], *TEXTS[:place]] * 9
        try:
            found = vectors(client.embeddings.create(model=NAME, input=texts))
            whole = np.concatenate([np.roll(expected, -place, axis=0)] * 9)
            np.testing.assert_allclose(found, whole, atol=1e-5)
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=ask, args=(place % 5,)) for place in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_without_an_encoder_there_is_none(tiny_model: Path, workspace: Workspace) -> None:
    settings = ServerSettings(
        port=0, run_jobs=False, base=str(tiny_model), embeddings=EmbeddingSettings(encoder="off")
    )
    with live(workspace, tiny_model, settings=settings) as server:
        with pytest.raises(openai.NotFoundError, match="no encoder is served here"):
            server.client().embeddings.create(model="all-minilm-l6-v2", input="hi")
        assert {m.id for m in server.client().models.list()} == {BASE}


def test_a_name_that_is_none_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'all-minilm-l6-v2'"):
        Embedder(EmbeddingSettings(encoder="all-minilm-l6-v3"))
    with pytest.raises(ConfigError, match="no folder of a BERT"):
        Embedder(EmbeddingSettings(encoder=str(tmp_path))).encoder.token_ids(["hi"])


def test_an_end_tells_those_who_wait(encoder: Path) -> None:
    embedder = Embedder(EmbeddingSettings(encoder=str(encoder)))
    rows = embedder.rows(["a b c d e f g h i j"] * 2000)

    async def ask() -> list[object]:
        asked = [asyncio.ensure_future(embedder.embed(rows)) for _ in range(3)]
        await asyncio.sleep(0.05)
        embedder.close()
        return await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 20)

    found = asyncio.run(ask())
    assert all(isinstance(one, ResourceError) for one in found)
    with pytest.raises(ResourceError, match="shutting down"):
        asyncio.run(embedder.embed(rows))
