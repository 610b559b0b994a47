"""Requests that the server sends itself, by the same road as those of clients: limits, records and all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message

from tunery.core.access import WITHOUT_KEY, Caller, caller_of
from tunery.core.batch import Batch
from tunery.pipeline.batches.lines import RequestLine
from tunery.pipeline.batches.run import Reply
from tunery.store.workspace import Workspace

SENDER = "tunery.sender"
"""Place in the scope of the caller whose request is sent from inside; no client can write there."""
BEHIND = 1_000_000
"""How far the priority of what nobody waits for lies below that of its key: it is served after all that
somebody waits for, and refused first."""
SPARE = 0.5
"""Share of limits by the minute, and of places, that is left to requests that somebody waits for [0 to 1]."""


def line_sender(app: ASGIApp, workspace: Workspace) -> Callable[[Batch, RequestLine], Awaitable[Reply]]:
    """Return what sends lines of batches to the app, each as the key that made its batch."""

    async def send(batch: Batch, line: RequestLine) -> Reply:
        caller = replace(WITHOUT_KEY, project=batch.project)
        if batch.key_id is not None:
            key = await asyncio.to_thread(workspace.keys.find, batch.key_id)
            if key is None or not key.works_at(workspace.clock.now()):
                return _revoked()
            caller = caller_of(key)
        caller = replace(caller, priority=caller.priority - BEHIND, spare=SPARE)
        body = json.dumps(line.body, ensure_ascii=False).encode("utf-8", "surrogatepass")
        return await _post(app, batch.endpoint, body, caller)

    return send


async def _post(app: ASGIApp, path: str, body: bytes, caller: Caller) -> Reply:
    sent: list[Message] = []
    unread = [body]

    async def receive() -> Message:
        if unread:
            return {"type": "http.request", "body": unread.pop(), "more_body": False}
        await asyncio.Event().wait()  # nobody hangs up
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json"), (b"host", b"localhost")]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [*headers, (b"content-length", str(len(body)).encode())],
        "client": None,
        "server": None,
        SENDER: caller,
    }
    await app(scope, receive, send)
    return _reply(sent)


def _reply(sent: list[Message]) -> Reply:
    start = next(message for message in sent if message["type"] == "http.response.start")
    headers = Headers(raw=start["headers"])
    content = b"".join(m.get("body", b"") for m in sent if m["type"] == "http.response.body")
    after = headers.get("retry-after", "")
    return Reply(
        start["status"],
        headers.get("x-request-id", ""),
        json.loads(content) if content else {},
        float(after) if after.isdecimal() else None,
        headers.get("x-should-retry") == "false",
    )


def _revoked() -> Reply:
    message = "the API key that made this batch was revoked or has expired"
    error = {"message": message, "type": "authentication_error", "param": None, "code": "invalid_api_key"}
    return Reply(401, "", {"error": error}, None, final=True)
