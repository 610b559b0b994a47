"""OpenAI's client for Node, promptfoo, and LiteLLM as library and as proxy, against the server.

Each is what its makers publish, in a folder or an environment of its own:

    mkdir /tmp/node && cd /tmp/node && npm install openai promptfoo
    python -m venv /tmp/litellm && /tmp/litellm/bin/pip install 'litellm[proxy]'
    TUNERY_NODE=/tmp/node TUNERY_LITELLM=/tmp/litellm/bin pytest -m clients tests/clients/test_others.py
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from openai import APIConnectionError, InternalServerError, OpenAI

from tests.clients.test_frameworks import server as server
from tests.integration.live_api import BASE, Live

pytestmark = pytest.mark.clients


def place(variable: str) -> Path:
    found = os.environ.get(variable)
    assert found, f"set {variable} as this file's beginning says"
    return Path(found)


def run(command: list[str], **more: Any) -> str:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "TUNERY"))}
    env = {**kept, **more.pop("env", {})}
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False, env=env, **more)
    assert done.returncode == 0, (done.stdout[-2000:], done.stderr[-3000:])
    return done.stdout


def test_openais_client_for_node_gets_what_the_one_for_python_gets(server: Live) -> None:
    script = Path(__file__).with_name("ask.mjs")
    written = run(["node", str(script), str(place("TUNERY_NODE")), f"{server.url}/v1", server.secret, BASE])
    found = json.loads(written.strip().splitlines()[-1])
    assert found["whole"] == "string"
    assert found["streamed"] is True
    for answer in (found["held"], found["called"]):
        assert set(answer) == {"verdict", "sure"}
    assert isinstance(found["responses"], str)
    assert found["events"][0] == "response.created"
    assert found["events"][1] in ("response.completed", "response.incomplete")
    assert (found["file"], found["listed"], found["content"], found["deleted"]) == (True, True, 12, True)
    assert found["models"] is True
    assert found["unknown"] == [True, 404, "model_not_found", True]
    assert found["refused"] is True


def test_promptfoo_evaluates_two_prompts_against_the_server(server: Live, tmp_path: Path) -> None:
    config = {
        "description": "two prompts",
        "prompts": ["Is the sky {{colour}}?", "Say {{colour}}."],
        "providers": [
            {
                "id": f"openai:chat:{BASE}",
                "config": {"apiBaseUrl": f"{server.url}/v1", "apiKey": server.secret, "max_tokens": 8},
            }
        ],
        "tests": [
            {"vars": {"colour": colour}, "assert": [{"type": "javascript", "value": "output.length > 0"}]}
            for colour in ("blue", "red")
        ],
    }
    (tmp_path / "promptfooconfig.json").write_text(json.dumps(config))
    quiet = {
        "PROMPTFOO_DISABLE_TELEMETRY": "1",
        "PROMPTFOO_DISABLE_UPDATE": "1",
        "PROMPTFOO_CONFIG_DIR": str(tmp_path / "state"),
        "PROMPTFOO_DISABLE_REMOTE_GENERATION": "1",
    }
    program = place("TUNERY_NODE") / "node_modules" / ".bin" / "promptfoo"
    run(
        [str(program), "eval", "-c", "promptfooconfig.json", "-o", "out.json", "--no-cache", "--no-share"],
        cwd=tmp_path,
        env=quiet,
    )
    results = json.loads((tmp_path / "out.json").read_text())["results"]
    assert results["stats"]["successes"] == 4
    assert results["stats"]["errors"] == 0


SDK = """
import json, sys
import litellm
url, key, model = sys.argv[1:]
messages = [{"role": "user", "content": "Hello"}]
how = dict(model=f"openai/{model}", api_base=url, api_key=key, messages=messages, max_tokens=8)
whole = litellm.completion(**how)
streamed = "".join(c.choices[0].delta.content or "" for c in litellm.completion(**how, stream=True))
try:
    litellm.completion(**{**how, "model": "openai/nobody"})
    missing = None
except litellm.NotFoundError as error:
    missing = error.status_code
print(json.dumps([whole.choices[0].message.content, streamed, whole.usage.total_tokens, missing]))
"""


def test_litellm_as_a_library(server: Live) -> None:
    python = place("TUNERY_LITELLM") / "python"
    written = run([str(python), "-c", SDK, f"{server.url}/v1", server.secret, BASE])
    whole, streamed, total, missing = json.loads(written.strip().splitlines()[-1])
    assert whole
    assert streamed == whole
    assert total > 0
    assert missing == 404


@pytest.fixture
def proxied(server: Live, tmp_path: Path) -> Iterator[OpenAI]:
    """LiteLLM's proxy in front of the server, asked by the openai client."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    listed = {"model": f"openai/{BASE}", "api_base": f"{server.url}/v1", "api_key": server.secret}
    key = f"sk-{secrets.token_urlsafe(32)}"
    config = {
        "model_list": [{"model_name": "ours", "litellm_params": listed}],
        "general_settings": {"master_key": key},
    }
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    command = [str(place("TUNERY_LITELLM") / "litellm"), "--config", str(tmp_path / "config.yaml")]
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "TUNERY"))}
    with (
        (tmp_path / "log").open("wb") as log,
        OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=key, max_retries=0) as client,
    ):
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)], stdout=log, stderr=log, env=env
        )
        try:
            until = time.monotonic() + 200
            while time.monotonic() < until and process.poll() is None:
                with suppress(APIConnectionError, InternalServerError):
                    client.models.list()
                    break
                time.sleep(0.5)
            yield client
        finally:
            process.terminate()
            process.wait(30)


def test_litellms_proxy_in_front(proxied: OpenAI) -> None:
    how: Any = {"model": "ours", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}
    whole = proxied.chat.completions.create(**how).choices[0].message.content
    chunks = proxied.chat.completions.create(**how, stream=True)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole
