"""The servers behind one engine: which of them is given a request, and what happens when one fails.

One server is asked as it is. Of several, each has a circuit breaker. One that was away may have lost what it
had loaded, so no request is its trial: it is looked at beside the traffic, gets what it lacks, and only then
counts as there again.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from tunery.core.breaker import CircuitBreaker
from tunery.core.engine import UpstreamState
from tunery.core.errors import (
    CircuitOpenError,
    ConfigError,
    ResourceError,
    TuneryError,
    UpstreamModelNotFoundError,
)
from tunery.serve.engines.upstream.server import Server
from tunery.serve.engines.upstream.settings import ServerEngineSettings
from tunery.serve.engines.upstream.transport import OwnLoop, Transport, UnreachableError

_LOG = logging.getLogger(__name__)
_LONGEST_PAUSE_S = 2.0


class Upstream:
    """One server."""

    def __init__(self, server: Server, transport: Transport, breaker: CircuitBreaker) -> None:
        self.name = server.name
        self.transport = transport
        self.breaker = breaker
        self.running = 0
        """Requests that it has [count]."""
        self.turn = 0
        """When it was last given one, by a counter."""
        self.is_looked_at = False

    @property
    def is_there(self) -> bool:
        """Whether it is given requests."""
        return self.breaker.circuit.state == "closed"

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Send JSON from a thread that may block; raises as :meth:`Transport.post`."""
        return self.transport.wait(self.transport.post(path, body))


class Pool:
    """All servers of an engine.

    Args:
        settings: How long they are waited for, and when one is left alone.
        servers: Where they are.
        problem: As for :class:`Transport`.
        prepare: Checks a server that was away and loads what it lacks; may block, raises where it cannot.
    """

    def __init__(
        self,
        settings: ServerEngineSettings,
        servers: Sequence[Server],
        problem: Callable[[], str | None],
        prepare: Callable[[Upstream], None],
    ) -> None:
        self._attempts = settings.attempts
        self._prepare = prepare
        self._own = OwnLoop()
        self._lock = threading.Lock()
        self._turns = 0
        self._closed = False
        self.all = tuple(
            Upstream(
                server,
                Transport(settings, server, problem, self._own),
                CircuitBreaker(f"upstream {server.name}", settings.breaker),
            )
            for server in servers
        )

    @property
    def first(self) -> Upstream:
        """The server at ``base_url``."""
        return self.all[0]

    @property
    def states(self) -> tuple[UpstreamState, ...]:
        """How they stand; empty where there is one alone."""
        if len(self.all) == 1:
            return ()
        found = []
        for one in self.all:
            circuit = one.breaker.circuit
            found.append(UpstreamState(one.name, circuit.state, circuit.reason, one.running))
        return tuple(found)

    def stream(
        self, path: str, body: Mapping[str, Any], chosen: Callable[[str], None]
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Return the pieces of a streamed answer; raises as :meth:`Transport.stream`.

        Args:
            chosen: Given the name of the server that answers before its first piece, where there are several.
        """
        if len(self.all) == 1:
            return self.first.transport.stream(path, body)
        return self._of_several(path, body, chosen)

    async def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Return what a path answers at one that can; raises as :meth:`Transport.post`."""
        problem: ResourceError | None = None
        for one in self._in_turn():
            try:
                return await one.transport.post(path, body)
            except ResourceError as error:
                self.failed(one, error)
                problem = error
        raise problem or ResourceError("there is no upstream")

    def each(self, do: Callable[[Upstream], None]) -> None:
        """Have something done at every server that is there, at all where none is; may block.

        Raises:
            ConfigError: One refuses.
            ResourceError: It could be done at none.
        """
        problem: ResourceError | None = None
        done = False
        for one in [one for one in self.all if one.is_there] or self.all:
            try:
                do(one)
                done = True
            except ResourceError as error:
                if len(self.all) > 1:
                    self.failed(one, error, sure=True)
                problem = error
        if not done and problem is not None:
            raise problem

    def failed(self, one: Upstream, error: TuneryError, *, sure: bool = False) -> None:
        """Note a failure; where the server is known to be away or to lack something, look at it at once."""
        if not one.is_there:  # its next look is due when it is due
            return
        sure = sure or isinstance(error, UnreachableError)
        one.breaker.fail(error.message, sure=sure)
        if not one.is_there:
            _LOG.error("upstream %s is left alone: %s", one.name, error.message)
            if sure:
                self._look(one)

    async def leave(self) -> None:
        """Close the connections of the event loop that runs this."""
        for one in self.all:
            await one.transport.leave()

    def close(self) -> None:
        """Close every connection."""
        self._closed = True
        for one in self.all:
            one.transport.close()
        self._own.end()

    async def _of_several(
        self, path: str, body: Mapping[str, Any], chosen: Callable[[str], None]
    ) -> AsyncGenerator[dict[str, Any], None]:
        problem: ResourceError | UpstreamModelNotFoundError | None = None
        for attempt in range(1, self._attempts + 1):
            for one in self._in_turn():
                begun = False
                with self._lock:
                    one.running += 1
                try:
                    async with aclosing(one.transport.stream(path, body, attempts=1)) as pieces:
                        async for piece in pieces:
                            if not begun:
                                begun = True
                                chosen(one.name)
                                self._answered(one)
                            yield piece
                    if begun:
                        return
                    raise ResourceError("the upstream broke off its answer", hint="try again shortly")
                except (ResourceError, UpstreamModelNotFoundError) as error:
                    # One that was started again between two requests does not know its adapters any more.
                    self.failed(one, error, sure=isinstance(error, UpstreamModelNotFoundError))
                    if begun:
                        raise
                    problem = error
                finally:
                    with self._lock:
                        one.running -= 1
            if isinstance(problem, UpstreamModelNotFoundError):
                break
            if attempt < self._attempts:
                await asyncio.sleep(min(_LONGEST_PAUSE_S, 0.1 * 2**attempt))
        raise problem or ResourceError("there is no upstream")

    def _answered(self, one: Upstream) -> None:
        if one.is_there:
            one.breaker.succeed()
        else:
            self._look(one)

    def _in_turn(self) -> Iterator[Upstream]:
        """Yield the servers that a request tries, one after another, each at most once.

        Where none is there, each is tried all the same: it may be back, and else its error is the answer.
        """
        for one in self.all:
            if not one.is_there:
                self._look_again(one)
        left = [one for one in self.all if one.is_there] or list(self.all)
        while left:
            with self._lock:
                one = min(left, key=lambda other: (other.running, other.turn))
                self._turns += 1
                one.turn = self._turns
            left.remove(one)
            yield one

    def _look_again(self, one: Upstream) -> None:
        """Look at a server that is left alone where that has been long enough."""
        try:
            one.breaker.admit()
        except CircuitOpenError:
            return
        self._look(one)

    def _look(self, one: Upstream) -> None:
        with self._lock:
            if one.is_looked_at or self._closed:
                return
            one.is_looked_at = True
        threading.Thread(target=self._looked_at, args=(one,), name="upstream-look", daemon=True).start()

    def _looked_at(self, one: Upstream) -> None:
        try:
            self._prepare(one)
        except Exception as error:
            message = error.message if isinstance(error, TuneryError) else f"{type(error).__name__}: {error}"
            one.breaker.fail(message, sure=True)
            if isinstance(error, ConfigError):
                _LOG.error("upstream %s stays left alone: %s", one.name, message)
        else:
            one.breaker.succeed()
            _LOG.warning("upstream %s answers again", one.name)
        finally:
            one.is_looked_at = False
