"""A streamed response as events, numbered, in the order in which OpenAI's clients put them together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tunery.core.engine import Generation, NativeAnswer, NativePiece, TokenEvent
from tunery.serve.openai.chat import Head, logprobs_of
from tunery.serve.openai.response_items import (
    call_item,
    call_items,
    message_item,
    native_items,
    refusal_part,
    text_part,
)
from tunery.serve.openai.responses import Echo, response_key, response_object, status_of, usage_of
from tunery.serve.openai.tool_calls import CallWatch

Event = dict[str, Any]


class ResponseEvents:
    """Writes the events of one response.

    Args:
        echo: What its object repeats of the request.
        watch: Holds back what may be calls; None where no functions are offered.
        logprobs: Whether text comes with likelihoods.
    """

    def __init__(self, head: Head, echo: Echo, *, watch: CallWatch | None, logprobs: bool) -> None:
        self._head = head
        self._echo = echo
        self._watch = watch
        self._logprobs = logprobs
        self._key = response_key(head.id)
        self._number = -1
        self._text = ""
        self._parts: list[str] = []
        """Kinds of the parts of the message that have begun."""
        self._at = 0
        """Place of the message in the output."""
        self._call_at: list[int] = []
        """Places of the calls that come in pieces."""
        self._likely: list[dict[str, Any]] = []
        self._unsent: list[dict[str, Any]] = []
        self._output: list[dict[str, Any]] = []

    def begin(self) -> Iterator[Event]:
        """Yield what comes before any text."""
        response = response_object(self._head, self._echo, status="in_progress")
        yield self._event("response.created", response=response)
        yield self._event("response.in_progress", response=response)

    def text(self, text: str, tokens: Sequence[TokenEvent]) -> Iterator[Event]:
        """Yield a piece of text as far as it is sure to be none of a call."""
        if self._logprobs:
            self._unsent += logprobs_of(tokens)["content"]
        yield from self._said(self._watch.feed(text) if self._watch is not None else text)

    def native(self, piece: NativePiece) -> Iterator[Event]:
        """Yield what a server of chat completions streamed besides text."""
        if piece.refusal:
            yield from self._part_begun(refusal_part(""))
            yield self._event("response.refusal.delta", **self._place("refusal"), delta=piece.refusal)
        for call in piece.calls:
            number, function = call["index"], call["function"]
            if number == len(self._call_at):
                self._call_at.append(self._next)
                item = call_item(self._key, number, call["id"], function["name"], "", status="in_progress")
                yield self._event("response.output_item.added", output_index=self._call_at[-1], item=item)
            if arguments := function["arguments"]:
                place = {"output_index": self._call_at[number], "item_id": f"fc_{self._key}_{number}"}
                yield self._event("response.function_call_arguments.delta", **place, delta=arguments)

    def end(self, generation: Generation) -> Iterator[Event]:
        """Yield the rest: the end of the text, calls, and the whole response."""
        if generation.native is not None:
            yield from self._native_end(generation, generation.native)
            return
        left = self._watch.end() if self._watch is not None else None
        if left is not None:
            yield from self._said(left.text)
        status = status_of(generation)
        if self._text or left is None or not left.calls:
            yield from self._message_done(status)
        for item in call_items(left.calls if left is not None else (), self._key, status=status):
            yield from self._called(item)
        yield self._whole(generation)

    def _whole(self, generation: Generation) -> Event:
        status = status_of(generation)
        usage = usage_of(
            generation.prompt_tokens, generation.completion_tokens, cached=generation.cached_tokens
        )
        response = response_object(self._head, self._echo, status=status, output=self._output, usage=usage)
        return self._event(f"response.{status}", response=response)

    def _native_end(self, generation: Generation, answer: NativeAnswer) -> Iterator[Event]:
        """Yield the ends of what was streamed in parts, in the order in which that began, then the whole."""
        likely = [*self._likely, *self._unsent]
        items = native_items(answer, self._key, status=status_of(generation), logprobs=likely)
        message = items.pop(0) if items[0]["type"] == "message" else None
        if message is not None:
            yield from self._part_begun(message["content"][0])
        places = dict(zip(self._call_at, items, strict=True)) | ({self._at: message} if message else {})
        self._output = [places[index] for index in sorted(places)]
        for index, item in enumerate(self._output):
            if item is message:
                yield from self._parts_done(item)
            else:
                done = {"item_id": item["id"], "name": item["name"], "arguments": item["arguments"]}
                yield self._event("response.function_call_arguments.done", output_index=index, **done)
            yield self._event("response.output_item.done", output_index=index, item=item)
        yield self._whole(generation)

    def failed(self, error: Mapping[str, Any]) -> Event:
        """Return the last event of a response that came to no end; ``error`` has a code and a message."""
        response = response_object(self._head, self._echo, status="failed", output=self._output, error=error)
        return self._event("response.failed", response=response)

    def _said(self, text: str) -> Iterator[Event]:
        if not text:
            return
        yield from self._part_begun(text_part(""))
        likely, self._unsent = self._unsent, []
        self._text += text
        self._likely += likely
        yield self._event(
            "response.output_text.delta", **self._place("output_text"), delta=text, logprobs=likely
        )

    def _part_begun(self, part: Mapping[str, Any]) -> Iterator[Event]:
        """Yield the beginning of a part of the message, and of the message before its first."""
        kind = part["type"]
        if kind in self._parts:
            return
        if not self._parts:
            self._at = self._next
            item = message_item(self._key, "", status="in_progress") | {"content": []}
            yield self._event("response.output_item.added", output_index=self._at, item=item)
        self._parts.append(kind)
        empty = refusal_part("") if kind == "refusal" else text_part("")
        yield self._event("response.content_part.added", **self._place(kind), part=empty)

    def _message_done(self, status: str) -> Iterator[Event]:
        yield from self._part_begun(text_part(""))
        self._likely += self._unsent
        item = message_item(self._key, self._text, status=status, logprobs=self._likely)
        self._output.append(item)
        yield from self._parts_done(item)
        yield self._event("response.output_item.done", output_index=0, item=item)

    def _parts_done(self, item: Mapping[str, Any]) -> Iterator[Event]:
        for part in item["content"]:
            place = self._place(part["type"])
            if part["type"] == "refusal":
                yield self._event("response.refusal.done", **place, refusal=part["refusal"])
            else:
                said = {"text": part["text"], "logprobs": part["logprobs"]}
                yield self._event("response.output_text.done", **place, **said)
            yield self._event("response.content_part.done", **place, part=part)

    def _called(self, item: Mapping[str, Any]) -> Iterator[Event]:
        index = len(self._output)
        place = {"output_index": index, "item_id": item["id"]}
        begun = {**item, "arguments": "", "status": "in_progress"}
        yield self._event("response.output_item.added", output_index=index, item=begun)
        arguments = item["arguments"]
        yield self._event("response.function_call_arguments.delta", **place, delta=arguments)
        yield self._event(
            "response.function_call_arguments.done", **place, name=item["name"], arguments=arguments
        )
        self._output.append(dict(item))
        yield self._event("response.output_item.done", output_index=index, item=item)

    @property
    def _next(self) -> int:
        """Place of the next item that begins in pieces."""
        return len(self._call_at) + bool(self._parts)

    def _place(self, kind: str) -> dict[str, Any]:
        """Return where a part of the message is that has begun."""
        index = self._parts.index(kind)
        return {"output_index": self._at, "content_index": index, "item_id": f"msg_{self._key}"}

    def _event(self, kind: str, **fields: Any) -> Event:
        self._number += 1
        return {"type": kind, "sequence_number": self._number, **fields}
