"""The real app on a real socket, and versions on the tiny model, for tests that drive the real client."""

from __future__ import annotations

import contextlib
import json
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
from fastapi import FastAPI
from openai import OpenAI

from tunery.api.app import create_app
from tunery.api.config import ServerSettings
from tunery.api.health import HealthWatch
from tunery.api.server import bind, engine_opener, first_key, hosted_base, http_server
from tunery.core.ids import sha256_file
from tunery.core.registry import ModelVersion
from tunery.core.training import Adapter, BaseModelInfo
from tunery.model.bases import describe_base
from tunery.pipeline.gateway.bases import BasePool, OpenBase
from tunery.store.workspace import Workspace

BASE = "tiny-llama"


class Answered(NamedTuple):
    """An answer as it came over the wire."""

    status: int
    headers: Mapping[str, str]
    """Names in small letters."""
    text: str

    def json(self) -> Any:
        """Return the body as JSON."""
        return json.loads(self.text)


class Live(NamedTuple):
    """A running server."""

    url: str
    """Without ``/v1``."""
    secret: str
    workspace: Workspace
    bases: BasePool
    opened: list[OpenAI]
    """Clients to close in the end."""
    watch: HealthWatch
    app: FastAPI

    def client(self, *, retries: int = 0, key: str | None = None) -> OpenAI:
        """Return the unmodified client."""
        client = OpenAI(
            base_url=f"{self.url}/v1", api_key=key or self.secret, max_retries=retries, timeout=60
        )
        self.opened.append(client)
        return client

    def call(self, method: str, path: str, body: object = None, **headers: str) -> Answered:
        """Send one request over a connection of its own, with the key; bytes go as they are."""
        sent = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        with contextlib.closing(HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            given = {"Authorization": f"Bearer {self.secret}", "Content-Type": "application/json", **headers}
            connection.request(method, path, sent, given)
            answer = connection.getresponse()
            names = {name.lower(): value for name, value in answer.getheaders()}
            return Answered(answer.status, names, answer.read().decode())

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self.url.rpartition(":")[2])

    def http(self) -> httpx2.Client:
        """Return a plain client that sends the key."""
        return httpx2.Client(
            base_url=self.url, headers={"Authorization": f"Bearer {self.secret}"}, timeout=60
        )


@contextmanager
def live(
    workspace: Workspace,
    base: Path,
    *,
    settings: ServerSettings | None = None,
    open_base: OpenBase | None = None,
) -> Iterator[Live]:
    """Serve a workspace on a free loopback port until the block ends."""
    settings = settings or ServerSettings(port=0, run_jobs=False, base=str(base))
    info = hosted_base(settings.engine) or describe_base(base, name=BASE)
    bases = BasePool(
        info,
        open_base or engine_opener(settings.engine),
        max_adapters=settings.max_adapters,
        breaker=settings.traffic.breaker,
    )
    app = create_app(workspace, bases, settings)
    secret = first_key(workspace, settings) or workspace.keys.create("test").secret
    with bind(settings) as listening:
        server = http_server(app, settings, log_level="critical")
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        deadline = time.monotonic() + 20
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            assert time.monotonic() < deadline, "the server did not start in time"
            time.sleep(0.01)
        opened: list[OpenAI] = []
        try:
            yield Live(
                f"http://127.0.0.1:{listening.getsockname()[1]}",
                secret,
                workspace,
                bases,
                opened,
                app.state.services.watch,
                app,
            )
        finally:
            for client in opened:
                client.close()
            server.should_exit = True
            thread.join(timeout=30)
            bases.close()
            assert not thread.is_alive(), "the server did not stop"


def register(
    workspace: Workspace,
    base: Path,
    adapter: Path,
    name: str,
    *,
    labels: tuple[str, ...] | None = None,
    system_prompt: str | None = None,
) -> ModelVersion:
    """Put a PEFT folder into a workspace as the next version of ``name``."""
    info: BaseModelInfo = describe_base(base, name=BASE)
    weights = sha256_file(adapter / "adapter_model.safetensors")
    adapter_id = f"adapter-{weights[:16]}"
    if workspace.artifacts.find("adapters", adapter_id) is None:
        with workspace.artifacts.create("adapters", adapter_id, {}) as folder:
            shutil.copytree(adapter, folder, dirs_exist_ok=True)
    now = workspace.clock.now()
    workspace.adapters.add(
        Adapter(
            id=adapter_id,
            base=info,
            dataset_version="ds-0",
            config={},
            sha256=weights,
            chat_template_sha256="0",
            system_prompt=system_prompt,
            trainable_parameters=1,
            steps=1,
            best_step=1,
            trained_tokens=1,
            seconds=1.0,
            history=(),
            created_at=now,
        )
    )
    return workspace.models.register(
        ModelVersion(
            name=name,
            version=1,
            adapter_id=adapter_id,
            base=info.label,
            dataset_version="ds-0",
            evaluation_id="eval-0",
            gate_id="gate-0",
            gate_passed=True,
            run_id="run-0",
            system_prompt=system_prompt,
            labels=labels,
            config={},
            metrics={"exact_match": 0.9},
            created_at=now,
        )
    )
