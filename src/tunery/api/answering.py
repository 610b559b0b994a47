"""What routes that answer calls have in common: how a stream goes out, and an end when its client leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from tunery.pipeline.gateway.answer import Running
from tunery.serve.openai.chat import Head

CLIENT_GONE = 499
"""Nobody reads this status; it is nginx's word in the access log for a client that hung up."""
_BEHIND_S = 1.0
"""How much later than its client the server gives up [s]."""
STREAM_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


def patience_s(request: Request) -> float | None:
    """Return after how long no client waits for its answer any more, where it says so as OpenAI's do [s].

    Those send what their user set; what nobody could mean is left out. A moment later than that: whoever
    hangs up in time is to hear of it from its own clock, and only what is in between still waits by then.
    """
    for header in ("x-stainless-read-timeout", "x-stainless-timeout"):
        with suppress(ValueError):
            seconds = float(request.headers.get(header, ""))
            if 0 < seconds < float("inf"):
                return seconds + _BEHIND_S
    return None


def head_of(running: Running) -> Head:
    """Return what every object about a call carries."""
    return Head(running.call.id, int(running.routed.arrival.at.timestamp()), running.routed.model)


async def unless_gone(request: Request, work: Coroutine[Any, Any, Mapping[str, Any] | Response]) -> Response:
    """Run ``work`` and answer with what it returns; cancel it when the client hangs up first."""
    answer = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            return Response(status_code=CLIENT_GONE)
        content = answer.result()
        return content if isinstance(content, Response) else JSONResponse(content)
    finally:
        for task in (answer, gone):
            if not task.done():
                task.cancel()
        await asyncio.gather(answer, gone, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
