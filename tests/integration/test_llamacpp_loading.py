"""llama.cpp starts a process for one adapter more: who needs that adapter waits for it, nobody else."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as Late
from pathlib import Path
from typing import Any

import pytest

from tests.integration import llama_double
from tests.integration.live_api import BASE, Live, live, register
from tunery.api.config import ServerSettings
from tunery.core.engine import Engine, GenerationRequest
from tunery.core.errors import NotFoundError
from tunery.serve.engines import engine_settings, open_engine
from tunery.store.workspace import Workspace
from tunery.traffic.config import TrafficSettings

AT_ONCE = 12
"""More requests than there are threads that start calls."""


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """The file without which no server with an adapter comes up."""
    return tmp_path / "gate"


@pytest.fixture
def settings(tmp_path: Path, gate: Path) -> Any:
    (tmp_path / "base.gguf").touch()
    words = ["-m", "{model}", "--host", "{host}", "--port", "{port}", str(gate), "{adapters}"]
    command = [sys.executable, llama_double.__file__, *words]
    return engine_settings({"kind": "llamacpp", "command": command, "gguf": str(tmp_path / "base.gguf")})


@pytest.fixture
def engine(tiny_model: Path, settings: Any) -> Iterator[Engine]:
    opened = open_engine(tiny_model, settings)
    yield opened
    opened.close()


def text_of(engine: Engine, adapter: str | None = None) -> str:
    return engine.submit(GenerationRequest((5, 6), adapter)).result(timeout=20).text


def test_the_base_and_other_adapters_answer_while_one_is_loaded(
    engine: Engine, gate: Path, tiny_adapters: dict[str, Path]
) -> None:
    gate.touch()
    engine.load_adapter("a", str(tiny_adapters["a"]))
    gate.unlink()
    prepared = engine.prepare(GenerationRequest((5, 6), "a"))  # type: ignore[attr-defined]
    with ThreadPoolExecutor(2) as threads:
        loading = threads.submit(engine.load_adapter, "b", str(tiny_adapters["b"]))
        with pytest.raises(Late):
            loading.result(timeout=0.5)
        answers = threads.submit(lambda: (text_of(engine), text_of(engine, "a"), prepared().result(20).text))
        assert answers.result(timeout=20) == ("base", "a", "a")
        with pytest.raises(NotFoundError):
            text_of(engine, "b")
        assert not loading.done()
        gate.touch()
        loading.result(timeout=20)
    assert [text_of(engine, name) for name in (None, "a", "b")] == ["base", "a", "b"]


def test_an_adapter_that_is_unloaded_meanwhile_stays_so(
    engine: Engine, gate: Path, tiny_adapters: dict[str, Path]
) -> None:
    gate.touch()
    engine.load_adapter("a", str(tiny_adapters["a"]))
    gate.unlink()
    with ThreadPoolExecutor(1) as threads:
        loading = threads.submit(engine.load_adapter, "b", str(tiny_adapters["b"]))
        time.sleep(0.3)
        engine.unload_adapter("a")
        gate.touch()
        loading.result(timeout=20)
    assert engine.adapters() == ("b",)
    with pytest.raises(NotFoundError):
        text_of(engine, "a")


@pytest.fixture
def front(tiny_model: Path, workspace: Workspace, settings: Any) -> Iterator[Live]:
    serving = ServerSettings(
        port=0, run_jobs=False, base=str(tiny_model), engine=settings, traffic=TrafficSettings(fallback=())
    )
    with live(workspace, tiny_model, settings=serving) as running:
        yield running


def test_requests_for_an_adapter_that_is_loaded_hold_no_others_up(
    front: Live, gate: Path, tiny_model: Path, tiny_adapters: dict[str, Path], workspace: Workspace
) -> None:
    for name in ("a", "b"):
        register(workspace, tiny_model, tiny_adapters[name], f"bot-{name}")

    def ask(model: str, text: str = "the red door") -> str:
        messages: Any = [{"role": "user", "content": text}]
        completions = front.client().chat.completions
        found = completions.create(model=model, messages=messages, max_tokens=4)
        return found.choices[0].message.content or ""

    gate.touch()
    assert ask("bot-a").startswith("adapter-")
    gate.unlink()
    with ThreadPoolExecutor(AT_ONCE + 1) as clients:
        waiting = [clients.submit(ask, "bot-b") for _ in range(AT_ONCE)]
        with pytest.raises(Late):
            waiting[0].result(timeout=0.5)
        try:
            for model in (BASE, "bot-a"):
                assert clients.submit(ask, model).result(timeout=20)
                assert clients.submit(ask, model, "the red door " * 40).result(timeout=20)
            assert not any(client.done() for client in waiting)
        finally:
            gate.touch()
        assert len({client.result(timeout=30) for client in waiting}) == 1
