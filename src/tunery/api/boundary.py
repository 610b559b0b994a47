"""What every request passes first: an id, a size limit, a key, and a last resort for exceptions."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tunery.api.config import ServerSettings
from tunery.api.errors import BodyTooLarge, Problem, problem_of
from tunery.core.job import ApiKey
from tunery.store.workspace import Workspace

_LOG = logging.getLogger(__name__)
_LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "[::1]", "::1"})
_MULTIPART_OVERHEAD = 64 * 2**10
"""Boundaries and form fields beside an uploaded file [bytes]."""


class Boundary:
    """The outermost middleware, plain ASGI so that streams pass through untouched.

    Puts ``request_id`` and ``key`` (an :class:`~tunery.core.job.ApiKey`, None with auth off) into the scope.
    A key is checked before one byte of the body is read.
    """

    def __init__(self, app: ASGIApp, workspace: Workspace, settings: ServerSettings) -> None:
        self._app = app
        self._workspace = workspace
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = f"req_{uuid.uuid4().hex}"
        scope["request_id"] = request_id
        started = False

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        try:
            refusal = await self._refusal(scope)
            if refusal is not None:
                await refusal.response()(scope, receive, send_with_id)
                return
            await self._app(scope, self._bounded(scope, receive), send_with_id)
        except Exception as error:
            # Not logged: headers, body. A traceback shows code, not what the client sent.
            _LOG.exception("%s: %s %s failed", request_id, scope["method"], scope["path"])
            if started:
                raise
            await problem_of(error, request_id).response()(scope, receive, send_with_id)

    def _limit(self, scope: Scope) -> int:
        if scope["path"].rstrip("/") == "/v1/files":
            return self._settings.max_upload_bytes + _MULTIPART_OVERHEAD
        return self._settings.max_body_bytes

    async def _refusal(self, scope: Scope) -> Problem | None:
        headers = Headers(scope=scope)
        problem = await self._unwelcome(scope, headers)
        if problem is not None:
            return problem
        limit = self._limit(scope)
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > limit:
            return problem_of(BodyTooLarge(limit), scope["request_id"])
        return None

    async def _unwelcome(self, scope: Scope, headers: Headers) -> Problem | None:
        scope["key"] = None
        if not self._settings.auth:
            return self._foreign_page(headers)
        if scope["path"] == "/health" or (scope["path"] == "/metrics" and self._settings.is_loopback):
            return None
        kind, _, secret = headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not secret.strip():
            return _no_key("no API key: send it as 'Authorization: Bearer tk-…'")
        key: ApiKey | None = await run_in_threadpool(self._workspace.keys.verify, secret.strip())
        if key is None:
            return _no_key("this API key is unknown or was revoked; tunery keys create makes a new one")
        scope["key"] = key
        return None

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

    def _bounded(self, scope: Scope, receive: Receive) -> Callable[[], Awaitable[Message]]:
        limit, read = self._limit(scope), 0

        async def receive_bounded() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > limit:
                raise BodyTooLarge(limit)
            return message

        return receive_bounded


def _no_key(message: str) -> Problem:
    return Problem(
        401,
        message,
        "authentication_error",
        None,
        "invalid_api_key",
        {"WWW-Authenticate": "Bearer"},
    )
