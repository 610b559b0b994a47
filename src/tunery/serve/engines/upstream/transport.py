"""Requests to one upstream, in whichever event loop asks: the server's own, else one in a thread.

A gateway answers in its event loop and the upstream is asked in the same one, so that a request changes
threads nowhere. aiohttp and not the client that teachers and judges use: of a request that only passes
through, that one took most of the processor's time (`docs/decisions/0062`).
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, NoReturn, TypeVar

import aiohttp

from tunery.core.errors import (
    ConfigError,
    QuotaError,
    ResourceError,
    TuneryError,
    UpstreamModelNotFoundError,
    UpstreamRefusedError,
    UpstreamRejectedError,
    UpstreamThrottledError,
)
from tunery.endpoint.connection import TRY_AGAIN, pause_of
from tunery.endpoint.keys import key_from_file
from tunery.serve.engines.upstream.server import Server
from tunery.serve.engines.upstream.settings import ServerEngineSettings

T = TypeVar("T")
_LOG = logging.getLogger(__name__)
_MAX_EVENT = 8 * 2**20
"""Size of one piece of an answer at most [bytes]."""
_MAX_WAIT_S = 2.0
"""Pause before a further attempt at most [s]."""
_LOOK_S = 0.1
_MODEL = re.compile(r"\b(model|deployment|adapter)", re.IGNORECASE)
"""What an endpoint names that has no such model; one without such a route does not."""
_CLOSE_S = 5.0
"""How long an end waits for connections to close [s]."""
_LONGEST_ERROR = 300
_LONGEST_WORD = 100


class UnreachableError(ResourceError):
    """No connection came about, or it ended without an answer."""


class Transport:
    """Connections to one address, kept open between requests.

    Args:
        settings: How long to wait for it.
        server: Where it is.
        problem: Why it does not answer now, where that is known; requests wait until there is none.
        own: Runs what is not asked for in an event loop; ended by whoever made it.
    """

    def __init__(
        self,
        settings: ServerEngineSettings,
        server: Server,
        problem: Callable[[], str | None],
        own: OwnLoop,
    ) -> None:
        self._settings = settings
        self._server = server
        self._problem = problem
        self._sessions: dict[asyncio.AbstractEventLoop, aiohttp.ClientSession] = {}
        self._own = own
        self._closed = False
        self._lock = threading.Lock()
        self._key = server.key

    def loop(self) -> asyncio.AbstractEventLoop:
        """Return the event loop that runs in this thread, else the one kept in a thread of its own."""
        with suppress(RuntimeError):
            return asyncio.get_running_loop()
        return self._own.loop()

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end from a thread that may block."""
        return asyncio.run_coroutine_threadsafe(work, self._own.loop()).result()

    async def get(self, path: str) -> Any:
        """Return what a path answers, JSON."""
        return await self._whole("GET", path, None)

    async def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Return what a path answers to a body; None where that is no JSON."""
        return await self._whole("POST", path, body)

    async def stream(
        self, path: str, body: Mapping[str, Any], attempts: int | None = None
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the pieces of a streamed answer; tries again while not one byte has come.

        Args:
            attempts: Tries in place of those that the settings allow.

        Raises:
            ConfigError: The upstream refuses, in its own words.
            ResourceError: Every attempt failed, or the stream broke off.
        """
        attempts = attempts or self._settings.attempts
        for attempt in range(1, attempts + 1):
            begun, pause = False, 0.0
            await self._up()
            try:
                async with self._sent("POST", path, body) as answer:
                    if answer.status != 200:
                        await self._refuse(answer)
                    async for data in _events(answer.content):
                        piece = self._piece(
                            data
                        )  # vLLM reports what breaks before the first token in the stream
                        begun = True
                        yield piece
                return
            except (aiohttp.ClientError, TimeoutError) as error:
                if begun or attempt == attempts:
                    raise self._unreachable(error) from None
            except ResourceError as error:
                pause = error.retry_after_s if isinstance(error, UpstreamThrottledError) else 0.0
                if begun or attempt == attempts or pause > _MAX_WAIT_S:
                    raise
                if isinstance(error, UpstreamRefusedError):
                    raise
            await asyncio.sleep(max(pause, min(_MAX_WAIT_S, 0.1 * 2**attempt)))

    async def _up(self) -> None:
        """Wait while the server is being started again, as long as for a first token.

        Raises:
            ResourceError: It is still away.
        """
        until = time.monotonic() + self._settings.first_token_s
        while problem := self._problem():
            if time.monotonic() > until:
                raise ResourceError(problem, hint="try again shortly")
            await asyncio.sleep(_LOOK_S)

    async def leave(self) -> None:
        """Close the connections of the event loop that runs this, which is about to end."""
        session = self._sessions.pop(asyncio.get_running_loop(), None)
        if session is not None:
            await session.close()

    def close(self) -> None:
        """Close every connection, each in the event loop it belongs to."""
        with self._lock:
            self._closed = True
            sessions, self._sessions = dict(self._sessions), {}
        for loop, session in sessions.items():
            if loop.is_running():
                closing = asyncio.run_coroutine_threadsafe(session.close(), loop)
                if self._own.is_it(loop):
                    closing.result(_CLOSE_S)
            else:  # nothing is left to wait for; run to its end without a loop, or aiohttp warns of leaks
                with suppress(StopIteration):
                    session.close().send(None)

    def _session(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        session = self._sessions.get(loop)
        if session is None:
            with self._lock:
                if self._closed:  # else nobody would close this one
                    raise ResourceError("the engine is closed")
                session = self._sessions[loop] = self._new_session()
        return session

    def _new_session(self) -> aiohttp.ClientSession:
        settings = self._settings
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=settings.parallel),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=settings.connect_s, sock_read=settings.first_token_s
            ),
            headers={"Accept-Encoding": "identity", **self._server.headers},
            proxy=self._server.proxy,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    def _sent(
        self, method: str, path: str, body: Mapping[str, Any] | None
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """Send one request, with the key as it is now.

        Raises:
            UpstreamRefusedError: There is none any more.
        """
        if self._server.key_file is not None:
            try:
                self._key = key_from_file(self._server.key_file, self._server.base_url)
            except ConfigError as error:
                _LOG.error("%s", error)
                raise UpstreamRefusedError("this server's key for the endpoint cannot be read now") from None
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else None
        url = self._server.url(path)
        return self._session().request(method, url, json=body, headers=headers, allow_redirects=False)

    async def _whole(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        """Return a whole answer; asks again where a kept connection turns out to have been closed."""
        for attempt in range(1, self._settings.attempts + 1):
            try:
                async with self._sent(method, path, body) as answer:
                    if answer.status != 200:
                        await self._refuse(answer)
                    return await answer.json() if answer.content_type == "application/json" else None
            except aiohttp.ServerDisconnectedError as error:
                if attempt == self._settings.attempts:
                    raise self._unreachable(error) from None
            except (aiohttp.ClientError, TimeoutError) as error:
                raise self._unreachable(error) from None
        raise AssertionError("there is at least one attempt")

    def _piece(self, data: bytes) -> dict[str, Any]:
        try:
            found = json.loads(data)
        except ValueError:
            raise ResourceError(f"the upstream sent what is no JSON: {data[:80]!r}") from None
        if isinstance(found, dict) and "error" in found:
            text, inner = self._without_key(data), found["error"]
            status = inner.get("code") if isinstance(inner, dict) else None
            if isinstance(status, int) and 400 <= status < 600:
                raise refusal(self._server.base_url, status, text)
            raise ResourceError(f"the upstream broke off: {_message_in(text)}")
        return found if isinstance(found, dict) else {}

    def _unreachable(self, error: Exception) -> UnreachableError:
        cause = f"{type(error).__name__}: {error}".removesuffix(": ")
        return UnreachableError(
            f"{self._server.base_url} does not answer ({cause})", hint="start it, or set engine.base_url"
        )

    async def _refuse(self, answer: aiohttp.ClientResponse) -> NoReturn:
        """Raise what a refusal means: the caller's mistake, or an upstream that cannot now."""
        text = self._without_key(await answer.content.read(64 * 2**10))
        raise refusal(self._server.base_url, answer.status, text, pause_of(answer.headers))

    def _without_key(self, raw: bytes) -> str:
        """Return text from there; should it repeat the key, that goes no further."""
        text = raw.decode("utf-8", "replace")
        return text.replace(self._key, "•••") if self._key else text


def refusal(url: str, status: int, text: str, pause_s: float | None = None) -> TuneryError:
    """Return the error that a status other than 200 means.

    Whose fault it is decides what a client gets: a key that is refused there is this server's, not its own.

    Args:
        url: Where it came from.
        status: Of HTTP.
        text: What came with it.
        pause_s: When it may be tried again, by its word [s].
    """
    message, code = _message_in(text), _word(text, "code")
    reason = f"{url} answered {status}: {message}"
    not_found = status == 404 and code != UpstreamModelNotFoundError.code and not _MODEL.search(message)
    if status in (401, 403) or code == QuotaError.code or not_found or 300 <= status < 400:
        # Their words may repeat parts of the key, so they go to the operator alone.
        _LOG.error("%s", reason)
        at_fault = "address" if not_found or status < 400 else "key, or the account behind it"
        return UpstreamRefusedError(f"{url} answered {status}: it refuses this server's {at_fault}")
    if status == 429:
        return UpstreamThrottledError(reason, retry_after_s=pause_s)
    if status in TRY_AGAIN or status >= 500:
        return ResourceError(reason, hint="try again shortly", retry_after_s=pause_s)
    if status in (404, 410):
        return UpstreamModelNotFoundError(reason, param="model")
    return UpstreamRejectedError(reason, param=_word(text, "param"), code=code)


class OwnLoop:
    """An event loop in a thread of its own, which begins with the first use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun: _LoopInThread | None = None
        self._ended = False

    def loop(self) -> asyncio.AbstractEventLoop:
        """Return it.

        Raises:
            ResourceError: It was ended.
        """
        with self._lock:
            if self._ended:
                raise ResourceError("the engine is closed")
            if self._begun is None:
                self._begun = _LoopInThread()
            return self._begun.loop

    def is_it(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Return whether a loop is this one."""
        return self._begun is not None and self._begun.loop is loop

    def end(self) -> None:
        """End it, and what runs in it."""
        with self._lock:
            begun, self._begun, self._ended = self._begun, None, True
        if begun is not None:
            begun.end()


class _LoopInThread:
    """An event loop that runs until it is ended."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="upstream", daemon=True)
        self._thread.start()

    def end(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        try:
            self.loop.run_forever()
            if left := asyncio.all_tasks(self.loop):
                for task in left:
                    task.cancel()
                self.loop.run_until_complete(asyncio.wait(left))
        finally:
            self.loop.close()


async def _events(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Yield the data of server-sent events as they come, up to the one that says it is done."""
    held = b""
    async for part in content.iter_any():
        *lines, held = (held + part).split(b"\n")
        for line in lines:
            if line.startswith(b"data:") and (data := line[5:].strip()):
                if data == b"[DONE]":
                    return
                yield data
        if len(held) > _MAX_EVENT:
            raise ResourceError(f"the upstream sent a piece of over {_MAX_EVENT:,} bytes")
    if held.startswith(b"data:") and (data := held[5:].strip()) != b"[DONE]":
        yield data


def _word(text: str, name: str) -> str | None:
    """Return a short field of OpenAI's error object, None where it has none."""
    with suppress(ValueError, AttributeError):
        value = json.loads(text).get("error", {}).get(name)
        return value if isinstance(value, str) and 0 < len(value) <= _LONGEST_WORD else None
    return None


def _message_in(text: str) -> str:
    with suppress(ValueError):
        found = json.loads(text)
        inner = found.get("error", found) if isinstance(found, dict) else found
        text = str(inner.get("message", inner) if isinstance(inner, dict) else inner)
    return " ".join(text.split())[:_LONGEST_ERROR]
