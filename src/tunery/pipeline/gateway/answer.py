"""The rest of a call: its answer whole or streamed, its end, and the record of it."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError as FutureCancelled
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Literal, NamedTuple
from urllib.parse import quote

from tunery.core.engine import Generation, NativePiece, TokenEvent
from tunery.core.errors import OverdueError, OverloadError, ResourceError, SilentEngineError
from tunery.core.example import Message
from tunery.core.prices import NOTHING, Used
from tunery.core.rollout import CALL_IDS, RequestRecord, TextState
from tunery.pipeline.gateway.start import RoutedCall, StartedCall, cancel
from tunery.traffic.blame import blames_engine

_LOG = logging.getLogger(__name__)
Status = Literal["ok", "error", "cancelled"]
Events = asyncio.Queue[tuple[int, TokenEvent | None]]
"""Choices' tokens as they come, None at the end of each."""
_VERSION_HEADER, _FALLBACK_HEADER, _UPSTREAM_HEADER = ANSWERED_BY = (
    "x-tunery-model-version",
    "x-tunery-fallback",
    "x-tunery-upstream",
)
"""Headers that tell what answered, and what failed before."""
_PLAIN = "@:;/., -_~"
"""What a header's value may hold beside letters and digits."""
_STOPPED = "the engine stopped before this request was answered"


class Piece(NamedTuple):
    """Part of a streamed answer: text, calls in pieces, or the end of one choice."""

    choice: int
    text: str
    tokens: tuple[TokenEvent, ...]
    finished: Generation | None
    native: NativePiece | None = None


class Running:
    """A call from its start to its end; use as an async context manager, which ends it in any case.

    Args:
        started: The call.
        events: Its tokens, where it is to be streamed.
        begun: Set at its first token, or its end where it has none.
        release: Gives its place among the calls in flight back.
        done: Takes its record; where it returns a future, the call ends once that has.
    """

    def __init__(
        self,
        started: StartedCall,
        events: Events | None,
        begun: asyncio.Event,
        release: Callable[[], None],
        done: Callable[[RequestRecord], Future[None] | None],
    ) -> None:
        self.routed = started.routed
        self.call = started.routed.call
        self.generations: tuple[Generation, ...] = ()
        """The finished choices, in order, once all of them are."""
        self._started = started
        self._events = events
        self._begun = begun
        self._release = release
        self._done: Callable[[RequestRecord], Future[None] | None] | None = done
        self._written: Future[None] | None = None
        self._cut: ResourceError | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.used = Used()
        """What was booked for it, once it has ended."""

    @property
    def is_handed_over(self) -> bool:
        """Whether an engine has any of it."""
        return any(choice.is_handed_over for choice in self._started.queued)

    @property
    def is_native(self) -> bool:
        """As :attr:`tunery.core.engine.Native.is_native`."""
        return self.routed.base.is_native

    @property
    def headers(self) -> dict[str, str]:
        """What the answer's headers tell of who gives it."""
        instead = self.routed.instead
        told = {_VERSION_HEADER: self.routed.target.name}
        if instead is not None:
            told[_FALLBACK_HEADER] = f"{instead.name}; {instead.code}"
        if (upstream := self._upstream) is not None:
            told[_UPSTREAM_HEADER] = upstream
        return {name: quote(value, safe=_PLAIN) for name, value in told.items()}

    @property
    def _upstream(self) -> str | None:
        """Which of several servers answers; all of them, each once, where choices went to several."""
        names = {choice.upstream: None for choice in self._started.queued if choice.upstream is not None}
        return ", ".join(names) or None

    async def begin(self, first_token_at: float, whole_at: float) -> None:
        """Return once the first byte can be sent: at a stream's first token, else when all is there.

        Args:
            first_token_at: When its first token must be there, in the event loop's time [s].
            whole_at: When all of it must be.

        Raises:
            TuneryError: It failed; the engine's own error, or one of these.
            OverloadError: It did not get its turn in time.
            OverdueError: It took too long, or not a token of it came in time.
        """
        try:
            async with asyncio.timeout_at(min(first_token_at, whole_at)):
                await self._begun.wait()
            if self._cut is not None:
                raise self._cut
            if self._events is None:
                async with asyncio.timeout_at(whole_at):
                    await self.finish()
            else:
                for choice in self._started.choices:
                    if choice.done():
                        _result(choice)
                loop = asyncio.get_running_loop()
                self._timer = loop.call_at(whole_at, lambda: self.cut(self._overdue()))
        except TimeoutError:
            silent = first_token_at < whole_at and not self._begun.is_set()
            raise self._overdue(silent=silent) from None
        self.routed.base.breaker.succeed()

    def give_up(self, error: Exception) -> RequestRecord:
        """Stop what still runs before a byte of it was sent, and return its record for another to write."""
        self._done = None
        cancel(self._started.choices)
        self._settle()
        self._blame(error)
        return self._record(error)

    def _blame(self, error: BaseException | None) -> None:
        """Have the breaker count a failure that is the engine's own; one that was cut off here is not."""
        if error is not self._cut and blames_engine(error):
            self.routed.base.breaker.fail(str(error))

    def _overdue(self, *, silent: bool = False) -> ResourceError:
        took = time.perf_counter() - self.routed.arrival.ticks
        if not self.is_handed_over:
            return OverloadError(f"this request waited {took:.0f} s for its turn", hint="try again shortly")
        if silent:
            return SilentEngineError(f"not a token of an answer came in {took:.0f} s (traffic.first_token_s)")
        return OverdueError(
            f"this request took {took:.0f} s, which is longer than it may (traffic.total_s, or what its "
            "client waits for)"
        )

    def prompt_texts(self) -> tuple[str, ...]:
        """Return the prompts of a call that brought its own, as text."""
        decode = self.routed.base.tokenizer.decode
        return tuple(p if isinstance(p, str) else decode(p) for p in self.call.prompts)

    async def __aenter__(self) -> Running:
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.end(error)
        if self._written is not None and not isinstance(error, asyncio.CancelledError | GeneratorExit):
            await asyncio.wrap_future(self._written)

    def end(self, error: BaseException | None) -> None:
        """Stop what still runs and hand the record over; the second time, do nothing.

        Raises:
            ResourceError: The record cannot be kept.
        """
        done, self._done = self._done, None
        if done is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._blame(error)
        # Last in, first out: whatever the record comes to, the place is free and nothing runs any more.
        with ExitStack() as steps:
            steps.callback(lambda: self._hand_over(done, error))
            steps.callback(self._settle)
            steps.callback(cancel, self._started.choices)
            steps.callback(self._release)

    def _settle(self) -> None:
        """Book what was used: of a choice that came to no end, what the engine had done of it."""
        each = self.call.choices
        amounts = [choice.used for choice in self._started.queued]
        # The choices of a prompt share it.
        read = sum(max(a.prompt_tokens for a in amounts[n : n + each]) for n in range(0, len(amounts), each))
        self.used = self._started.hold.settle(read, sum(a.completion_tokens for a in amounts))

    def _hand_over(
        self, done: Callable[[RequestRecord], Future[None] | None], error: BaseException | None
    ) -> None:
        self._written = done(self._record(error))

    def cut(self, error: ResourceError) -> None:
        """End the answer where it is, with an error that says why."""
        self._cut = error
        self._begun.set()
        cancel(self._started.choices)
        if self._events is not None:
            self._events.put_nowait((0, None))

    def _record(self, error: BaseException | None) -> RequestRecord:
        status = _status(self.generations, error)
        try:
            finished = self.generations or [g for f in self._started.choices if (g := _generation(f))]
            form = self._started.form
            valid = all(form(g.text) for g in finished) if form and finished else None
            return record_of(
                self.routed,
                status,
                finished,
                format_valid=valid,
                used=self.used,
                upstream=self._upstream,
            )
        except Exception:
            # A call whose record cannot be made in full still counts: for its version, and in the metrics.
            _LOG.exception("the record of %s is kept without its texts", self.call.id)
            bare = self.routed._replace(call=replace(self.call, keep_text=False))
            return record_of(bare, status, used=self.used)

    async def finish(self) -> tuple[Generation, ...]:
        """Wait for every choice.

        Raises:
            ResourceError: The engine was stopped meanwhile.
        """
        try:
            self.generations = tuple(
                [_result(f) if f.done() else await asyncio.wrap_future(f) for f in self._started.choices]
            )
        except asyncio.CancelledError:
            if asyncio.current_task() is not None and asyncio.current_task().cancelling():  # type: ignore[union-attr]
                raise
            raise self._stopped() from None
        return self.generations

    async def stream(self) -> AsyncIterator[Piece]:
        """Yield text as it becomes final, then each choice's end, choices interleaved.

        Raises:
            ResourceError: The engine was stopped meanwhile.
        """
        if self._events is None:
            raise RuntimeError("this call was started without stream=True")
        choices = self._started.choices
        sent = [_Sent() for _ in choices]
        ended: dict[int, Generation] = {}
        while len(ended) < len(choices):
            index, event = await self._events.get()
            if self._cut is not None:
                raise self._stopped()
            if event is not None and event.native is not None:
                yield Piece(index, "", (), None, event.native)
                continue
            if event is not None:
                tokens = sent[index].take(event)
                if event.text:
                    yield Piece(index, event.text, tokens, None)
                continue
            generation = ended[index] = _result(choices[index])
            rest, tokens = sent[index].rest(generation)
            if rest or tokens:
                yield Piece(index, rest, tokens, None)
            if len(ended) == len(choices):
                self.generations = tuple(ended[i] for i in range(len(choices)))
            yield Piece(index, "", (), generation)

    def _stopped(self) -> ResourceError:
        return self._cut or ResourceError(_STOPPED, hint="try again")


class _Sent:
    """What was sent of one choice, and the tokens whose text is still held back."""

    def __init__(self) -> None:
        self._text = ""
        self._sent = 0
        self._unsent: list[tuple[int, TokenEvent]] = []  # with the place in the text where each begins
        self._reader = codecs.getincrementaldecoder("utf-8")("replace")
        self._read = 0

    def take(self, event: TokenEvent) -> tuple[TokenEvent, ...]:
        """Note a token, and return those that go with the text that became final with it.

        A token that begins behind that text waits, for a stop string may yet cut it off.
        """
        self._unsent.append((self._read, event))
        self._read += len(self._reader.decode(event.raw))
        self._text += event.text
        ready = sum(begin < len(self._text) for begin, _ in self._unsent) if event.text else 0
        return self._send(ready)

    def rest(self, generation: Generation) -> tuple[str, tuple[TokenEvent, ...]]:
        """Return text and tokens of a finished choice that were not sent."""
        left = max(0, len(generation.tokens) - self._sent)
        return generation.content.removeprefix(self._text), self._send(left)

    def _send(self, count: int) -> tuple[TokenEvent, ...]:
        tokens = tuple(event for _, event in self._unsent[:count])
        del self._unsent[:count]
        self._sent += len(tokens)
        return tokens


def record_of(
    routed: RoutedCall,
    status: Status,
    generations: Sequence[Generation] = (),
    *,
    format_valid: bool | None = None,
    used: Used = NOTHING,
    upstream: str | None = None,
) -> RequestRecord:
    """Return the record of a call that has ended.

    A call that failed once it was known who would answer counts as that version's error, be it a broken
    adapter or a prompt that is too long: arms draw equal shares of the clients' own mistakes. Of a call that
    came to no answer no text is kept: there is nothing to learn from, and what was refused may be huge.
    """
    call, target = routed.call, routed.target
    first = generations[0] if generations else None
    text: TextState = "not_asked" if not call.keep_text else "kept" if first else "no_answer"
    return RequestRecord(
        id=call.id,
        created_at=routed.arrival.at,
        endpoint=call.model,
        model=target.name,
        arm=target.arm,
        rollout_id=target.rollout_id,
        subject=call.subject,
        messages=_turns(routed) if text == "kept" else (),
        completion=first.text if first and text == "kept" else "",
        status=status,
        finish_reason=first.finish_reason if first else None,
        format_valid=format_valid,
        prompt_tokens=used.prompt_tokens,
        completion_tokens=used.completion_tokens,
        usd=used.usd,
        latency_ms=(time.perf_counter() - routed.arrival.ticks) * 1000,
        ttft_ms=min((g.ttft_ms for g in generations), default=None),
        metadata=dict(call.metadata),
        response=_with_call_ids(call.response, first),
        text=text,
        project=call.caller.project,
        fallback_from=routed.instead.name if routed.instead else None,
        fallback_reason=routed.instead.reason if routed.instead else None,
        key_id=call.caller.key_id,
        upstream=upstream,
    )


def _with_call_ids(response: Mapping[str, Any] | None, first: Generation | None) -> Mapping[str, Any] | None:
    """Return the settings that a response repeats, with the ids of its calls where a server gave them."""
    if response is None or first is None or first.native is None or not first.native.calls:
        return response
    return {**response, CALL_IDS: [call["id"] for call in first.native.calls]}


def _turns(routed: RoutedCall) -> tuple[Message, ...]:
    if routed.call.messages is not None:
        # What came over the wire besides may hold what is masked in the text.
        return tuple(
            m if type(m) is Message else Message(role=m.role, content=m.content) for m in routed.messages
        )
    decode = routed.base.tokenizer.decode
    texts = (p if isinstance(p, str) else decode(p) for p in routed.call.prompts)
    return tuple(Message(role="user", content=t) for t in texts)


def _status(answered: Sequence[Generation], error: BaseException | None) -> Status:
    if answered:
        return "cancelled" if any(g.finish_reason == "cancelled" for g in answered) else "ok"
    gone = error is None or isinstance(error, (asyncio.CancelledError, GeneratorExit, FutureCancelled))
    return "cancelled" if gone else "error"


def _generation(choice: Future[Generation]) -> Generation | None:
    """Return what a choice came to, None where it came to nothing."""
    return choice.result() if choice.done() and not choice.cancelled() and not choice.exception() else None


def _result(choice: Future[Generation]) -> Generation:
    try:
        return choice.result(timeout=0)
    except FutureCancelled:
        raise ResourceError(_STOPPED) from None


@contextlib.contextmanager
def logged(what: str) -> Iterator[None]:
    """Log what goes wrong inside the block, because nobody is left whom it could be told."""
    try:
        yield
    except Exception:
        _LOG.exception("%s: this went wrong", what)
