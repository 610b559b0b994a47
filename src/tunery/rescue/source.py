"""A source that is only read: what would change something there never leaves this machine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import cached_property
from typing import Any, Self, TypeVar
from urllib.parse import quote, urlsplit

import httpx2
import openai

from tunery.core.errors import ConfigError, ForbiddenError, NotFoundError, ResourceError
from tunery.core.figures import duration, one_line, size
from tunery.endpoint.connection import (
    CONNECT_S,
    TRY_AGAIN,
    Pace,
    Transient,
    certificates,
    pause_of,
    strip,
)
from tunery.endpoint.keys import named_key
from tunery.rescue.records import Scope

_LARGEST_ANSWER = 64 * 1024 * 1024
"""Of a listing; a page of 10,000 files takes about 3 MB."""
_MOST_PAGES = 10_000
_COMPLETIONS = frozenset({"/chat/completions", "/completions"})
_SILENCE_S = 60.0
"""Longest wait for the next byte of an answer [s]."""
_LONG_PAUSE_S = 2.0
_TELL_AGAIN_S = 30.0
T = TypeVar("T")


class ReadOnly(httpx2.AsyncBaseTransport):
    """Lets through GET, and POST of completions that are not stored; anything else is refused unsent.

    Whatever client stands above it cannot delete, cancel, upload or edit at the source, nor carry the key to
    another address.

    Args:
        scope: Whose source it is.
        key: Sent with every request; empty for none.
    """

    def __init__(self, scope: Scope, key: str) -> None:
        self._own = scope.account_headers
        self._key = key
        self._base = httpx2.URL(scope.base_url)
        self._inner = httpx2.AsyncHTTPTransport(
            verify=certificates(), trust_env=False, proxy=scope.proxy, limits=httpx2.Limits()
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request that only reads.

        Raises:
            ForbiddenError: It would do more, or goes to another address; nothing was sent.
        """
        if reason := self._objection(request):
            raise ForbiddenError(
                f"not sent: {request.method} {request.url.path} {reason}; a rescue only reads its source"
            )
        strip(request, self._key, self._own)
        return await self._inner.handle_async_request(request)

    def _objection(self, request: httpx2.Request) -> str | None:
        base, url = self._base, request.url
        if (url.scheme, url.host, url.port) != (base.scheme, base.host, base.port):
            return f"goes to {url.netloc.decode()}, not to {base.netloc.decode()}"
        root = base.path.rstrip("/")
        if not url.path.startswith(f"{root}/"):
            return f"is outside {root}"
        if request.method == "GET":
            return None
        if request.method != "POST" or url.path.removeprefix(root) not in _COMPLETIONS:
            return "does not only read"
        try:
            stored = json.loads(request.content).get("store")
        except (httpx2.RequestNotRead, ValueError, AttributeError):
            return "has a body that cannot be looked at"
        return "would have the answer stored there" if stored else None

    async def aclose(self) -> None:
        """Close its connections."""
        await self._inner.aclose()


class Source:
    """One account at a source, read over a few connections at once; ``async with`` closes them.

    Args:
        scope: Which account.
        concurrency: Requests in flight at most [count].
        attempts: Tries of one request that meets 408, 429, a 5xx, silence or a broken connection [count].
        backoff_s: Upper end of the random wait before the second try [s].
        tell: Is told of waits that a person would wonder about, one in half a minute.

    Raises:
        ConfigError: There is no usable key.
    """

    def __init__(
        self,
        scope: Scope,
        *,
        concurrency: int = 8,
        attempts: int = 6,
        backoff_s: float = 0.5,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.scope = scope
        self.host = urlsplit(scope.base_url).netloc
        self._key = named_key(scope.api_key_env, scope.api_key_file, self.host)
        self._tell, self._told_at = tell, -_TELL_AGAIN_S
        self._slots = asyncio.Semaphore(concurrency)
        hint = "type the same command again after that time; what was read is kept"
        self._pace = Pace(attempts, backoff_s, 120.0, hint=hint)
        self.http = httpx2.AsyncClient(
            transport=ReadOnly(scope, self._key),
            # A redirect would carry the key to an address that nobody wrote down, as would a proxy.
            follow_redirects=False,
            trust_env=False,
            timeout=httpx2.Timeout(_SILENCE_S, connect=CONNECT_S, pool=None),
        )

    @cached_property
    def client(self) -> openai.AsyncOpenAI:
        """OpenAI's own client over the same transport, which tries nothing again by itself."""
        return openai.AsyncOpenAI(
            api_key="unused", base_url=self.scope.base_url, max_retries=0, http_client=self.http
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.aclose()

    async def get(self, path: str, **params: str | int) -> Any:
        """Return the JSON at a path such as ``files/file-1``.

        Raises:
            NotFoundError: It is not there.
            ConfigError: The source refuses the request: a bad key, a permission that is missing.
            ResourceError: No attempt brought an answer, or what came is no JSON.
        """

        async def once() -> Any:
            async with self.sent(path, params, {}) as response:
                return await self._json(response, path)

        return await self.tried(once)

    async def pages(self, path: str, limit: int) -> AsyncIterator[Any]:
        """Yield the items of all pages of a listing, whatever each is; raises as :meth:`get`.

        Args:
            path: Of the listing.
            limit: Items a page; where the source refuses it, as many as it likes to give.
        """
        params: dict[str, str | int] = {"limit": limit}
        cursors: set[str] = set()
        while True:
            try:
                page = await self.get(path, **params)
            except ConfigError as error:
                if error.param != "request" or "limit" not in params:
                    raise
                del params["limit"]
                continue
            items = page.get("data") if isinstance(page, Mapping) else None
            if not isinstance(items, list):
                raise ResourceError(f"{self.host} answered GET {path} with what is no list")
            for item in items:
                yield item
            ids = [i["id"] for i in items if isinstance(i, Mapping) and isinstance(i.get("id"), str)]
            after = ids[-1] if ids else page.get("last_id")
            if not page.get("has_more") or not items or not isinstance(after, str):
                return
            if after in cursors or len(cursors) >= _MOST_PAGES:
                raise ResourceError(f"{self.host} never comes to an end of GET {path}")
            cursors.add(after)
            params["after"] = after

    @asynccontextmanager
    async def sent(
        self, path: str, params: Mapping[str, str | int], headers: Mapping[str, str]
    ) -> AsyncIterator[httpx2.Response]:
        """Send one GET once; only an answer of 200 or 206 comes through.

        Raises:
            Transient: Another attempt may bring an answer.
            NotFoundError: Status 404 or 410.
            ConfigError: Any other refusal.
        """
        url = f"{self.scope.base_url.rstrip('/')}/{quote(path)}"
        async with self._slots:
            while (left := self._pace.left()) > 0:
                await asyncio.sleep(left)
            try:
                async with self.http.stream("GET", url, params=dict(params), headers=headers) as response:
                    if response.status_code not in (200, 206):
                        await self._refuse(response, path)
                    yield response
            except httpx2.HTTPError as error:
                what = f"GET {path} at {self.host}: {type(error).__name__} {self.safe(str(error))}".rstrip()
                raise Transient(what, maybe_billed=False) from None

    async def tried(self, once: Callable[[], Awaitable[T]]) -> T:
        """Return what the first attempt brings that does not raise :class:`Transient`.

        Raises:
            ResourceError: The last one failed too.
        """
        tries = 0
        while True:
            try:
                return await once()
            except Transient as failure:
                tries += 1
                try:
                    wait = self._pace.after(failure, tries)
                except Transient:
                    raise ResourceError(
                        f"{failure.reason} ({tries} attempts)",
                        hint="type the same command again later; what was read is kept",
                    ) from None
                await self._wait(failure, tries, wait)

    async def _wait(self, failure: Transient, tries: int, wait_s: float) -> None:
        """Wait, and say why where that could be taken for a hang."""
        now, pause_s = asyncio.get_running_loop().time(), max(wait_s, self._pace.left())
        if (tries > 1 or pause_s > _LONG_PAUSE_S) and now - self._told_at >= _TELL_AGAIN_S:
            self._told_at = now
            self._tell(f"{failure.reason}; trying again in {duration(pause_s)}")
        await asyncio.sleep(wait_s)

    async def _json(self, response: httpx2.Response, path: str) -> Any:
        parts, received = [], 0
        async for part in response.aiter_bytes():
            received += len(part)
            if received > _LARGEST_ANSWER:
                raise ResourceError(f"{self.host} answered GET {path} with over {size(_LARGEST_ANSWER)}")
            parts.append(part)
        raw = b"".join(parts)
        try:
            value = json.loads(raw)
            if b"\\ud" in raw.lower():  # half a surrogate pair, which no file and no terminal can hold
                value = json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
        except (ValueError, RecursionError):
            raise ResourceError(f"{self.host} answered GET {path} with what is no JSON") from None
        return value

    async def _refuse(self, response: httpx2.Response, path: str) -> None:
        status = response.status_code
        message = self._message(await _beginning(response))
        reason = f"{self.host} answered {status} to GET {path}" + (f": {message}" if message else "")
        if status in TRY_AGAIN or status >= 500:
            raise Transient(reason, wait_s=pause_of(response.headers), maybe_billed=False)
        if status in (404, 410):
            raise NotFoundError(reason, hint="check that base-url ends with its version, as in …/v1")
        if status == 401:
            place = self.scope.api_key_env or self.scope.api_key_file
            raise ConfigError(
                f"{reason}; the key of scope {self.scope.name} is refused",
                hint=f"check the key in {place}" if place else "name one: --scope key-env=VARIABLE",
                param="api_key",
            )
        if status == 403:
            hint = "give the key the permission to read it, or use another key"
            raise ConfigError(f"{reason}; the key may not read it", hint=hint, param="permission")
        if 300 <= status < 400:
            hint = "set base-url to the address itself"
            raise ConfigError(f"{reason}, a redirect, which is not followed", hint=hint, param="base_url")
        raise ConfigError(reason, param="request")

    def _message(self, raw: bytes) -> str:
        try:
            body = json.loads(raw)
            error = body.get("error", body)
            text = error.get("message") if isinstance(error, Mapping) else error
        except (ValueError, AttributeError, RecursionError):
            text = raw.decode("utf-8", "replace")
        return self.safe(one_line(str(text or ""), 300))

    def safe(self, text: str) -> str:
        """Return text from outside with the key taken out, should the source repeat it."""
        return text.replace(self._key, "•••") if self._key else text


async def _beginning(response: httpx2.Response) -> bytes:
    """Return the first 64 KiB of an answer, which hold what an error has to say."""
    raw = b""
    async for part in response.aiter_bytes():
        raw += part
        if len(raw) > 64 * 1024:
            break
    return raw
