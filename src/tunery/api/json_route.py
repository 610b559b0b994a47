"""Routes whose bodies are read as strictly as what lies behind them needs."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import anyio.to_thread
from fastapi import Request, Response
from fastapi.routing import APIRoute

from tunery.api.errors import BadValue
from tunery.serve.openai.strict_json import BadJson, read_strictly

_IN_THREAD_BYTES = 256 * 2**10
"""Bodies over this are read in a thread, so that they hold up nobody else [bytes]."""

_READING = anyio.CapacityLimiter(2)
"""Threads that read bodies [count]; of their own, so that none waits for a route that blocks."""


class _StrictRequest(Request):
    async def json(self) -> Any:
        body = await self.body()
        try:
            if len(body) > _IN_THREAD_BYTES:
                return await anyio.to_thread.run_sync(read_strictly, body, limiter=_READING)
            return read_strictly(body)
        except BadJson as error:
            raise BadValue(error.message, error.path) from None


class JsonRoute(APIRoute):
    """A route that refuses JSON with two meanings, and names with a NUL, which no database can look up."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return FastAPI's handler behind these checks."""
        handle = super().get_route_handler()

        async def handle_strictly(request: Request) -> Response:
            if "\0" in request.url.path or "\0" in request.scope["path"]:
                raise BadValue("the path holds the character NUL", status=404)
            for name, value in request.query_params.multi_items():
                if "\0" in name + value:
                    raise BadValue("a query parameter holds the character NUL", (name.replace("\0", ""),))
            return await handle(_StrictRequest(request.scope, request.receive))

        return handle_strictly
