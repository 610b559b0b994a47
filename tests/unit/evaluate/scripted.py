"""An engine at the port that answers by a table, and a tokenizer of characters: exact and instant."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from tunery.core.engine import Generation, GenerationRequest, Health, Score, TokenEvent
from tunery.core.errors import NotFoundError
from tunery.core.example import Example, Message, example_id

STOP = 3


class CharTokenizer:
    """One id a character; turns are written as ``<role>text`` lines."""

    def render_prompt(self, messages: Sequence[Any], *, most: int | None = None) -> tuple[int, ...]:
        return self.encode("".join(f"<{m.role}>{m.content}\n" for m in messages) + "<assistant>")

    def encode(self, text: str, *, most: int | None = None) -> tuple[int, ...]:
        return tuple(ord(c) + 10 for c in text)

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(chr(i - 10) for i in ids if i != STOP)

    def refusal(self, messages: Sequence[Any]) -> str | None:
        return None

    def refused_turn(self, messages: Sequence[Any]) -> int | None:
        return None

    @property
    def writes_day(self) -> bool:
        return False

    def on_day(self, day: object) -> CharTokenizer:
        return self

    @property
    def max_tokens(self) -> int:
        return 100_000

    @property
    def stop_ids(self) -> frozenset[int]:
        return frozenset({STOP})


class ScriptedEngine:
    """Answers a prompt by the last user turn in it, and scores every token alike.

    Args:
        answers: Last user turn to answer; for an adapter ``{name: {...}}`` goes in ``adapters``.
        adapters: Adapter name to its own table.
        nats: Negative log-likelihood of each completion token [nats].
        window: Its context window [tokens].
    """

    def __init__(
        self,
        answers: Mapping[str, str],
        adapters: Mapping[str, Mapping[str, str]] | None = None,
        nats: float = 0.5,
        window: int = 100_000,
    ) -> None:
        self.window = window
        self.tables: dict[str | None, Mapping[str, str]] = {None: answers, **(adapters or {})}
        self.nats = nats
        self.requests: list[GenerationRequest] = []
        self.batch_sizes: list[int] = []
        self.scored: list[tuple[Sequence[int], Sequence[int]]] = []

    @property
    def context_window(self) -> int:
        return self.window

    def healthy(self) -> Health:
        return Health()

    def load_adapter(self, name: str, path: str) -> None:
        self.tables.setdefault(name, {})

    def unload_adapter(self, name: str) -> None:
        self.tables.pop(name, None)

    def adapters(self) -> tuple[str, ...]:
        return tuple(sorted(name for name in self.tables if name))

    def submit(
        self, request: GenerationRequest, on_token: Callable[[TokenEvent], None] | None = None
    ) -> Future[Generation]:
        future: Future[Generation] = Future()
        future.set_result(self.generate([request])[0])
        return future

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Generation]:
        self.requests += requests
        self.batch_sizes.append(len(requests))
        return [self._answer(request) for request in requests]

    def _answer(self, request: GenerationRequest) -> Generation:
        if request.adapter not in self.tables:
            raise NotFoundError.of("adapter", str(request.adapter), self.adapters())
        text = CharTokenizer().decode(request.prompt)
        question = text.rpartition("<user>")[2].partition("\n")[0]
        answer = self.tables[request.adapter].get(question, "no idea")
        most = request.sampling.max_tokens
        return Generation(
            text=answer[:most],
            token_ids=CharTokenizer().encode(answer[:most]),
            finish_reason="length" if len(answer) > most else "stop",
            prompt_tokens=len(request.prompt),
            cached_tokens=0,
            ttft_ms=1.0,
            latency_ms=1.0,
        )

    def score(
        self, rows: Sequence[tuple[Sequence[int], Sequence[int]]], adapter: str | None = None
    ) -> list[Score]:
        self.scored += rows
        return [Score(-self.nats * len(completion), len(completion)) for _, completion in rows]

    def close(self) -> None:
        self.tables.clear()


def example(
    question: str, answer: str, *, label: str | None = None, group: str = "", system: str | None = None
) -> Example:
    """Return a one-turn example."""
    turns = (Message(role="user", content=question), Message(role="assistant", content=answer))
    opening = (Message(role="system", content=system),) if system else ()
    identity = example_id((*opening, *turns))
    return Example(
        id=identity, messages=(*opening, *turns), group=group or identity, label=label, metadata={"row": 1}
    )
