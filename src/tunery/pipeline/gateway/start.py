"""The start of a call: who answers it, its prompts as token ids, and its choices in the engine's queue."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from tunery.core.engine import Generation, GenerationRequest, TokenEvent, Tokenizer
from tunery.core.errors import ConfigError, RefusedByTemplate, TuneryError
from tunery.core.example import Message
from tunery.core.limits import Scope
from tunery.core.tool_text import with_system_prompt
from tunery.evaluate.form import FormCheck
from tunery.pipeline.gateway.bases import ServedBase
from tunery.pipeline.gateway.call import CompletionCall
from tunery.pipeline.gateway.choices import Choice
from tunery.pipeline.gateway.names import Target
from tunery.pipeline.gateway.truncate import without_oldest
from tunery.traffic.limits.meter import Hold, Meter, Refusal
from tunery.traffic.limits.refusal import Size
from tunery.traffic.limits.room import NO_HEADERS

Listen = Callable[[int, TokenEvent | None], None]
"""Takes a choice's next token, None at its end; called in the engine's thread."""


class Arrival(NamedTuple):
    """When a call came in."""

    at: datetime
    ticks: float
    """By ``time.perf_counter`` [s]."""


class Instead(NamedTuple):
    """What failed before another answered in its place."""

    name: str
    code: str
    """Of its error."""
    reason: str


class RoutedCall(NamedTuple):
    """A call and what answers it."""

    call: CompletionCall
    target: Target
    arrival: Arrival
    opened: ServedBase | None
    """None where the base cannot be opened."""
    instead: Instead | None = None
    """What this stands in for."""

    @property
    def base(self) -> ServedBase:
        """What computes the answer."""
        if self.opened is None:
            raise RuntimeError(f"{self.target.base.name} is not open")
        return self.opened

    @property
    def model(self) -> str:
        """Name of what answers, as the client is to read it."""
        return self.call.model if self.call.model.startswith("ft:") else self.target.name

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation with the version's system prompt, where it has none of its own."""
        version = self.target.version
        return as_served(self.call.messages or (), version.system_prompt if version else None)


def as_served(messages: tuple[Message, ...], system_prompt: str | None) -> tuple[Message, ...]:
    """Return what a conversation becomes before it is rendered: a version's system prompt goes first.

    One that has a system turn of its own, wherever it stands, is left as it is.
    """
    if any(m.role == "system" for m in messages[1:]):
        return messages
    return with_system_prompt(messages, system_prompt)


class StartedCall(NamedTuple):
    """A call that is being answered."""

    routed: RoutedCall
    form: FormCheck | None
    """Tells whether an answer has the form that is expected; None where none is."""
    queued: tuple[Choice, ...]
    """Prompt by prompt."""
    hold: Hold
    """What is reserved for it."""

    @property
    def choices(self) -> tuple[Future[Generation], ...]:
        """What they come to, prompt by prompt."""
        return tuple(choice.answer for choice in self.queued)


class FailedStart(NamedTuple):
    """A call that failed once it was known who would answer."""

    routed: RoutedCall
    error: Exception
    headers: Mapping[str, str] = NO_HEADERS
    """How its rate limits stand."""


class ToLoad(NamedTuple):
    """A call whose adapter is to be loaded first, which may take long."""

    routed: RoutedCall


class Means(NamedTuple):
    """What the start of every call goes through."""

    meter: Meter
    """Lets it in."""
    handing: Executor
    """Gives choices to their engine when their turn comes."""


class Prompts(NamedTuple):
    """A call's prompts as token ids, and what answering them may take."""

    ids: tuple[tuple[int, ...], ...]
    size: Size


def start(
    routed: RoutedCall, form: FormCheck | None, listen: Listen, means: Means
) -> StartedCall | FailedStart | Refusal:
    """Render a call, reserve what it may use, and queue its choices, all of them or none.

    Args:
        routed: The call.
        form: Kept for its end.
        listen: Takes its tokens.
        means: What it goes through.
    """
    hold: Hold | Refusal | None = None
    try:
        routed = _fitted(routed)
        prompts = _prompts(routed)
        choices = _checked(routed, prompts.ids, listen)
        scope, spare = scope_of(routed.call, routed.target), routed.call.caller.spare
        hold = means.meter.admit(routed.call.id, scope, prompts.size, spare=spare)
        if isinstance(hold, Refusal):
            return hold
        for choice in choices:
            choice.queue(routed.call.flow, means.handing)
        return StartedCall(routed, form, choices, hold)
    except BaseException as error:
        if isinstance(hold, Hold):
            hold.settle(0, 0)
        if not isinstance(error, Exception):
            raise
        if isinstance(error, TuneryError) and error.param == "messages" and routed.call.messages is None:
            error.param = "prompt"  # where the other of the two kinds of call has its text
        return FailedStart(routed, error, hold.headers if hold else NO_HEADERS)


def scope_of(call: CompletionCall, target: Target) -> Scope:
    """Return whom a call counts for: all versions of a model are one, whichever of its names it has."""
    caller, version = call.caller, target.version
    model = version.name if version else target.base.name
    return Scope(caller.project, caller.key_id, caller.user, model)


def _fitted(routed: RoutedCall) -> RoutedCall:
    """Return a call whose conversation leaves room for its answer, as far as it may be shortened."""
    call = routed.call
    if call.messages is None or not call.truncate:
        return routed
    tokenizer = routed.base.tokenizer.on_day(routed.target.day)
    window = routed.base.engine.context_window
    most = window - max(1, min(call.sampling.max_tokens, window // 2))

    def fits(turns: Sequence[Message]) -> bool:
        shorter = routed._replace(call=replace(call, messages=tuple(turns)))
        try:
            return len(tokenizer.render_prompt(shorter.messages, most=most)) <= most
        except RefusedByTemplate:
            raise
        except ConfigError:  # sure to be longer
            return False

    return routed._replace(call=replace(call, messages=tuple(without_oldest(call.messages, fits))))


def _prompts(routed: RoutedCall) -> Prompts:
    tokenizer, call = routed.base.tokenizer.on_day(routed.target.day), routed.call
    window = routed.base.engine.context_window
    most = window - min(1, call.sampling.max_tokens)
    if call.messages is None:
        ids = tuple(tokenizer.encode(p, most=most) if isinstance(p, str) else p for p in call.prompts)
    else:
        ids = (_rendered(tokenizer, routed, most),)
    # An engine clips an answer to what its window leaves.
    answers = call.choices * sum(min(call.sampling.max_tokens, max(0, window - len(p))) for p in ids)
    return Prompts(ids, Size(sum(map(len, ids)), answers, call.choices * len(ids)))


def _checked(routed: RoutedCall, prompts: Iterable[tuple[int, ...]], listen: Listen) -> tuple[Choice, ...]:
    requests = [_request(routed, prompt, n) for prompt in prompts for n in range(routed.call.choices)]
    return tuple(_choice(routed, request, index, listen) for index, request in enumerate(requests))


def _rendered(tokenizer: Tokenizer, routed: RoutedCall, most: int) -> tuple[int, ...]:
    """Return a conversation's ids.

    Raises:
        RefusedByTemplate: Names the first message that the template does not take, where it can be told.
    """
    messages = routed.messages
    try:
        return tokenizer.render_prompt(messages, most=most)
    except RefusedByTemplate as refusal:
        turn = tokenizer.refused_turn(messages)
        # A version's system prompt was put before what the client sent.
        sent = -1 if turn is None else turn - (len(messages) - len(routed.call.messages or ()))
        param = f"messages[{sent}]" if sent >= 0 else "messages"
        raise RefusedByTemplate(refusal.words, param=param) from None


def _request(routed: RoutedCall, prompt: tuple[int, ...], choice: int) -> GenerationRequest:
    sampling = routed.call.sampling
    if choice and sampling.seed is not None:
        sampling = replace(sampling, seed=sampling.seed + choice)  # else every choice were the same
    return GenerationRequest(
        prompt,
        routed.target.adapter,
        sampling,
        routed.call.constraint,
        routed.call.prompt_logprobs,
        routed.messages if routed.call.messages is not None else (),
        routed.call.chat,
    )


def _choice(routed: RoutedCall, request: GenerationRequest, index: int, listen: Listen) -> Choice:
    folder = routed.target.adapter_folder
    choice = Choice(routed.base, request, folder, lambda token: listen(index, token))
    choice.answer.add_done_callback(lambda _: listen(index, None))
    return choice


def cancel(choices: Iterable[Future[Generation]]) -> None:
    """Stop the choices that have not ended."""
    for choice in choices:
        if not choice.done():
            choice.cancel()
