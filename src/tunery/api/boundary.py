"""What every request passes first: an id, bounds of size and time, a key, a last resort for exceptions."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from functools import partial
from urllib.parse import urlsplit

import anyio.to_thread
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tunery.api.audit import AuditTrail
from tunery.api.config import ServerSettings
from tunery.api.drain import Drain
from tunery.api.errors import BodyRefused, BodyTooLarge, BodyTooSlow, Problem, problem_of
from tunery.api.inside import SENDER
from tunery.core.access import WITHOUT_KEY, ApiKey, caller_of
from tunery.core.errors import ResourceError
from tunery.core.faults import explained
from tunery.core.ids import sha256_text
from tunery.pipeline.jobs.parts import MAX_PART_BYTES
from tunery.store.workspace import Workspace
from tunery.traffic.limits.room import answer_headers
from tunery.traffic.recent import Recent

_LOG = logging.getLogger(__name__)
_LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "[::1]", "::1"})
_MULTIPART_OVERHEAD = 64 * 2**10
"""Boundaries and form fields beside an uploaded file [bytes]."""
_OPEN_PATHS = frozenset({"/health", "/health/live", "/openapi.json", "/version"})
"""What needs no key: it tells nothing that the source code does not."""
_ENDING = "the server is shutting down; try again"
_KEY_THREADS = 4
"""Keys looked up at the same time [count]; of their own, so that no other work makes a key wait."""


class Boundary:
    """The outermost middleware, plain ASGI so that streams pass through untouched.

    Puts into the scope: ``request_id``; ``caller``, a :class:`~tunery.core.access.Caller`, None where a path
    needs no key and none was looked at; and ``at_end``, an ``ExitStack`` that is closed when the request is
    over, however it ends.
    A key is checked before one byte of the body is read.
    """

    def __init__(
        self,
        app: ASGIApp,
        workspace: Workspace,
        settings: ServerSettings,
        trail: AuditTrail,
        drain: Drain | None = None,
    ) -> None:
        self._app = app
        self._workspace = workspace
        self._trail = trail
        self._settings = settings
        self._drain = drain or Drain(settings.grace_s)
        self._drain.at_once(self._end_receiving)
        self._looking_up = anyio.CapacityLimiter(_KEY_THREADS)
        changes = workspace.database.changes
        self._keys: Recent[str, ApiKey | None] = Recent(
            "keys", settings.traffic.cache, lambda: changes["keys"]
        )
        self._drain.in_the_end(self._keys.close)
        self._receiving: set[asyncio.Timeout] = set()
        self._buffered = 0
        """Bodies held in memory [bytes]."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = f"req_{uuid.uuid4().hex}"
        scope["request_id"] = request_id
        started = False

        room: dict[str, str] = {}
        answer_headers.set(room)

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                headers.update(room)
            await send(message)
            started = True

        async def tell(problem: Problem) -> None:
            await problem.response()(scope, receive, send_with_id)

        try:
            with ExitStack() as at_end:
                scope["at_end"] = at_end
                refusal = await self._refusal(scope)
                if refusal is not None:
                    await tell(refusal)
                    return
                await self._app(scope, self._bounded(scope, receive, at_end), send_with_id)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None:
                raise
            task.uncancel()  # it was cancelled once, mostly by the server that ends, and ends here
            if not started:
                await tell(_ending(request_id))
        except ClientDisconnect:
            return  # in the middle of its body; nobody is left to be told
        except Exception as error:
            # Not logged: headers, body. A traceback shows code, not what the client sent.
            fault = explained(error)
            if fault is None:
                _LOG.exception("%s: %s %s failed", request_id, scope["method"], scope["path"])
            else:
                _LOG.error("%s: %s %s: %s", request_id, scope["method"], scope["path"], fault.message)
            if not started:
                await tell(problem_of(error, request_id))

    def _limit(self, scope: Scope) -> int:
        if _is_upload(scope):
            if scope["path"].startswith("/v1/uploads/"):
                return MAX_PART_BYTES + _MULTIPART_OVERHEAD
            return self._settings.max_upload_bytes + _MULTIPART_OVERHEAD
        return self._settings.max_body_bytes

    async def _refusal(self, scope: Scope) -> Problem | None:
        headers = Headers(scope=scope)
        problem = await self._unwelcome(scope, headers)
        if problem is not None:
            return problem
        if self._drain.draining and scope["path"] not in _OPEN_PATHS:
            return _ending(scope["request_id"])
        limit = self._limit(scope)
        length = headers.get("content-length", "")
        if length.isdecimal() and (len(length) > 20 or int(length) > limit):
            return problem_of(BodyTooLarge(limit), scope["request_id"])
        return None

    async def _unwelcome(self, scope: Scope, headers: Headers) -> Problem | None:
        scope["caller"] = scope.get(SENDER)
        if scope["caller"] is not None:
            return None
        if not self._settings.auth:
            scope["caller"] = WITHOUT_KEY
            return self._foreign_page(headers)
        if scope["path"] in _OPEN_PATHS:
            return None
        given = headers.get("authorization", "")
        if scope["path"] == "/metrics" and self._settings.is_loopback and not given:
            return None
        kind, _, secret = given.partition(" ")
        if kind.lower() != "bearer" or not secret.strip():
            return _no_key("no API key: send it as 'Authorization: Bearer tk-…'")
        key = await self._recognise(secret.strip())
        if key is None or not key.works_at(self._workspace.clock.now()):
            await self._write_down(secret.strip(), scope)
            return _no_key(
                "this API key is unknown, was revoked or has expired; tunery keys create makes a new one"
            )
        scope["caller"] = caller_of(key)
        return None

    async def _recognise(self, secret: str) -> ApiKey | None:
        """Return the key of a secret, whether it still works or not; None where it is unknown."""
        digest = sha256_text(secret)  # what is remembered must not be a secret
        if (known := self._keys.peek(digest)) is not None:
            return known
        look_up = partial(self._workspace.keys.recognise, secret)
        return await anyio.to_thread.run_sync(self._keys.get, digest, look_up, limiter=self._looking_up)

    async def _write_down(self, secret: str, scope: Scope) -> None:
        address = str((scope.get("client") or ("unknown",))[0])
        await anyio.to_thread.run_sync(
            self._trail.refused_key, secret, address, scope["request_id"], limiter=self._looking_up
        )

    def _foreign_page(self, headers: Headers) -> Problem | None:
        """Without keys, a web page in the same machine's browser is the one stranger that can knock.

        A page may post to a loopback address, and a name that it rebinds to 127.0.0.1 makes even the answer
        readable; both show in these two headers.
        """
        origin = headers.get("origin")
        host = urlsplit(f"//{headers.get('host', '')}").hostname or ""
        foreign_origin = (
            origin is not None
            and origin not in self._settings.cors_origins
            and (urlsplit(origin).hostname or "") not in _LOOPBACK_HOSTS
        )
        if foreign_origin or host not in _LOOPBACK_HOSTS:
            return Problem(
                403,
                "auth is off, so only this machine may call, by the name 127.0.0.1 or localhost",
                "permission_error",
                None,
                "foreign_origin",
            )
        return None

    def _bounded(self, scope: Scope, receive: Receive, at_end: ExitStack) -> Callable[[], Awaitable[Message]]:
        """Return ``receive`` with the body's bounds of size and time."""
        limit, read, complete = self._limit(scope), 0, False
        limits, is_upload = self._settings.connections, _is_upload(scope)
        allowed_s = limits.upload_timeout_s if is_upload else limits.body_timeout_s
        ends_at = asyncio.get_running_loop().time() + allowed_s

        async def receive_in_time() -> Message:
            now = asyncio.get_running_loop().time()
            try:
                async with asyncio.timeout_at(min(ends_at, now + limits.body_timeout_s)) as deadline:
                    self._receiving.add(deadline)
                    return await receive()
            except TimeoutError:
                if self._drain.draining:
                    raise BodyRefused(_ENDING) from None
                raise BodyTooSlow(limits.body_timeout_s if now < ends_at else allowed_s) from None
            finally:
                self._receiving.discard(deadline)

        async def receive_bounded() -> Message:
            nonlocal read, complete
            if complete:
                return await receive()
            message = await receive_in_time()
            complete = not message.get("more_body", False)
            size = len(message.get("body", b""))
            read += size
            if read > limit:
                raise BodyTooLarge(limit)
            if size and not is_upload:  # an upload goes to the disk
                if self._buffered + size > limits.max_buffered_bytes:
                    raise BodyRefused(
                        f"requests of {self._buffered:,} bytes are being read and the limit is "
                        f"{limits.max_buffered_bytes:,} (connections.max_buffered_bytes); try again shortly"
                    )
                self._buffered += size
                at_end.callback(self._forget, size)
            return message

        return receive_bounded

    def _forget(self, size: int) -> None:
        self._buffered -= size

    def _end_receiving(self) -> None:
        """Wait for no more bodies: the server is about to end."""
        now = asyncio.get_running_loop().time()
        for deadline in self._receiving:
            deadline.reschedule(now)


def _is_upload(scope: Scope) -> bool:
    path = scope["path"].rstrip("/")
    return bool(path == "/v1/files" or (path.startswith("/v1/uploads/") and path.endswith("/parts")))


def _ending(request_id: str) -> Problem:
    problem = problem_of(ResourceError(_ENDING), request_id)
    return problem._replace(headers={**problem.headers, "Connection": "close"})


def _no_key(message: str) -> Problem:
    return Problem(
        401,
        message,
        "authentication_error",
        None,
        "invalid_api_key",
        {"WWW-Authenticate": "Bearer"},
    )
