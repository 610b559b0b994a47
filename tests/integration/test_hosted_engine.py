"""A model that is forwarded to: answers, counts and refusals are the endpoint's, records are ours."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import BadRequestError, OpenAI

from tests.integration.live_api import BASE, Live, live, register
from tunery.api.config import ServerSettings
from tunery.serve.engines import engine_settings
from tunery.store.workspace import Workspace

KEY = "ENDPOINT_KEY"
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
ASKED: dict[str, Any] = {
    "model": BASE,
    "messages": [{"role": "user", "content": "the red door"}],
    "max_tokens": 12,
    "temperature": 0,
}


@pytest.fixture
def endpoint(tiny_model: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Live]:
    with live(workspace, tiny_model) as running:
        monkeypatch.setenv(KEY, running.secret)
        yield running


@pytest.fixture
def front(endpoint: Live, tiny_model: Path, tmp_path: Path) -> Iterator[Live]:
    """A server that forwards to the endpoint; the folder of a base is given to it in vain."""
    engine = engine_settings(
        {"kind": "hosted", "base_url": f"{endpoint.url}/v1", "model": BASE, "api_key_env": KEY}
    )
    home = Workspace.open(tmp_path / "front")
    settings = ServerSettings(port=0, run_jobs=False, engine=engine)
    with live(home, tiny_model, settings=settings) as running:
        yield running
    home.close()


def test_answers_and_counts_are_the_endpoints_own(endpoint: Live, front: Live) -> None:
    behind = endpoint.client().chat.completions.create(**ASKED)
    before = front.client().chat.completions.create(**ASKED)
    assert before.choices[0].message.content == behind.choices[0].message.content
    assert before.usage is not None
    assert behind.usage is not None
    assert before.usage.total_tokens == behind.usage.total_tokens
    assert before.choices[0].finish_reason == behind.choices[0].finish_reason
    streamed = list(
        front.client().chat.completions.create(**ASKED, stream=True, stream_options={"include_usage": True})
    )
    text = "".join(c.choices[0].delta.content or "" for c in streamed if c.choices)
    assert text == behind.choices[0].message.content
    assert streamed[-1].usage is not None
    assert streamed[-1].usage.total_tokens == behind.usage.total_tokens


def test_likelihoods_and_json_are_passed_on_and_records_are_kept(endpoint: Live, front: Live) -> None:
    asked = {**ASKED, "logprobs": True, "top_logprobs": 2}
    behind = endpoint.client().chat.completions.create(**asked).choices[0].logprobs
    answer = front.client().chat.completions.create(**asked, store=True, metadata={"from": "test"})
    before = answer.choices[0].logprobs
    assert before is not None
    assert behind is not None
    assert [(t.token, t.bytes) for t in before.content or ()] == [
        (t.token, t.bytes) for t in behind.content or ()
    ]
    assert [t.logprob for t in before.content or ()] == pytest.approx(
        [t.logprob for t in behind.content or ()]
    )
    schema = {
        "type": "object",
        "properties": {"sure": {"type": "boolean"}},
        "required": ["sure"],
        "additionalProperties": False,
    }
    held = front.client().chat.completions.create(
        **{**ASKED, "max_tokens": 40},
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "a", "strict": True, "schema": schema},
        },
    )
    assert set(json.loads(held.choices[0].message.content or "")) == {"sure"}
    kept = front.client().chat.completions.retrieve(answer.id)
    assert kept.model == BASE
    assert kept.choices[0].message.content == answer.choices[0].message.content


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({"extra_body": {"top_k": 3}}, "top_k"),
        ({"extra_body": {"guided_choice": ["a", "b"]}}, "JSON alone"),
        ({"tools": [TOOL], "extra_body": {"guided_choice": ["a", "b"]}}, "JSON alone"),
    ],
)
def test_what_cannot_be_passed_on_is_refused_by_name(front: Live, more: dict[str, Any], word: str) -> None:
    with pytest.raises(BadRequestError, match=word):
        front.client().chat.completions.create(**ASKED, **more)


def test_a_required_call_is_the_endpoints_own(front: Live) -> None:
    answer = front.client().chat.completions.create(
        **{**ASKED, "max_tokens": 60}, tools=[TOOL], tool_choice="required"
    )
    (call,) = answer.choices[0].message.tool_calls or ()
    assert call.type == "function"
    assert (call.function.name, json.loads(call.function.arguments)) == ("f", {})
    assert answer.choices[0].finish_reason == "tool_calls"


def test_plain_prompts_token_ids_and_other_bases_are_not_answered_in_its_name(
    front: Live, tiny_model: Path, tiny_adapters: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(BadRequestError, match="conversations"):
        front.client().completions.create(model=BASE, prompt="the red door")
    home = Workspace.open(tmp_path / "front")
    register(home, tiny_model, tiny_adapters["a"], "other")
    home.close()
    with pytest.raises(BadRequestError, match="forwards to"):
        front.client().chat.completions.create(**{**ASKED, "model": "other"})


FORBIDDEN = (
    "numpy pandas pyarrow scipy sklearn torch transformers tokenizers peft safetensors openai llguidance "
    "sqlalchemy alembic"
)
START = """
import importlib.abc, sys
forbidden = set(sys.argv[1].split())
class Forbid(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in forbidden:
            raise ModuleNotFoundError(f"{name} is not installed", name=name)
sys.meta_path.insert(0, Forbid())
from tunery.cli.main import main
sys.argv = ["tunery", *sys.argv[2:]]
main()
"""


def test_it_needs_nothing_that_computes(endpoint: Live, tmp_path: Path) -> None:
    home = str(tmp_path / "light")
    env = {**os.environ, "TUNERY_DATABASE_URL": ""}
    refused = subprocess.run(
        [sys.executable, "-c", START, FORBIDDEN, "--home", home, "keys", "create", "x"],
        capture_output=True,
        text=True,
        env=env,
    )
    assert refused.returncode == 2
    assert "pip install alembic sqlalchemy" in refused.stderr
    url = f"sqlite:///{tmp_path / 'light' / 'tunery.db'}"
    Workspace.open(tmp_path / "light", database_url=url).close()  # a whole install was here first
    engine = ["engine.kind=hosted", f"engine.base_url={endpoint.url}/v1", f"engine.model={BASE}"]
    options = ["--home", home, "serve", "--port", "0", "--json", "run_jobs=false"]
    process = subprocess.Popen(
        [sys.executable, "-c", START, FORBIDDEN, *options, *engine, f"engine.api_key_env={KEY}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        secret = process.stderr.readline().rpartition(" ")[2].strip()
        written = "".join(iter(process.stdout.readline, "}\n"))
        assert written, process.stderr.read()
        with OpenAI(base_url=json.loads(f"{written}}}")["url"], api_key=secret, max_retries=0) as client:
            answer = client.chat.completions.create(**ASKED)
            assert answer.choices[0].message.content
            assert client.models.list().data[0].id == BASE
            assert client.chat.completions.retrieve(answer.id).id == answer.id
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
