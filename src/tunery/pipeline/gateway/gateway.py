"""One served call: name to version, conversation to ids, ids to completion, and a record of it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import CancelledError as FutureCancelled
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

from tunery.core.engine import Constraint, Generation, GenerationRequest, Sampling, TokenEvent
from tunery.core.errors import ResourceError
from tunery.core.example import Message
from tunery.core.rollout import RequestRecord
from tunery.core.tool_text import with_system_prompt
from tunery.pipeline.gateway.bases import BasePool, ServedBase
from tunery.pipeline.gateway.log import RequestLog
from tunery.pipeline.gateway.names import Target, resolve
from tunery.store.workspace import Workspace

JSON_METRICS = frozenset({"valid_json", "field_match"})
"""A version scored by one of these is expected to answer in JSON."""


@dataclass(frozen=True, slots=True)
class Call:
    """What a client asks of the gateway, free of any wire format."""

    id: str
    model: str
    """As the client wrote it."""
    subject: str
    """See :func:`subject_of`."""
    messages: tuple[Message, ...] | None = None
    """A conversation; None where ``prompts`` are given."""
    prompts: tuple[str | tuple[int, ...], ...] = ()
    """Plain texts or ids, no chat template applied."""
    choices: int = 1
    """Completions for each prompt [count]."""
    sampling: Sampling = field(default_factory=Sampling)
    constraint: Constraint | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    keep_text: bool = True
    """Whether the record of this call holds its texts."""


class Piece(NamedTuple):
    """Part of a streamed answer: text, or the end of one choice."""

    choice: int
    text: str
    tokens: tuple[TokenEvent, ...]
    finished: Generation | None


class _Plan(NamedTuple):
    """What a name resolved to, and the engine for it."""

    target: Target
    base: ServedBase


def subject_of(user: str | None, key_id: str | None) -> str:
    """Return the hash that requests stick by: of the user where the client names one, else of its key."""
    told = f"user\n{user}" if user else f"key\n{key_id or ''}"
    return hashlib.sha256(told.encode("utf-8")).hexdigest()[:32]


def format_is_valid(text: str, target: Target, constraint: Constraint | None) -> bool | None:
    """Tell whether an answer has the form that was asked for; None where none was.

    What the request asks for counts before what the version was trained to give.
    """
    labels = constraint.labels if constraint else None
    as_json = constraint is not None and constraint.json_schema is not None
    if constraint is None and target.version is not None:
        labels = target.version.labels
        as_json = labels is None and bool(JSON_METRICS & set(target.version.metrics))
    if labels is not None:
        return text.strip() in labels
    if not as_json:
        return None
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


class Gateway:
    """Answers calls with whatever version is meant at the moment each begins.

    Args:
        workspace: Where versions, aliases and rollouts are.
        bases: Engines.
        log: Takes a record of every call.
        max_in_flight: Calls answered at once [count]; more are refused, and clients come back by themselves.
    """

    def __init__(self, workspace: Workspace, bases: BasePool, log: RequestLog, *, max_in_flight: int) -> None:
        self.workspace = workspace
        self.bases = bases
        self.log = log
        self._max_in_flight = max_in_flight
        self._in_flight = 0

    @property
    def in_flight(self) -> int:
        """Calls being answered [count]."""
        return self._in_flight

    async def start(self, call: Call, *, stream: bool) -> Running:
        """Resolve, render and queue a call; everything that can be refused is refused here.

        Raises:
            NotFoundError: No such model.
            ConfigError: The conversation does not fit.
            ResourceError: Too many calls at once.
        """
        if self._in_flight >= self._max_in_flight:
            raise ResourceError(
                f"{self._in_flight} requests are being answered and that is the limit",
                hint="try again shortly",
            )
        self._in_flight += 1
        running = Running(self, call, time.perf_counter(), stream=stream)
        try:
            await asyncio.to_thread(running.submit)
        except BaseException as error:
            running.end(error)
            raise
        return running

    def done(self, record: RequestRecord | None) -> None:
        """Take the record of a call that ended; None where it named no model that exists."""
        self._in_flight -= 1
        if record is not None:
            self.log.write(record)


class Running:
    """A call between its start and its end; use as an async context manager, which ends it in any case."""

    def __init__(self, gateway: Gateway, call: Call, started: float, *, stream: bool) -> None:
        self.call = call
        self.created = gateway.workspace.clock.now()
        self._gateway = gateway
        self._started = started
        self._loop = asyncio.get_running_loop()
        self._pieces: asyncio.Queue[tuple[int, TokenEvent | None]] | None = (
            asyncio.Queue() if stream else None
        )
        self._futures: list[Future[Generation]] = []
        self._settled: _Plan | None = None
        self._messages: tuple[Message, ...] = call.messages or ()
        self._generations: list[Generation] = []
        self._status: Literal["ok", "error", "cancelled"] | None = None
        self._cancel_asked = False
        self._ended = False

    @property
    def model(self) -> str:
        """Name of what answers."""
        return self.call.model if self.call.model.startswith("ft:") else self._plan.target.shown

    def decode(self, ids: Any) -> str:
        """Return the text of token ids."""
        return self._plan.base.tokenizer.decode(ids)

    def submit(self) -> None:
        """Do the blocking part of the start; runs in a thread."""
        gateway = self._gateway
        target = resolve(gateway.workspace, gateway.bases.default, self.call.model, self.call.subject)
        self._settled = _Plan(target, gateway.bases.get(target.base))
        prompts = self._prompts(self._settled)
        try:
            for index in range(len(prompts) * self.call.choices):
                self._futures.append(self._submit_one(index, prompts[index // self.call.choices]))
        except BaseException:
            self.cancel()
            raise
        if self._cancel_asked:  # the client left while this thread was at work
            self.cancel()

    async def __aenter__(self) -> Running:
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.end(error)

    def end(self, error: BaseException | None) -> None:
        """Stop what still runs and hand the record over; the second time, do nothing.

        A call that failed once it was known who would answer counts as that version's error, be it a broken
        adapter or a prompt that is too long: arms draw equal shares of the clients' own mistakes.
        """
        if self._ended:
            return
        self._ended = True
        if self._status is None:
            gone = error is None or isinstance(
                error, (asyncio.CancelledError, GeneratorExit, FutureCancelled)
            )
            self._status = "cancelled" if gone else "error"
        self.cancel()
        self._gateway.done(self._record(self._settled.target) if self._settled else None)

    async def finish(self) -> list[Generation]:
        """Wait for every choice.

        Raises:
            ResourceError: The engine was stopped meanwhile.
        """
        try:
            self._generations = [await asyncio.wrap_future(f) for f in self._futures]
        except asyncio.CancelledError:
            if asyncio.current_task() is not None and asyncio.current_task().cancelling():  # type: ignore[union-attr]
                raise
            raise ResourceError("the engine stopped before this request was answered") from None
        self._settle()
        return self._generations

    async def stream(self) -> AsyncIterator[Piece]:
        """Yield text as it becomes final, then each choice's end, choices interleaved."""
        if self._pieces is None:
            raise RuntimeError("this call was started without stream=True")
        sent = [""] * len(self._futures)
        unsent: list[list[TokenEvent]] = [[] for _ in self._futures]
        ended: dict[int, Generation] = {}
        while len(ended) < len(self._futures):
            index, event = await self._pieces.get()
            if event is not None:
                unsent[index].append(event)
                if event.text:
                    sent[index] += event.text
                    yield Piece(index, event.text, tuple(unsent[index]), None)
                    unsent[index] = []
                continue
            generation = self._result(index)
            rest = generation.text.removeprefix(sent[index])
            if rest or unsent[index]:
                yield Piece(index, rest, tuple(unsent[index]), None)
            ended[index] = generation
            if len(ended) == len(self._futures):
                self._generations = [ended[i] for i in range(len(self._futures))]
                self._settle()
            yield Piece(index, "", (), generation)

    @property
    def generations(self) -> list[Generation]:
        """The finished choices, in order."""
        return self._generations

    def cancel(self) -> None:
        """Stop what has not ended."""
        self._cancel_asked = True
        for future in self._futures:
            if not future.done():
                future.cancel()

    @property
    def _plan(self) -> _Plan:
        if self._settled is None:
            raise RuntimeError("this call was not started")
        return self._settled

    def _prompts(self, plan: _Plan) -> list[tuple[int, ...]]:
        target, base = plan
        if self.call.messages is None:
            return [base.tokenizer.encode(p) if isinstance(p, str) else p for p in self.call.prompts]
        system = target.version.system_prompt if target.version else None
        if not any(m.role == "system" for m in self.call.messages[1:]):
            self._messages = with_system_prompt(self.call.messages, system)
        return [base.tokenizer.render_prompt(self._messages)]

    def _submit_one(self, index: int, prompt: tuple[int, ...]) -> Future[Generation]:
        target, base = self._plan
        sampling = self.call.sampling
        choice = index % self.call.choices
        if choice and sampling.seed is not None:
            sampling = replace(sampling, seed=sampling.seed + choice)  # else every choice were the same
        adapter = target.version.adapter_id if target.version else None
        request = GenerationRequest(prompt, adapter, sampling, self.call.constraint)
        pieces, loop = self._pieces, self._loop
        if pieces is None:
            return base.submit(request, target.adapter_folder, None)

        def on_token(event: TokenEvent) -> None:
            loop.call_soon_threadsafe(pieces.put_nowait, (index, event))

        future = base.submit(request, target.adapter_folder, on_token)
        future.add_done_callback(lambda _: _tell(loop, pieces, index))
        return future

    def _result(self, index: int) -> Generation:
        try:
            return self._futures[index].result(timeout=0)
        except FutureCancelled:
            raise ResourceError("the engine stopped before this request was answered") from None

    def _settle(self) -> None:
        stopped = any(g.finish_reason == "cancelled" for g in self._generations)
        self._status = "cancelled" if stopped else "ok"

    def _record(self, target: Target) -> RequestRecord:
        done = self._generations or [
            f.result() for f in self._futures if f.done() and not f.cancelled() and f.exception() is None
        ]
        verdicts = [format_is_valid(g.text, target, self.call.constraint) for g in done]
        return RequestRecord(
            id=self.call.id,
            created_at=self.created,
            endpoint=self.call.model,
            model=target.shown,
            arm=target.arm,
            rollout_id=target.rollout_id,
            subject=self.call.subject,
            messages=self._kept_messages(),
            completion=done[0].text if done and self.call.keep_text else "",
            status=self._status or "error",
            finish_reason=done[0].finish_reason if done else None,
            format_valid=None if not verdicts or verdicts[0] is None else all(verdicts),
            prompt_tokens=sum(g.prompt_tokens for g in done[:: self.call.choices]),
            completion_tokens=sum(g.completion_tokens for g in done),
            latency_ms=(time.perf_counter() - self._started) * 1000,
            ttft_ms=min((g.ttft_ms for g in done), default=None),
            metadata=dict(self.call.metadata),
        )

    def _kept_messages(self) -> tuple[Message, ...]:
        if not self.call.keep_text:
            return ()
        if self.call.messages is not None:
            return self._messages
        texts = (p if isinstance(p, str) else self.decode(p) for p in self.call.prompts)
        return tuple(Message(role="user", content=t) for t in texts)


def _tell(loop: asyncio.AbstractEventLoop, pieces: asyncio.Queue[Any], index: int) -> None:
    """Pass the end of a choice on to the event loop, which at shutdown may be gone already."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(pieces.put_nowait, (index, None))
