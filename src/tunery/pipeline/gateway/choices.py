"""One choice of a call on its way through the queue into the engine and back."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future, InvalidStateError
from contextlib import suppress
from pathlib import Path

from tunery.core.engine import Generation, GenerationRequest, TokenEvent
from tunery.core.prices import NOTHING, Used
from tunery.pipeline.gateway.bases import ServedBase
from tunery.traffic.fair_queue import Flow, Turn

OnToken = Callable[[TokenEvent], None]


class Choice:
    """A request that is checked, then waits for its turn, then is computed.

    Args:
        base: What computes it.
        request: What to complete.
        adapter_folder: Its adapter's files.
        on_token: Also given every token.

    Raises:
        TuneryError: As :meth:`ServedBase.prepare`.
    """

    def __init__(
        self,
        base: ServedBase,
        request: GenerationRequest,
        adapter_folder: Path | None,
        on_token: OnToken,
    ) -> None:
        self.answer: Future[Generation] = Future()
        """What it comes to; may be cancelled while it waits or runs."""
        self._base = base
        self._adapter = request.adapter
        self._prompt_tokens = len(request.prompt)
        self._on_token = on_token
        self._turn: Turn | None = None
        self._running: Future[Generation] | None = None
        self._tokens = 0
        self._upstream: str | None = None
        self._give = base.prepare(request, adapter_folder, self._token)

    @property
    def is_handed_over(self) -> bool:
        """Whether the engine has it."""
        return self._turn is not None and self._turn.handed_at is not None

    @property
    def used(self) -> Used:
        """What was computed of it so far; whoever left before its turn came has used nothing."""
        answer = self.answer
        if answer.done() and not answer.cancelled() and answer.exception() is None:
            return Used(answer.result().prompt_tokens, answer.result().completion_tokens)
        return Used(self._prompt_tokens, self._tokens) if self._running is not None else NOTHING

    @property
    def upstream(self) -> str | None:
        """Which of several servers behind the engine answers; None where there is one, or none does yet."""
        answer = self.answer
        if self._upstream is None and answer.done() and not answer.cancelled() and not answer.exception():
            return answer.result().upstream
        return self._upstream

    def queue(self, flow: Flow, handing: Executor) -> None:
        """Queue it.

        Args:
            flow: Whose it is.
            handing: Gives requests to engines: not the thread of the engine that made room, which would wait
                for itself where an adapter has to be loaded.
        """

        def begin(turn: Turn) -> None:
            self._turn = turn
            if self._base.relays(self._adapter):
                self._begin()
                return
            try:
                handing.submit(self._begin)
            except RuntimeError:  # the server ends
                self.answer.cancel()

        self._turn = self._base.queue.put(flow, self._prompt_tokens, begin)
        self.answer.add_done_callback(self._ended)

    def _token(self, event: TokenEvent) -> None:
        self._tokens += 1
        self._upstream = event.upstream
        if self._turn is not None:
            self._base.queue.token(self._turn)
        self._on_token(event)

    def _begin(self) -> None:
        if self.answer.done():
            return
        try:
            running = self._running = self._give()
        except BaseException as error:
            with suppress(InvalidStateError):
                self.answer.set_exception(error)
            return
        running.add_done_callback(self._pass_on)
        if self.answer.cancelled():
            running.cancel()

    def _pass_on(self, running: Future[Generation]) -> None:
        with suppress(InvalidStateError):
            if running.cancelled():
                self.answer.cancel()
            elif (error := running.exception()) is not None:
                self.answer.set_exception(error)
            else:
                self.answer.set_result(running.result())

    def _ended(self, answer: Future[Generation]) -> None:
        if self._turn is not None:
            self._base.queue.end(self._turn)
        if answer.cancelled() and self._running is not None:
            self._running.cancel()
