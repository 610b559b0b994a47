"""The client of a source: whatever stands above its transport, nothing but reading leaves this machine."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import httpx2
import openai
import pytest

from tests.doubles.openai_source import KEY, OpenAISource, chat_row, serving
from tunery.core.errors import ConfigError, ForbiddenError, NotFoundError, ResourceError
from tunery.rescue.records import Scope
from tunery.rescue.source import Source

MODEL = "ft:gpt-4o-mini-2024-07-18:acme::Ab1"


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAISource]:
    monkeypatch.setenv("SOURCE_KEY", KEY)
    found = OpenAISource()
    found.add_fine_tune("Ab1", [chat_row("hello", "world")])
    with serving(found):
        yield found


def using(url: str, work: Callable[[Source], Awaitable[Any]], **scope: str) -> Any:
    """Do something with an open source."""

    async def run() -> Any:
        async with Source(Scope(base_url=url, api_key_env="SOURCE_KEY", **scope), backoff_s=0.01) as source:
            return await work(source)

    return asyncio.run(run())


WRITES: dict[str, Callable[[openai.AsyncOpenAI], Awaitable[Any]]] = {
    "delete a file": lambda c: c.files.delete("file-trainAb1"),
    "upload a file": lambda c: c.files.create(file=b"{}", purpose="fine-tune"),
    "start an upload": lambda c: c.uploads.create(bytes=1, filename="x", mime_type="x", purpose="fine-tune"),
    "start a job": lambda c: c.fine_tuning.jobs.create(model="gpt-4o", training_file="file-trainAb1"),
    "cancel a job": lambda c: c.fine_tuning.jobs.cancel("ftjob-Ab1"),
    "pause a job": lambda c: c.fine_tuning.jobs.pause("ftjob-Ab1"),
    "delete a model": lambda c: c.models.delete(MODEL),
    "edit a stored completion": lambda c: c.chat.completions.update("chatcmpl-1", metadata={"a": "b"}),
    "delete a stored completion": lambda c: c.chat.completions.delete("chatcmpl-1"),
    "start a batch": lambda c: c.batches.create(
        completion_window="24h", endpoint="/v1/chat/completions", input_file_id="file-1"
    ),
    "have a response stored": lambda c: c.responses.create(model=MODEL, input="hello"),
    "have a completion stored": lambda c: c.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "hello"}], store=True
    ),
    "put": lambda c: c.put("/files/file-1", cast_to=object),
    "patch": lambda c: c.patch("/files/file-1", cast_to=object),
    "read beside the version": lambda c: c.get("/../admin", cast_to=object),
    "read from elsewhere": lambda c: c.get("http://127.0.0.1:9/v1/models", cast_to=object),
}


@pytest.mark.parametrize("what", WRITES)
def test_real_client_cannot_change_anything(what: str, account: OpenAISource) -> None:
    with pytest.raises(ForbiddenError, match="not sent"):
        using(account.url, lambda source: WRITES[what](source.client))
    assert account.requests == []


def test_real_client_reads_and_completes(account: OpenAISource) -> None:
    async def work(source: Source) -> tuple[list[str], str | None]:
        jobs = [job.id async for job in source.client.fine_tuning.jobs.list()]
        answer = await source.client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "hello"}], store=False
        )
        return jobs, answer.choices[0].message.content

    assert using(account.url, work) == (["ftjob-Ab1"], "echo hello")
    assert account.writes == set()
    names = {name for headers in account.headers for name in headers}
    assert not {name for name in names if name.startswith(("x-stainless", "openai-"))}


class _Elsewhere(BaseHTTPRequestHandler):
    """Redirects everything to an address that must never see the key."""

    to = ""

    def do_GET(self) -> None:
        self.send_response(302)
        self.send_header("Location", self.to)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Write nothing."""


def test_redirect_is_not_followed_with_the_key(account: OpenAISource) -> None:
    _Elsewhere.to = f"{account.url}/models"
    with HTTPServer(("127.0.0.1", 0), _Elsewhere) as server:
        Thread(target=server.handle_request, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/v1"
        with pytest.raises(ConfigError, match="redirect"):
            using(url, lambda source: source.get("models"))
    assert account.requests == []


def test_proxies_of_the_environment_are_not_used_but_the_scopes_is(
    account: OpenAISource, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert using(account.url, lambda source: source.get("models"))["object"] == "list"

    async def without_more(source: Source) -> Any:
        source._pace._attempts = 1
        return await source.get("models")

    with pytest.raises(ResourceError, match="ConnectError"):
        using(account.url, without_more, proxy="http://127.0.0.1:9")


def test_pause_that_is_asked_for_holds_all_requests_back(account: OpenAISource) -> None:
    account.trouble.fail = {"models": [429]}
    account.trouble.retry_after_ms = 300

    async def work(source: Source) -> float:
        loop = asyncio.get_running_loop()
        started = loop.time()
        first = asyncio.create_task(source.get("models"))
        while not account.requests:
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.05)
        await source.get("files")
        await first
        return loop.time() - started

    assert using(account.url, work) >= 0.3


def test_pause_that_is_too_long_ends_the_call_and_says_how_long(account: OpenAISource) -> None:
    account.trouble.fail = {"models": [429]}
    account.trouble.retry_after = format_datetime(datetime.now(UTC) + timedelta(hours=1))
    with pytest.raises(ResourceError, match=r"asks to wait 3,\d{3} s"):
        using(account.url, lambda source: source.get("models"))


def test_fault_that_stays_ends_after_the_attempts(account: OpenAISource) -> None:
    account.trouble.fail = {"models": [500] * 99}
    with pytest.raises(ResourceError, match="6 attempts"):
        using(account.url, lambda source: source.get("models"))
    assert len(account.requests) == 6
    with pytest.raises(NotFoundError):
        using(account.url, lambda source: source.get("files/file-none"))


def test_key_that_no_header_can_carry_is_refused_before_anything_is_sent(
    account: OpenAISource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_KEY", "sk-\nx: y")
    with pytest.raises(ConfigError, match="no HTTP header"):
        using(account.url, lambda source: source.get("models"))


def test_connections_are_few(account: OpenAISource) -> None:
    account.trouble.latency_s = 0.02
    most = 0

    async def work(source: Source) -> None:
        nonlocal most
        running = 0
        inner = source.http.stream

        def counted(*args: Any, **kwargs: Any) -> Any:
            response = inner(*args, **kwargs)
            entered, left = response.__aenter__, response.__aexit__

            class Counting:
                async def __aenter__(self) -> httpx2.Response:
                    nonlocal running, most
                    running += 1
                    most = max(most, running)
                    found: httpx2.Response = await entered()
                    return found

                async def __aexit__(self, *raised: Any) -> Any:
                    nonlocal running
                    running -= 1
                    return await left(*raised)

            return Counting()

        source.http.stream = counted  # type: ignore[method-assign]
        await asyncio.gather(*(source.get("models") for _ in range(40)))

    using(account.url, work)
    assert most == 8
