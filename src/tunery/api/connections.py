"""One connection and its bounds: heads that never end, readers that never read, too many of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import ClassVar

import h11
from pydantic import Field
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

from tunery.api.errors import Problem
from tunery.core.config import Settings


class ConnectionSettings(Settings):
    """What one client may take of the server's time and memory."""

    max_connections: int = Field(default=1000, ge=1)
    """Connections open at once [count]; more are told to come again with a 503."""
    max_head_bytes: int = Field(default=32 * 2**10, ge=1024)
    """Size of a request's first line and headers at most [bytes]."""
    head_timeout_s: float = Field(default=10.0, gt=0)
    """Time for a request's first line and headers to arrive [s]."""
    body_timeout_s: float = Field(default=30.0, gt=0)
    """Time for a request's body to arrive, and between two pieces of an uploaded file [s]."""
    upload_timeout_s: float = Field(default=900.0, gt=0)
    """Time for an uploaded file to arrive [s]."""
    write_timeout_s: float = Field(default=60.0, gt=0)
    """Time that a client may leave an answer unread while there is more of it [s]; then it is cut off."""
    keep_alive_s: float = Field(default=30.0, gt=0)
    """Time that a connection is kept open between two requests [s]."""
    max_buffered_bytes: int = Field(default=64 * 2**20, ge=1)
    """Size of all request bodies held in memory at once [bytes]; more get a 503 that clients retry."""


class BoundedProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 with deadlines of its own, because uvicorn waits for heads and readers for ever."""

    limits: ClassVar[ConnectionSettings]

    _head: asyncio.TimerHandle | None = None
    """Ends the wait for a request's head, or for the rest of a body that nobody wants any more."""
    _unread: asyncio.TimerHandle | None = None
    """Ends the wait for a client to read."""
    _received = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or turn it away where there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self.limits.max_connections:
            self._refuse(
                Problem(
                    503,
                    f"{self.limits.max_connections} connections are open and that is the limit; try again "
                    "shortly",
                    "server_error",
                    None,
                    "resource_exhausted",
                )
            )
        else:
            self._head = self._later(self.limits.head_timeout_s, self._head_overdue)

    def data_received(self, data: bytes) -> None:
        """Take what the client sent, and start or end the wait for a head."""
        if self.transport.is_closing():
            return
        self._received = True
        super().data_received(data)
        answered = self.cycle is None or self.cycle.response_complete
        if not answered or self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self._head = _disarmed(self._head)
        elif self._head is None and not self.transport.is_closing():
            self._head = self._later(self.limits.head_timeout_s, self._head_overdue)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection's deadlines."""
        self._head, self._unread = _disarmed(self._head), _disarmed(self._unread)
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Go on with the next request, or see that a connection which ends does end."""
        super().on_response_complete()
        self._end_if_closing()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that stays idle."""
        super().timeout_keep_alive_handler()
        self._end_if_closing()

    def shutdown(self) -> None:
        """Close once the request that is being answered is."""
        super().shutdown()
        self._end_if_closing()

    def pause_writing(self) -> None:
        """Wait for the client to read, but not for ever."""
        super().pause_writing()
        if self._unread is None:
            self._unread = self._later(self.limits.write_timeout_s, self._cut_off)

    def resume_writing(self) -> None:
        """Go on: the client reads."""
        super().resume_writing()
        if not self.transport.is_closing():
            self._unread = _disarmed(self._unread)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP in OpenAI's shape as well."""
        self._refuse(Problem(400, msg, "invalid_request_error", None, "invalid_http"))

    def _later(self, seconds: float, action: Callable[[], None]) -> asyncio.TimerHandle:
        return self.loop.call_later(seconds, action)

    def _head_overdue(self) -> None:
        self._head = None
        if self.transport.is_closing():
            return
        if not self._received or self.conn.our_state is not h11.IDLE:
            self._cut_off()  # whoever said nothing is told nothing
            return
        limit = self.limits.head_timeout_s
        self._refuse(
            Problem(
                408,
                f"the request's headers did not arrive within {limit:g} s",
                "invalid_request_error",
                None,
                "request_timeout",
            )
        )

    def _refuse(self, problem: Problem) -> None:
        """Answer outside of any request, and close."""
        body = json.dumps(problem.body()).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        headers += [(name.encode(), value.encode()) for name, value in problem.all_headers().items()]
        try:
            reason = STATUS_PHRASES[problem.status]
            for event in (
                h11.Response(status_code=problem.status, headers=headers, reason=reason),
                h11.Data(data=body),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        except h11.LocalProtocolError:
            pass  # an answer is on its way already, and nothing can be put into it
        self.transport.close()
        self._end_if_closing()

    def _end_if_closing(self) -> None:
        """Close for good what would otherwise wait until its client has read the last answer."""
        if self.transport.is_closing() and self._unread is None:
            self._unread = self._later(self.limits.write_timeout_s, self._cut_off)

    def _cut_off(self) -> None:
        self._unread = None
        self.transport.abort()


def protocol_within(limits: ConnectionSettings) -> type[asyncio.Protocol]:
    """Return the protocol class of one server."""
    return type("Protocol", (BoundedProtocol,), {"limits": limits})


def _disarmed(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    if timer is not None:
        timer.cancel()
    return None
