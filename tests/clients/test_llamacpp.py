"""llama.cpp itself, from the package ``xllamacpp``: engine, exports and ``tunery serve``.

It lives in an environment of its own or in this one; ``libgguf`` writes Q4_K_M:

    python -m venv /tmp/llama && /tmp/llama/bin/pip install xllamacpp
    pip install --no-deps libgguf
    TUNERY_LLAMACPP=/tmp/llama/bin/python pytest -m clients tests/clients/test_llamacpp.py
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from openai import OpenAI

from tests.integration.test_whole_models import made
from tests.tiny.architectures import build_architecture
from tunery.core.engine import Calls, Constraint, Engine, GenerationRequest, Sampling, TokenEvent
from tunery.core.errors import ConfigError, GateFailed, NotFoundError, ResourceError
from tunery.core.progress import Silent
from tunery.model.gguf.write import write_model
from tunery.model.tokenizer import load_tokenizer
from tunery.pipeline.stages.parity import parity_of_gguf
from tunery.serve.engines import engine_settings, open_engine
from tunery.serve.engines.llamacpp import LlamaCppSettings
from tunery.store.workspace import Workspace

pytestmark = pytest.mark.clients
PYTHON = "TUNERY_LLAMACPP"


@pytest.fixture(scope="module")
def python() -> str:
    found = os.environ.get(PYTHON)
    assert found, f"set {PYTHON} to a python that has xllamacpp, as this file's beginning says"
    return found


def llama(base: Path, python: str, cache: Path, **settings: Any) -> Engine:
    values = {"kind": "llamacpp", "python": python, "cache": str(cache), "quantise": "f32", **settings}
    return open_engine(base, engine_settings(values))


@pytest.fixture(scope="module")
def both(
    python: str,
    tiny_model: Path,
    tiny_adapters: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Engine, Engine]]:
    here = open_engine(tiny_model, engine_settings({"device": "cpu", "threads": 1}))
    there = llama(tiny_model, python, tmp_path_factory.mktemp("cache"))
    for name in ("a", "b"):
        here.load_adapter(name, str(tiny_adapters[name]))
        there.load_adapter(name, str(tiny_adapters[name]))
    yield here, there
    there.close()
    here.close()


def prompts(base: Path) -> list[tuple[int, ...]]:
    tokenizer = load_tokenizer(str(base))
    return [tokenizer.encode(text) for text in ("the red door", "card arrival", "é ü → cup of card")]


ASCII = Constraint(regex="[a-z ]{40}")
"""Random weights write halves of characters, whose tokens llama.cpp's stream leaves out."""
ARCHITECTURES = {
    "Llama": {},
    "Mistral": {"sliding_window": None, "tie_word_embeddings": False},
    "Qwen2": {},
    "Qwen3": {},
    "Gemma": {},
    "Gemma2": {"query_pre_attn_scalar": 16, "sliding_window": 64, "attn_logit_softcapping": 2.0},
    "Gemma3Text": {"query_pre_attn_scalar": 16, "sliding_window": 64, "num_hidden_layers": 6},
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_has_the_likelihoods_of_transformers(
    name: str, tiny_model: Path, tmp_path: Path, python: str
) -> None:
    base = build_architecture(tiny_model, tmp_path / "base", name, **ARCHITECTURES[name])
    draw = random.Random(1)
    rows = [
        (tuple(draw.choices(range(265, 400), k=size)), tuple(draw.choices(range(265, 400), k=6)))
        for size in (3, 30, 100)
    ]
    plain = open_engine(base, engine_settings({"kind": "transformers", "device": "cpu"}))
    there = llama(base, python, tmp_path / "cache")
    try:
        for ours, theirs in zip(plain.score(rows), there.score(rows), strict=True):
            assert theirs.logprob == pytest.approx(ours.logprob, abs=3e-2)  # keys and values are in fp16
    finally:
        there.close()
        plain.close()


@pytest.mark.parametrize("adapter", [None, "a", "b"])
def test_it_answers_and_scores_as_the_embedded_engine(
    both: tuple[Engine, Engine], tiny_model: Path, adapter: str | None
) -> None:
    here, there = both
    sampling = Sampling(max_tokens=8, logprobs=2)
    requests = [GenerationRequest(p, adapter, sampling, ASCII) for p in prompts(tiny_model)]
    for ours, theirs in zip(here.generate(requests), there.generate(requests), strict=True):
        assert theirs.token_ids == ours.token_ids
        likely = [t.logprob for t in ours.tokens]  # theirs may have the token that ended the form, too
        assert [t.logprob for t in theirs.tokens][: len(likely)] == pytest.approx(likely, abs=1e-2)
        assert [len(t.top) for t in theirs.tokens] == [2] * len(theirs.tokens)
    rows = [(p, (*p[-3:], 2)) for p in prompts(tiny_model)]
    for mine, found in zip(here.score(rows, adapter), there.score(rows, adapter), strict=True):
        assert found.logprob == pytest.approx(mine.logprob, abs=1e-2)
        assert (found.tokens, found.greedy) == (mine.tokens, mine.greedy)


def test_adapters_are_mixed_and_one_that_is_not_there_is_never_answered(
    both: tuple[Engine, Engine], tiny_model: Path, tiny_adapters: dict[str, Path]
) -> None:
    here, there = both
    prompt = prompts(tiny_model)[0]
    requests = [
        GenerationRequest(prompt, name, Sampling(max_tokens=6), ASCII) for name in (None, "a", "b") * 4
    ]
    assert [g.text for g in there.generate(requests)] == [g.text for g in here.generate(requests)]
    with pytest.raises(NotFoundError, match="nobody"):
        there.submit(GenerationRequest(prompt, "nobody"))
    with pytest.raises(ConfigError, match="DoRA"):
        there.load_adapter("c", str(tiny_adapters["c"]))
    there.unload_adapter("b")
    try:
        with pytest.raises(NotFoundError, match="'b'"):
            there.submit(GenerationRequest(prompt, "b"))
    finally:
        there.load_adapter("b", str(tiny_adapters["b"]))


def test_an_answer_goes_on_while_an_adapter_is_loaded(
    both: tuple[Engine, Engine], tiny_model: Path, tiny_adapters: dict[str, Path]
) -> None:
    _, there = both
    first = threading.Event()
    seen: list[TokenEvent] = []

    def heard(event: TokenEvent) -> None:
        seen.append(event)
        first.set()

    request = GenerationRequest(prompts(tiny_model)[0], "a", Sampling(max_tokens=400, ignore_eos=True))
    running = there.submit(request, heard)
    assert first.wait(20)
    there.load_adapter("late", str(tiny_adapters["a"]))
    assert running.result(60).finish_reason == "length"
    late = there.generate([GenerationRequest(request.prompt, "late", Sampling(max_tokens=4))])
    assert (
        late[0].text
        == there.generate([GenerationRequest(request.prompt, "a", Sampling(max_tokens=4))])[0].text
    )
    there.unload_adapter("late")


CALL = Calls((("f", {"type": "object", "properties": {"x": {"enum": ["p", "q"]}}, "required": ["x"]}),), True)


@pytest.mark.parametrize(
    "form",
    [
        Constraint(labels=("red", "blue")),
        Constraint(regex="[a-c]{3}-[0-9]{2}/x"),
        Constraint(grammar='root ::= "yes" | "no"'),
        Constraint(json_schema={"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"]}),
        Constraint(calls=CALL),
    ],
    ids=["labels", "regex", "grammar", "json", "calls"],
)
def test_forms_are_held_as_the_embedded_engine_holds_them(
    both: tuple[Engine, Engine], tiny_model: Path, form: Constraint
) -> None:
    here, there = both
    request = GenerationRequest(prompts(tiny_model)[0], "a", Sampling(max_tokens=80), form)
    ours, theirs = here.generate([request])[0], there.generate([request])[0]
    if form.json_schema is None:
        assert theirs.text == ours.text
    else:
        assert theirs.text.lstrip().startswith("{")


def test_a_server_that_is_killed_comes_back_and_breaks_no_request_that_had_no_byte(
    python: str, tiny_model: Path, tiny_adapters: dict[str, Path], tmp_path: Path
) -> None:
    others = set(llama_pids())
    there = llama(tiny_model, python, tmp_path / "cache", log=str(tmp_path / "log"), attempts=4)
    try:
        there.load_adapter("a", str(tiny_adapters["a"]))
        prompt, begun = prompts(tiny_model)[0], threading.Event()
        long = GenerationRequest(prompt, "a", Sampling(max_tokens=480, ignore_eos=True))
        before = there.generate([GenerationRequest(prompt, "a", Sampling(max_tokens=4))])[0].text
        many = [
            there.submit(long, lambda _: begun.set()) for _ in range(24)
        ]  # more than are computed at once
        assert begun.wait(20)
        os.kill(max(set(llama_pids()) - others), signal.SIGKILL)  # the one that took over
        outcomes = [future.exception(120) for future in many]
        # Eight at most had begun; the others were sent again.
        assert all(found is None or isinstance(found, ResourceError) for found in outcomes)
        assert sum(found is not None for found in outcomes) <= 8
        again = there.submit(GenerationRequest(prompt, "a", Sampling(max_tokens=4)))
        assert again.result(60).text == before
        assert there.healthy()
    finally:
        there.close()
    assert set(llama_pids()) <= others


def llama_pids(of: int | None = None) -> list[int]:
    found = psutil.Process(of).children(recursive=True)
    words = {process.pid: " ".join(process.cmdline()) for process in found}
    return [pid for pid, line in words.items() if "llamacpp_server" in line and "watchdog" not in line]


def test_exports_are_measured_as_served_and_a_broken_one_is_refused(
    python: str, tiny_model: Path, workspace: Workspace, tmp_path: Path
) -> None:
    ref = made(tiny_model, tmp_path, workspace, "adapter")
    workspace_root = workspace.root
    for form, more in (
        ("gguf", ["--quantise", "q8_0"]),
        ("gguf", ["--quantise", "q4_k_m", "--margin", "1"]),
        ("gguf-adapter", []),
    ):
        out = tmp_path / f"out-{form}-{len(more)}"
        command = [sys.executable, "-m", "tunery", "--home", str(workspace_root), "registry", "export", ref]
        words = [*command, str(out), "--format", form, *more, "--engine", f"python={python}", "--json"]
        called = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
        assert called.returncode == 0, called.stderr
        told = json.loads(called.stdout)
        assert told["parity"]["n"] == 6
        assert [name for name in told["files"] if name.endswith(".gguf")]

    spoilt = tmp_path / "spoilt-f32.gguf"
    tokenizer = json.loads((tiny_model / "tokenizer.json").read_text("utf-8"))
    tokenizer["model"]["merges"] = tokenizer["model"]["merges"][:20]
    broken = build_architecture(tiny_model, tmp_path / "broken", "Llama")
    (broken / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    write_model(broken, spoilt, "f32")
    settings = LlamaCppSettings(python=Path(python))
    with pytest.raises(GateFailed, match="reads other tokens in 6 conversations of 6"):
        parity_of_gguf(workspace, ref, spoilt, settings=settings, progress=Silent())


def test_tunery_serve_starts_it_and_leaves_nothing_behind_when_killed(
    python: str, tiny_model: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    engine = ["engine.kind=llamacpp", f"engine.python={python}", f"engine.cache={tmp_path / 'cache'}"]
    words = ["serve", "--port", "0", "--base", str(tiny_model), "--json", *engine]
    server = subprocess.Popen(
        [sys.executable, "-m", "tunery", "--home", str(home), *words],
        env={**os.environ, "TUNERY_DATABASE_URL": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    assert server.stderr is not None
    with server.stdout, server.stderr:
        key = server.stderr.readline().strip().rpartition(" ")[2]
        told = json.loads("".join(server.stdout.readline() for _ in range(4)))
        with OpenAI(base_url=told["url"], api_key=key, max_retries=2, timeout=120) as client:
            asked: Any = {"model": tiny_model.name, "messages": [{"role": "user", "content": "red door"}]}
            reply = client.chat.completions.create(**asked, max_tokens=4)
            assert reply.usage is not None
            assert reply.usage.completion_tokens
        left = llama_pids(server.pid)
        assert len(left) == 1
        assert (home / "logs" / "engine-llamacpp.log").is_file()
        server.kill()
        server.wait()
    until = time.monotonic() + 20
    while any(psutil.pid_exists(pid) for pid in left):
        assert time.monotonic() < until, "llama.cpp outlived the server"
        time.sleep(0.1)
