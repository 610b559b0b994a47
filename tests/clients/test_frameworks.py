"""Frameworks that people build with get their structured answers by default, from a model that knows nothing.

They ask for other versions of packages than this project and each other, so they live in an environment of
their own:

    python -m venv /tmp/frameworks
    /tmp/frameworks/bin/pip install instructor "pydantic-ai-slim[openai]" langchain-openai inspect-ai
    /tmp/frameworks/bin/pip install openai-agents
    /tmp/frameworks/bin/pip install --upgrade openai
    TUNERY_FRAMEWORKS=/tmp/frameworks/bin/python pytest -m clients
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.live_api import BASE, Live, live
from tests.tiny.build import build_tiny
from tunery.api.config import ServerSettings
from tunery.serve.openai.wire import SamplingDefaults
from tunery.store.workspace import Workspace

pytestmark = pytest.mark.clients
PYTHON = "TUNERY_FRAMEWORKS"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    base = build_tiny(tmp_path_factory.mktemp("wide") / BASE)
    wider = {"config.json": "max_position_embeddings", "tokenizer_config.json": "model_max_length"}
    for file, key in wider.items():
        described = json.loads((base / file).read_text("utf-8"))
        (base / file).write_text(json.dumps({**described, key: 4096}), encoding="utf-8")
    home = tmp_path_factory.mktemp("home")
    workspace = Workspace.open(home, database_url=f"sqlite:///{home / 'tunery.db'}")
    defaults = SamplingDefaults(max_tokens=1024)
    settings = ServerSettings(port=0, run_jobs=False, base=str(base), defaults=defaults)
    with live(workspace, base, settings=settings) as running:
        yield running
    workspace.close()


@pytest.mark.parametrize(
    "framework",
    [
        "instructor",
        "pydantic_ai",
        "pydantic_ai_responses",
        "langchain",
        "langchain_responses",
        "inspect",
        "agents",
    ],
)
def test_a_framework_gets_what_it_asks_for(server: Live, framework: str) -> None:
    python = os.environ.get(PYTHON)
    assert python, (
        f"set {PYTHON} to the python of an environment with the frameworks, as this file's beginning says"
    )
    script = Path(__file__).with_name("ask.py")
    done = subprocess.run(
        [python, str(script), framework, f"{server.url}/v1", server.secret, BASE],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env={k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "TUNERY"))},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answers = json.loads(done.stdout.strip().splitlines()[-1])
    assert len(answers) >= 2
    for answer in answers:
        assert set(answer) == {"verdict", "sure", "day"}
