"""A streamed response as events, numbered, in the order in which OpenAI's clients put them together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tunery.core.engine import Generation, TokenEvent
from tunery.serve.openai.chat import Head, logprobs_of
from tunery.serve.openai.response_items import call_items, message_item, text_part
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
        self._begun = False
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

    def end(self, generation: Generation) -> Iterator[Event]:
        """Yield the rest: the end of the text, calls, and the whole response."""
        left = self._watch.end() if self._watch is not None else None
        if left is not None:
            yield from self._said(left.text)
        status = status_of(generation)
        if self._text or left is None or not left.calls:
            yield from self._message_done(status)
        for item in call_items(left.calls if left is not None else (), self._key, status=status):
            yield from self._called(item)
        usage = usage_of(
            generation.prompt_tokens, generation.completion_tokens, cached=generation.cached_tokens
        )
        response = response_object(self._head, self._echo, status=status, output=self._output, usage=usage)
        yield self._event(f"response.{status}", response=response)

    def failed(self, error: Mapping[str, Any]) -> Event:
        """Return the last event of a response that came to no end; ``error`` has a code and a message."""
        response = response_object(self._head, self._echo, status="failed", output=self._output, error=error)
        return self._event("response.failed", response=response)

    def _said(self, text: str) -> Iterator[Event]:
        if not text:
            return
        yield from self._message_begun()
        likely, self._unsent = self._unsent, []
        self._text += text
        self._likely += likely
        yield self._event("response.output_text.delta", **self._place, delta=text, logprobs=likely)

    def _message_begun(self) -> Iterator[Event]:
        if self._begun:
            return
        self._begun = True
        item = message_item(self._key, "", status="in_progress") | {"content": []}
        yield self._event("response.output_item.added", output_index=0, item=item)
        yield self._event("response.content_part.added", **self._place, part=text_part(""))

    def _message_done(self, status: str) -> Iterator[Event]:
        yield from self._message_begun()
        self._likely += self._unsent
        item = message_item(self._key, self._text, status=status, logprobs=self._likely)
        self._output.append(item)
        yield self._event("response.output_text.done", **self._place, text=self._text, logprobs=self._likely)
        yield self._event("response.content_part.done", **self._place, part=item["content"][0])
        yield self._event("response.output_item.done", output_index=0, item=item)

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
    def _place(self) -> dict[str, Any]:
        return {"output_index": 0, "content_index": 0, "item_id": f"msg_{self._key}"}

    def _event(self, kind: str, **fields: Any) -> Event:
        self._number += 1
        return {"type": kind, "sequence_number": self._number, **fields}
