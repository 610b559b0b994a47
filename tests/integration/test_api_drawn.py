"""Every route that answers a model's callers, asked with bodies drawn from the published document.

A good body gets up to three more fields, each drawn from what ``/openapi.json`` says can be asked; in every
second one a value is replaced by what does not belong there. None gets a 5xx, and each gets a status that the
document names and, where it is an error, OpenAI's shape. ``test_api_schemathesis.py`` does more of this, and
takes minutes.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from tests.integration.live_api import BASE, Live, live
from tunery.api.config import ServerSettings
from tunery.api.roles import ROUTES
from tunery.serve.openai.wire import SamplingDefaults
from tunery.store.workspace import Workspace

GOOD: Mapping[str, Mapping[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hello"}]},
    "/v1/completions": {"prompt": "hello"},
    "/v1/embeddings": {"input": "hello"},
    "/v1/responses": {"input": "hello"},
    "/v1/responses/input_tokens": {"input": "hello"},
    "/tokenize": {"prompt": "hello"},
    "/detokenize": {"tokens": [1, 2]},
}
WITHOUT_AN_ENCODER = "/v1/embeddings"
ODD = (
    None,
    True,
    -1,
    0,
    2**70,
    1e308,
    "",
    "\x00",
    "a" * 5_000,
    [],
    {},
    [[]],
    [None],
    {"a": {"b": []}},
    "\ud800",
)
TEXTS = ("", "a", "hi there", "\n", "ä\U0001f600", "{}", "<|im_end|>", "auto", "user")
DEEPEST = 6


class Drawn:
    """Values of schemas, by chance."""

    def __init__(self, document: Mapping[str, Any], draw: random.Random) -> None:
        self.document = document
        self.draw = draw

    def resolved(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what a reference names."""
        while "$ref" in schema:
            found: Any = self.document
            for part in schema["$ref"].removeprefix("#/").split("/"):
                found = found[part]
            schema = found
        return schema

    def value(self, schema: Any, depth: int = 0) -> Any:
        """Return a value that a schema allows, as far as its type goes."""
        if not isinstance(schema, Mapping) or depth > DEEPEST:
            return self.draw.choice(TEXTS)
        schema = self.resolved(schema)
        for word in ("anyOf", "oneOf", "allOf"):
            if word in schema:
                return self.value(self.draw.choice(schema[word]), depth)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self.draw.choice(schema["enum"])
        kinds = schema.get("type", "object" if "properties" in schema else "string")
        kind = self.draw.choice(kinds) if isinstance(kinds, list) else kinds
        return getattr(self, f"_{kind}")(schema, depth)

    def body(self, good: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
        """Return a good body with some of its optional fields drawn anew, or drawn at all."""
        fields = schema["properties"]
        names = self.draw.sample([name for name in fields if name != "model"], self.draw.randint(0, 3))
        return {"model": BASE, **good, **{name: self.value(fields[name], 1) for name in names}}

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        needed = set(schema.get("required", ()))
        return {
            name: self.value(inner, depth + 1)
            for name, inner in schema.get("properties", {}).items()
            if name in needed or self.draw.random() < 0.5
        }

    def _array(self, schema: Mapping[str, Any], depth: int) -> list[Any]:
        count = self.draw.randint(schema.get("minItems", 0), max(schema.get("minItems", 0), 2))
        return [self.value(schema.get("items", {}), depth + 1) for _ in range(count)]

    def _integer(self, schema: Mapping[str, Any], depth: int) -> int:
        low = int(schema.get("minimum", 0))
        return self.draw.randint(low, min(int(schema.get("maximum", low + 3)), low + 3))

    def _number(self, schema: Mapping[str, Any], depth: int) -> float:
        return self.draw.uniform(float(schema.get("minimum", 0)), float(schema.get("maximum", 2)))

    def _string(self, schema: Mapping[str, Any], depth: int) -> str:
        return self.draw.choice(TEXTS)

    def _boolean(self, schema: Mapping[str, Any], depth: int) -> bool:
        return self.draw.random() < 0.5

    def _null(self, schema: Mapping[str, Any], depth: int) -> None:
        return None

    def broken(self, value: Any) -> Any:
        """Return a value with something in it replaced by what does not belong there."""
        if isinstance(value, dict) and value and self.draw.random() < 0.8:
            name = self.draw.choice([*value])
            return {**value, name: self.broken(value[name])}
        if isinstance(value, list) and value and self.draw.random() < 0.8:
            which = self.draw.randrange(len(value))
            return [*value[:which], self.broken(value[which]), *value[which + 1 :]]
        return self.draw.choice(ODD)


@pytest.fixture(scope="module")
def server(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    home = tmp_path_factory.mktemp("drawn") / "home"
    workspace = Workspace.open(home, database_url=f"sqlite:///{home / 'tunery.db'}")
    given_settings = ServerSettings(
        port=0, run_jobs=False, base=str(tiny_model), defaults=SamplingDefaults(max_tokens=4)
    )
    with live(workspace, tiny_model, settings=given_settings) as running:
        yield running
    workspace.close()


@pytest.fixture(scope="module")
def document(server: Live) -> Mapping[str, Any]:
    return server.call("GET", "/openapi.json").json()  # type: ignore[no-any-return]


def test_the_routes_are_those_that_callers_of_models_have(document: Mapping[str, Any]) -> None:
    """A new one that takes JSON and needs no more than the role of callers is thought of here."""
    named = {
        f"/v1{place}" for place in (key.partition(" ")[2] for key, a in ROUTES.items() if a.role == "infer")
    }
    bodies = {
        path
        for path, methods in document["paths"].items()
        if "{" not in path
        and "application/json" in methods.get("post", {}).get("requestBody", {}).get("content", {})
    }
    called = bodies & (named | {path.removeprefix("/v1") for path in named})
    assert called == {*GOOD, "/v1/feedback"}


@pytest.mark.parametrize("path", GOOD)
def test_whatever_is_drawn_gets_an_answer_that_the_document_names(
    path: str, server: Live, document: Mapping[str, Any]
) -> None:
    operation = document["paths"][path]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    refused = operation["responses"]["400"]["content"]["application/json"]["schema"]
    error = Draft202012Validator({**refused, "components": document["components"]})
    seen: set[int] = set()

    @settings(max_examples=50, deadline=None)
    @given(st.randoms(use_true_random=False), st.booleans())
    def ask(draw: random.Random, breaks: bool) -> None:
        drawn = Drawn(document, draw)
        body = drawn.body(GOOD[path], drawn.resolved(schema))
        if breaks:
            body = drawn.broken(body)
        answer = server.call("POST", path, body)
        assert answer.status < 500, (body, answer.text)
        assert str(answer.status) in operation["responses"], (body, answer.status)
        if answer.status >= 400:
            error.validate(answer.json())
        seen.add(answer.status)

    ask()
    assert 400 in seen
    assert 200 in seen or path == WITHOUT_AN_ENCODER
    assert server.call("GET", "/health").status == 200
