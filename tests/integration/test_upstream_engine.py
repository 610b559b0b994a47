"""An engine elsewhere: our own server as the upstream, and a double of vLLM's routes for adapters."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.integration.live_api import BASE, Live, live
from tunery.api.config import ServerSettings
from tunery.core.engine import Constraint, Engine, GenerationRequest, Sampling, TokenEvent
from tunery.core.errors import ConfigError, NotFoundError, ResourceError, UpstreamRefusedError
from tunery.model.tokenizer import load_tokenizer
from tunery.serve.engines import engine_settings, open_engine
from tunery.store.workspace import Workspace

KEY = "UPSTREAM_KEY"
ENDLESS = 7
"""Seed that the double answers until its client leaves."""


@pytest.fixture
def server(tiny_model: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Live]:
    with live(workspace, tiny_model) as running:
        monkeypatch.setenv(KEY, running.secret)
        yield running


def upstream(base: Path, url: str, **settings: Any) -> Engine:
    values = {"kind": "upstream", "base_url": f"{url}/v1", "api_key_env": KEY, "attempts": 1, **settings}
    return open_engine(base, engine_settings(values))


def prompts(base: Path) -> list[tuple[int, ...]]:
    tokenizer = load_tokenizer(str(base))
    return [tokenizer.encode(text) for text in ("the red door", "blue hat", "é ü → cup of")]


def test_it_answers_and_scores_as_the_engine_there(server: Live, tiny_model: Path) -> None:
    there = upstream(tiny_model, server.url, dialect="openai", model=BASE)
    here = open_engine(tiny_model, engine_settings({"device": "cpu", "threads": 1}))
    try:
        sampling = Sampling(max_tokens=12, logprobs=0)
        requests = [GenerationRequest(prompt, sampling=sampling) for prompt in prompts(tiny_model)]
        for ours, theirs in zip(here.generate(requests), there.generate(requests), strict=True):
            assert theirs.text == ours.text
            assert (theirs.finish_reason, theirs.prompt_tokens) == (ours.finish_reason, ours.prompt_tokens)
            assert [t.logprob for t in theirs.tokens] == pytest.approx(
                [t.logprob for t in ours.tokens], abs=1e-4
            )
        rows = [(prompt, prompt[:3]) for prompt in prompts(tiny_model)]
        for ours, theirs in zip(here.score(rows), there.score(rows), strict=True):
            assert theirs.tokens == ours.tokens
            assert theirs.logprob == pytest.approx(ours.logprob, abs=1e-4)
    finally:
        there.close()
        here.close()


def test_it_streams_holds_to_labels_and_refuses_what_it_cannot_pass_on(
    server: Live, tiny_model: Path
) -> None:
    there = upstream(tiny_model, server.url, dialect="openai", model=BASE)
    try:
        seen: list[TokenEvent] = []
        prompt = prompts(tiny_model)[0]
        request = GenerationRequest(prompt, sampling=Sampling(max_tokens=6))
        done = there.submit(request, seen.append).result(timeout=60)
        assert "".join(event.text for event in seen) == done.text
        held = GenerationRequest(
            prompt, sampling=Sampling(max_tokens=20), constraint=Constraint(("red", "blue"))
        )
        assert there.generate([held])[0].text in ("red", "blue")
        with pytest.raises(NotFoundError, match="nobody"):
            there.submit(GenerationRequest(prompt, adapter="nobody"))
        with pytest.raises(ConfigError, match="takes no adapters"):
            there.load_adapter("a", str(tiny_model))
        with pytest.raises(ConfigError, match="no room"):
            there.submit(GenerationRequest(prompt * 100_000))
        assert there.healthy()
    finally:
        there.close()
    with pytest.raises(ResourceError, match="closed"):
        there.submit(GenerationRequest(prompt))


def test_penalties_and_bias_go_along_and_vllms_words_to_vllm_alone(server: Live, tiny_model: Path) -> None:
    here = open_engine(tiny_model, engine_settings({"device": "cpu", "threads": 1}))
    there = upstream(tiny_model, server.url, dialect="openai", model=BASE)
    vllm = upstream(tiny_model, server.url, model=BASE)
    prompt = prompts(tiny_model)[0]
    usual: dict[str, Any] = {"max_tokens": 16, "frequency_penalty": 0.7, "presence_penalty": 0.4}
    both = Sampling(**usual, logit_bias=((7, 1.5), (8, -100.0)))
    more = Sampling(**usual, repetition_penalty=1.3, min_tokens=12, stop_token_ids=(9,))
    try:
        request = GenerationRequest(prompt, sampling=both)
        assert there.generate([request])[0].text == here.generate([request])[0].text
        assert vllm._body(GenerationRequest(prompt, sampling=more)) | {"prompt": []} == {  # type: ignore[attr-defined]
            **vllm._body(GenerationRequest(prompt, sampling=Sampling(max_tokens=16))),  # type: ignore[attr-defined]
            "prompt": [],
            "frequency_penalty": 0.7,
            "presence_penalty": 0.4,
            "repetition_penalty": 1.3,
            "min_tokens": 12,
            "stop_token_ids": [9],
        }
        with pytest.raises(ConfigError, match="repetition_penalty, min_tokens"):
            there.submit(GenerationRequest(prompt, sampling=more))
    finally:
        for engine in (here, there, vllm):
            engine.close()


def test_a_wrong_model_key_or_address_is_named(
    server: Live, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NotFoundError, match="other"):
        upstream(tiny_model, server.url, model="other")
    with pytest.raises(ResourceError, match="does not answer"):
        upstream(tiny_model, "http://127.0.0.1:9", connect_s=0.5)
    monkeypatch.setenv(KEY, "sk-wrong")
    with pytest.raises(UpstreamRefusedError, match="401: it refuses this server's key"):
        upstream(tiny_model, server.url)


class Double(BaseHTTPRequestHandler):
    """vLLM's routes, as far as the engine asks them."""

    calls: ClassVar[list[tuple[str, Any]]] = []
    fail: ClassVar[list[int]] = []
    left: ClassVar[threading.Event]
    """Set once a client has left in the middle of an answer."""
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        """Be silent."""

    def do_GET(self) -> None:
        self._send({"data": [{"id": "base", "max_model_len": 64}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.calls.append((self.path, body))
        if self.fail and self.fail[0] == 200:  # what breaks before the first token comes as a piece
            self.fail.pop(0)
            self._send('data: {"error": {"message": "EngineCore"}}\n\n', kind="text/event-stream")
        elif self.fail:
            self._send({"error": {"message": "not now"}}, self.fail.pop(0))
        elif self.path.endswith("/load_lora_adapter") and body["lora_name"] == "large":
            why = "Call to add_lora method failed: LoRA rank 64 is greater than max_lora_rank 16."
            self._send({"error": {"message": why}}, 500)  # as vLLM 0.32 answers
        elif self.path.endswith("lora_adapter"):
            self._send("Success", kind="text/plain")
        elif body.get("seed") == ENDLESS:
            self._trickle()
        elif body.get("stream"):
            chunk = {"choices": [{"text": body["model"], "token_ids": [5, 3], "finish_reason": "stop"}]}
            text = f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n"
            self._send(text, kind="text/event-stream")
        else:
            likely = [None, *({str(i): {"logprob": -0.5}} for i in body["prompt"][1:])]
            self._send({"choices": [{"text": "", "prompt_logprobs": likely}]})

    def _trickle(self) -> None:
        """Stream tokens until the client has left."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        chunk = {"choices": [{"text": "a", "token_ids": [5]}]}
        with contextlib.suppress(OSError):
            while True:
                self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
                self.wfile.flush()
                time.sleep(0.01)
        self.close_connection = True
        self.left.set()

    def _send(self, value: Any, status: int = 200, kind: str = "application/json") -> None:
        data = (value if isinstance(value, str) else json.dumps(value)).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv(KEY, "any")
    Double.calls, Double.fail, Double.left = [], [], threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Double)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_adapters_are_loaded_and_unloaded_at_run_time_and_never_answered_by_the_base(
    double: str, tiny_model: Path
) -> None:
    there = upstream(tiny_model, double)
    try:
        assert there.context_window == 64
        there.load_adapter("adapter-1", "/adapters/1")
        there.load_adapter("adapter-1", "/adapters/1")
        assert there.adapters() == ("adapter-1",)
        done = there.generate([GenerationRequest((5, 6), "adapter-1"), GenerationRequest((5, 6))])
        assert [one.text for one in done] == ["adapter-1", "base"]
        assert there.score([((5, 6), (7, 8))], "adapter-1")[0].logprob == -1.0
        with pytest.raises(ConfigError, match="rank 64 is greater than max_lora_rank 16"):
            there.load_adapter("large", "/adapters/2")
        there.unload_adapter("adapter-1")
        with pytest.raises(NotFoundError, match="adapter-1"):
            there.submit(GenerationRequest((5,), "adapter-1"))
        loads = [path for path, _ in Double.calls if "lora" in path]
        assert loads == ["/v1/load_lora_adapter", "/v1/load_lora_adapter", "/v1/unload_lora_adapter"]
    finally:
        there.close()


def test_an_upstream_that_is_busy_is_asked_again_and_then_named(double: str, tiny_model: Path) -> None:
    there = upstream(tiny_model, double, attempts=2)
    try:
        Double.fail = [503]
        assert there.generate([GenerationRequest((5, 6))])[0].text == "base"
        Double.fail = [200]
        assert there.generate([GenerationRequest((5, 6))])[0].text == "base"
        Double.fail = [503, 500]
        with pytest.raises(ResourceError, match="answered 500: not now"):
            there.generate([GenerationRequest((5, 6))])
        assert not there.healthy()
    finally:
        there.close()


def test_cancelling_closes_the_connection_from_a_thread_and_from_an_event_loop(
    double: str, tiny_model: Path
) -> None:
    there = upstream(tiny_model, double)
    endless = GenerationRequest((5, 6), sampling=Sampling(max_tokens=8, seed=ENDLESS))
    try:
        begun = threading.Event()
        future = there.submit(endless, lambda token: begun.set())
        assert begun.wait(10)
        assert future.cancel()
        assert Double.left.wait(10)

        async def in_a_loop() -> set[int]:
            threads: set[int] = set()
            began = asyncio.Event()

            def note(token: TokenEvent) -> None:
                threads.add(threading.get_ident())
                began.set()

            future = there.submit(endless, note)
            await asyncio.wait_for(began.wait(), 10)
            future.cancel()
            await asyncio.sleep(0.1)
            return threads

        Double.left.clear()
        assert asyncio.run(in_a_loop()) == {threading.get_ident()}  # no thread in between
        assert Double.left.wait(10)
        assert there.generate([GenerationRequest((5, 6))])[0].text == "base"
    finally:
        there.close()


def test_a_server_in_front_of_a_server_answers_as_the_one_behind(
    server: Live, tiny_model: Path, tmp_path: Path
) -> None:
    engine = engine_settings(
        {"kind": "upstream", "base_url": f"{server.url}/v1", "api_key_env": KEY, "dialect": "openai"}
    )
    settings = ServerSettings(port=0, run_jobs=False, base=str(tiny_model), engine=engine)
    messages: Any = [{"role": "user", "content": "the red door"}]
    with (
        contextlib.closing(Workspace.open(tmp_path / "front")) as front_home,
        live(front_home, tiny_model, settings=settings) as front,
    ):
        asked = {"model": BASE, "messages": messages, "max_tokens": 12, "temperature": 0}
        behind = server.client().chat.completions.create(**asked)
        before = front.client().chat.completions.create(**asked)
        assert before.choices[0].message.content == behind.choices[0].message.content
        streamed = front.client().chat.completions.create(**asked, stream=True)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in streamed if chunk.choices)
        assert text == behind.choices[0].message.content
