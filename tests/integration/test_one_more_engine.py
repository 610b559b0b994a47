"""One more engine is one more file: named in a recipe it judges, named in the server's settings it serves."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.integration.live_api import BASE, live, register
from tests.integration.test_cli_loop import RECIPE, call, write_rows
from tunery.api.config import ServerSettings
from tunery.core.config import parse_settings
from tunery.core.errors import ConfigError
from tunery.serve import engines
from tunery.store.workspace import Workspace

PARROT = '''
"""Answers every prompt with one text."""

from concurrent.futures import Future
from typing import Literal

from tunery.core.engine import Generation, Health, Score, TokenEvent
from tunery.core.errors import NotFoundError
from tunery.model.tokenizer import load_tokenizer
from tunery.serve.engines import EngineSettings


class ParrotSettings(EngineSettings):
    """A parrot."""

    kind: Literal["parrot"] = "parrot"
    """This engine."""
    answer: str
    """Its one text."""
    illness: str | None = None
    """Why it cannot answer."""


SETTINGS = ParrotSettings


def open(base, settings):
    return Parrot(load_tokenizer(base), settings)


class Parrot:
    context_window = 1000

    def __init__(self, tokenizer, settings):
        self.ids = tokenizer.encode(settings.answer)
        self.settings = settings
        self.loaded = {}

    def healthy(self):
        return Health(self.settings.illness)

    def load_adapter(self, name, path):
        self.loaded[name] = path

    def unload_adapter(self, name):
        self.loaded.pop(name, None)

    def adapters(self):
        return tuple(sorted(self.loaded))

    def submit(self, request, on_token=None):
        if request.adapter is not None and request.adapter not in self.loaded:
            raise NotFoundError.of("adapter", request.adapter, self.loaded)
        if on_token:
            on_token(TokenEvent(self.ids[0], self.settings.answer, None, ()))
        text, prompt_tokens, future = self.settings.answer, len(request.prompt), Future()
        future.set_result(Generation(text, self.ids, "stop", prompt_tokens, 0, ttft_ms=1, latency_ms=2))
        return future

    def generate(self, requests):
        return [self.submit(request).result() for request in requests]

    def score(self, rows, adapter=None):
        return [Score(-1.0 * len(completion), len(completion)) for _, completion in rows]

    def close(self):
        self.loaded.clear()
'''


@pytest.fixture
def parrot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put one more file among the engines, in a folder of its own."""
    folder = tmp_path / "more_engines"
    folder.mkdir()
    (folder / "parrot.py").write_text(PARROT, encoding="utf-8")
    monkeypatch.setattr(engines, "__path__", [*engines.__path__, str(folder)])
    importlib.invalidate_caches()
    yield
    if sys.modules.pop("tunery.serve.engines.parrot", None):
        del engines.parrot  # type: ignore[attr-defined]  # set by the import system


@pytest.mark.usefixtures("parrot")
def test_a_recipe_may_name_it_as_the_engine_that_judges(tmp_path: Path, tiny_model: Path) -> None:
    write_rows(tmp_path / "rows.csv", 20)
    recipe, home = tmp_path / "tiny.yaml", tmp_path / "home"
    recipe.write_text(
        RECIPE.format(base=tiny_model).replace(
            "evaluate: {", "evaluate: {engine: {kind: parrot, answer: card arrival}, "
        ),
        encoding="utf-8",
    )
    done = call(home, "run", recipe, "--json", "train.epochs=1")
    assert done.code == 0, done.err
    judged = done.json
    asked = [subject for name, subject in judged["baselines"].items() if name != "tfidf"]  # asks no engine
    for subject in (judged["tuned"], *asked):
        assert subject["value"] == pytest.approx(1 / 3)  # three classes, split evenly
    # Another answer is another evaluation, and this one the gate refuses.
    refused = call(
        home, "run", recipe, "--json", "train.epochs=1",
        "evaluate.engine.answer=no class", "gate.rules[0].at_least=0.3",
    )  # fmt: skip
    assert refused.code == 5, refused.err
    assert refused.json["tuned"]["value"] == 0


@pytest.mark.usefixtures("parrot")
def test_a_server_may_name_it_as_the_engine_that_answers(
    workspace: Workspace, tiny_model: Path, tiny_adapters: dict[str, Path]
) -> None:
    values = {"port": 0, "run_jobs": False, "engine": {"kind": "parrot", "answer": "pieces of eight"}}
    settings = parse_settings(ServerSettings, values, where="serve")
    version = register(workspace, tiny_model, tiny_adapters["a"], "bot")
    with live(workspace, tiny_model, settings=settings) as server:
        for model in (BASE, version.ref):
            question = {"role": "user", "content": "what do you want?"}
            answer = server.client().chat.completions.create(model=model, messages=[question])  # type: ignore[list-item]
            assert answer.choices[0].message.content == "pieces of eight"
            chunks = server.client().chat.completions.create(
                model=model, messages=[question], stream=True  # type: ignore[list-item]
            )  # fmt: skip
            assert "".join(c.choices[0].delta.content or "" for c in chunks) == "pieces of eight"
        assert httpx2.get(f"{server.url}/health").json()["engine_open"] is True


@pytest.mark.usefixtures("parrot")
def test_health_is_an_error_that_says_why_an_engine_cannot_answer(
    workspace: Workspace, tiny_model: Path
) -> None:
    values = {
        "port": 0,
        "run_jobs": False,
        "engine": {"kind": "parrot", "answer": "x", "illness": "moulting"},
    }
    settings = parse_settings(ServerSettings, values, where="serve")
    with live(workspace, tiny_model, settings=settings) as server:
        assert httpx2.get(f"{server.url}/health").json()["status"] == "ok"  # not opened yet
        server.client().completions.create(model=BASE, prompt="a")
        health = httpx2.get(f"{server.url}/health")
        assert health.status_code == 503
        assert "tiny-llama: moulting" in health.json()["error"]["message"]


@pytest.mark.usefixtures("parrot")
def test_its_settings_are_checked_with_all_others() -> None:
    values = {"port": -1, "engine": {"kind": "parrot", "anser": "x"}}
    with pytest.raises(ConfigError) as caught:
        parse_settings(ServerSettings, values, where="serve")
    assert "port" in caught.value.message
    assert "engine.answer: missing" in caught.value.message
    assert "engine.anser: unknown setting; did you mean 'answer'?" in caught.value.message


def test_without_its_file_there_is_no_such_engine() -> None:
    with pytest.raises(ConfigError, match=r"engine.kind: no engine named 'parrot' \(there is: embedded"):
        parse_settings(ServerSettings, {"engine": {"kind": "parrot", "answer": "x"}}, where="serve")
