"""Routes under ``/v1``: who may call them, how strictly their bodies are read, what is written of them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import anyio.to_thread
from fastapi import Request, Response
from fastapi.routing import APIRoute

from tunery.api.audit import AuditTrail, changed_object
from tunery.api.errors import BadValue
from tunery.api.roles import Access, access_of, require
from tunery.core.access import Caller
from tunery.core.audit import DONE
from tunery.core.errors import TuneryError
from tunery.serve.openai.strict_json import BadJson, read_strictly

_IN_THREAD_BYTES = 256 * 2**10
"""Bodies over this are read in a thread, so that they hold up nobody else [bytes]."""

_READING = anyio.CapacityLimiter(2)
"""Threads that read bodies [count]; of their own, so that none waits for a route that blocks."""
_WRITING = anyio.CapacityLimiter(4)
"""Threads that write audit records [count]."""


class StrictRequest(Request):
    """A request whose JSON is refused where it has two meanings."""

    sent: object = None
    """What the body held, once it is read."""

    async def json(self) -> Any:
        """Return what the body holds.

        Raises:
            BadValue: As :func:`~tunery.serve.openai.strict_json.read_strictly`.
        """
        body = await self.body()
        try:
            if len(body) > _IN_THREAD_BYTES:
                self.sent = await anyio.to_thread.run_sync(read_strictly, body, limiter=_READING)
            else:
                self.sent = read_strictly(body)
        except BadJson as error:
            raise BadValue(error.message, error.path) from None
        return self.sent


class JsonRoute(APIRoute):
    """A route of one project's things.

    A caller without the role that :mod:`tunery.api.roles` names is refused before its body is read. JSON with
    two meanings is refused, and so are names with a NUL, which no database can look up. What the route
    changes, or was kept from changing, goes into the audit log.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return FastAPI's handler behind these checks."""
        handle = self.checked(super().get_route_handler())

        async def handle_strictly(request: Request) -> Response:
            return await handle(StrictRequest(request.scope, request.receive))

        return handle_strictly

    def checked(
        self, handle: Callable[[Request], Coroutine[Any, Any, Response]]
    ) -> Callable[[StrictRequest], Coroutine[Any, Any, Response]]:
        """Return a handler of this route behind these checks."""
        # One path with two methods is two routes, each with its one method.
        access = access_of(min(self.methods or {"GET"}), self.path_format)

        async def handle_checked(strict: StrictRequest) -> Response:
            caller: Caller = strict.scope["caller"]
            if access.change is None:
                require(caller, access)
                return await _checked(handle, strict)
            try:
                require(caller, access)
                response = await _checked(handle, strict)
            except TuneryError as error:  # a request that is no more than malformed tries nothing
                await _write_down(strict, access, error.code, b"")
                raise
            await _write_down(strict, access, DONE, bytes(getattr(response, "body", b"")))
            return response

        return handle_checked


async def _checked(handle: Callable[..., Coroutine[Any, Any, Response]], request: StrictRequest) -> Response:
    if "\0" in request.url.path or "\0" in request.scope["path"]:
        raise BadValue("the path holds the character NUL", status=404)
    for name, value in request.query_params.multi_items():
        if "\0" in name + value:
            raise BadValue("a query parameter holds the character NUL", (name.replace("\0", ""),))
    return await handle(request)


async def _write_down(request: StrictRequest, access: Access, outcome: str, answer: bytes) -> None:
    trail: AuditTrail = request.app.state.services.audit
    caller: Caller = request.scope["caller"]
    named = changed_object([str(v) for v in request.path_params.values()], answer, request.sent)

    def write() -> None:
        trail.change(
            caller, access.change or "", named, outcome=outcome, request_id=request.scope["request_id"]
        )

    await anyio.to_thread.run_sync(write, limiter=_WRITING)
