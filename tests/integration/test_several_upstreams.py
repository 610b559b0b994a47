"""Several servers of the same weights behind one engine, in processes of their own that are killed."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from openai import APIError

from tests.fixtures_cli import Tunery, home, tunery
from tests.integration import upstream_double
from tests.integration.live_api import BASE, Live, live, register
from tunery.api.config import ServerSettings
from tunery.core.engine import GenerationRequest
from tunery.core.errors import NotFoundError, ResourceError
from tunery.serve.engines import engine_settings, open_engine
from tunery.serve.engines.upstream.started import free_port
from tunery.store.workspace import Workspace
from tunery.traffic.config import TrafficSettings

__all__ = ["home", "tunery"]
OPEN_S = 0.3


class Servers:
    """Doubles by their names."""

    def __init__(self, *names: str) -> None:
        self.ports = {name: free_port() for name in names}
        self._processes: dict[str, subprocess.Popen[str]] = {}

    def start(self, name: str) -> None:
        command = [sys.executable, upstream_double.__file__, str(self.ports[name]), name]
        process = self._processes[name] = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"

    def kill(self, name: str) -> None:
        """End it with SIGKILL."""
        process = self._processes.pop(name, None)
        if process is not None:
            process.kill()
            process.communicate()

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}/v1"


@pytest.fixture
def servers() -> Iterator[Servers]:
    doubles = Servers("1", "east")
    for name in doubles.ports:
        doubles.start(name)
    yield doubles
    for name in doubles.ports:
        doubles.kill(name)


def settings_of(servers: Servers, **more: Any) -> Any:
    values = {
        "kind": "vllm",
        "base_url": servers.url("1"),
        "upstreams": [{"base_url": servers.url("east"), "name": "east"}],
        "breaker": {"open_s": OPEN_S},
        "attempts": 1,
    }
    return engine_settings({**values, **more})


@pytest.fixture
def front(servers: Servers, tiny_model: Path, workspace: Workspace) -> Iterator[Live]:
    settings = ServerSettings(
        port=0,
        run_jobs=False,
        base=str(tiny_model),
        engine=settings_of(servers),
        auth=False,
        traffic=TrafficSettings(retries=0, fallback=()),  # what is tried again is so behind the engine
    )
    with live(workspace, tiny_model, settings=settings) as running:
        yield running


def eventually(holds: Callable[[], object], within_s: float = 40.0) -> None:
    until = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < until, "it did not come to hold"
        time.sleep(0.05)


def ask(front: Live, model: str, *, stream: bool = False) -> tuple[str, str]:
    """Return an answer and which upstream the header says gave it."""
    asked: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": "the red door"}]}
    completions = front.client().chat.completions
    raw = completions.with_raw_response.create(**asked, max_tokens=4, stream=stream)
    if stream:
        text = "".join(c.choices[0].delta.content or "" for c in raw.parse() if c.choices)
    else:
        text = raw.parse().choices[0].message.content or ""
    return text, raw.headers["x-tunery-upstream"]


def circuits(front: Live) -> dict[str, str]:
    (engine,) = front.call("GET", "/health").json()["engines"]
    return {one["name"]: one["circuit"] for one in engine["upstreams"]}


def test_one_is_killed_in_mid_traffic_and_no_request_fails_and_it_comes_back(
    front: Live,
    servers: Servers,
    tiny_model: Path,
    tiny_adapters: dict[str, Path],
    workspace: Workspace,
    tunery: Tunery,
) -> None:
    version = register(workspace, tiny_model, tiny_adapters["a"], "bot")
    assert version.adapter_id is not None
    over, failures, counts = threading.Event(), [], {"1": 0, "east": 0}

    def traffic(number: int) -> None:
        round = 0
        while not over.is_set():
            round += 1
            model = ("bot", BASE)[(number + round) % 2]
            try:
                text, header = ask(front, model, stream=round % 3 == 0)
            except APIError as error:
                failures.append(str(error))
                continue
            counts[header] += 1
            served = "base" if model == BASE else version.adapter_id
            if text != f"{served} by {header}":
                failures.append(f"{model} of {header}: {text!r}")

    with ThreadPoolExecutor(6) as clients:
        running = [clients.submit(traffic, number) for number in range(6)]
        try:
            eventually(lambda: min(counts.values()) > 10)
            assert circuits(front) == {"1": "closed", "east": "closed"}
            servers.kill("1")
            eventually(lambda: circuits(front)["1"] != "closed")
            assert front.call("GET", "/health").json()["status"] == "degraded"
            before = counts["east"]
            eventually(lambda: counts["east"] > before + 20)
            metrics = front.call("GET", "/metrics").text
            assert 'tunery_upstream_circuit_open{engine="tiny-llama",upstream="1"} 1.0' in metrics
            servers.start("1")  # without any adapter
            eventually(lambda: circuits(front)["1"] == "closed")
            before = counts["1"]
            eventually(lambda: counts["1"] > before + 20)
        finally:
            over.set()
    for client in running:
        client.result()
    assert failures == []
    assert front.call("GET", "/health").json()["status"] == "ok"
    front.app.state.services.log.flush()
    kept = front.workspace.requests.heads(limit=100).items
    assert {record.upstream for record in kept} == {"1", "east"}
    shown = tunery("status", front.url)
    assert "east" in shown.out
    assert "UPSTREAM" in shown.out


def test_one_that_lost_its_adapters_between_two_requests_gets_them_again(
    servers: Servers, tiny_model: Path
) -> None:
    engine = open_engine(tiny_model, settings_of(servers))
    asked = GenerationRequest((5, 6), "adapter-1")
    try:
        engine.load_adapter("adapter-1", "/adapters/1")
        assert {engine.generate([asked])[0].upstream for _ in range(4)} == {"1", "east"}
        servers.kill("1")
        servers.start("1")
        for _ in range(4):
            assert engine.generate([asked])[0].text.startswith("adapter-1 by")
        eventually(lambda: {engine.generate([asked])[0].upstream for _ in range(4)} == {"1", "east"})
        with pytest.raises(NotFoundError):
            engine.submit(GenerationRequest((5, 6), "adapter-2"))
        engine.unload_adapter("adapter-1")
    finally:
        engine.close()


def test_both_away_is_the_error_of_one_and_either_may_be_away_at_the_start(
    servers: Servers, tiny_model: Path
) -> None:
    servers.kill("1")
    engine = open_engine(tiny_model, settings_of(servers))
    try:
        assert engine.generate([GenerationRequest((5, 6))])[0].upstream == "east"
        servers.kill("east")
        with pytest.raises(ResourceError, match="does not answer"):
            engine.generate([GenerationRequest((5, 6))])
        servers.start("1")
        engine.load_adapter("adapter-1", "/adapters/1")
        assert engine.generate([GenerationRequest((5, 6), "adapter-1")])[0].text == "adapter-1 by 1"
        servers.start("east")
        asked = GenerationRequest((5, 6), "adapter-1")
        eventually(lambda: {engine.generate([asked])[0].upstream for _ in range(4)} == {"1", "east"})
    finally:
        engine.close()
    servers.kill("1")
    servers.kill("east")
    with pytest.raises(ResourceError, match="does not answer"):
        open_engine(tiny_model, settings_of(servers))


def test_hosted_models_are_shared_out_too(servers: Servers, tmp_path: Path) -> None:
    engine = settings_of(servers, kind="hosted", model="base", upstreams=[servers.url("east")])
    settings = ServerSettings(port=0, run_jobs=False, engine=engine, auth=False)
    with (
        contextlib.closing(Workspace.open(tmp_path / "front")) as opened,
        live(opened, tmp_path, settings=settings) as front,
    ):
        assert sorted(ask(front, "base")[0] for _ in range(4)) == ["base by 1"] * 2 + ["base by east"] * 2
        servers.kill("1")
        assert {ask(front, "base") for _ in range(4)} == {("base by east", "2")}
        assert json.loads(front.call("GET", "/health").text)["status"] == "degraded"
        servers.start("1")
        eventually(lambda: {ask(front, "base")[1] for _ in range(4)} == {"1", "2"})


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"base_url": "http://a/v1", "upstreams": ["http://a/v1/"]}, "addresses"),
        ({"base_url": "http://a/v1", "upstreams": [{"base_url": "http://b/v1", "name": "1"}]}, "names"),
        ({"base_url": "http://a/v1", "upstreams": ["b"]}, "http://"),
        ({"command": ["vllm"], "upstreams": ["http://b/v1"]}, "not with a command"),
        ({"kind": "llamacpp", "upstreams": ["http://b/v1"]}, "base_url"),
    ],
)
def test_what_does_not_go_together_is_refused(values: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        engine_settings({"kind": "vllm", **values})
