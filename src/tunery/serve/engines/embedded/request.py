"""One request on its way through the engine."""

from __future__ import annotations

import codecs
import contextlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from tunery.core.engine import FinishReason, Generation, GenerationRequest, Score, TokenEvent
from tunery.serve.engines.embedded.adjustment import Adjustment
from tunery.serve.engines.embedded.constraints import ConstraintState
from tunery.serve.engines.embedded.text_stream import TextStream


@dataclass(slots=True, kw_only=True, eq=False)
class Row:
    """Tokens of one request, how many of them are computed, and what came out.

    Decoding and prefilling are the same thing: tokens whose keys and values are not stored yet.
    """

    adapter: int
    """Number of the adapter's loading; ``BASE`` for the base."""
    tokens: list[int]
    """Prompt and what was generated so far."""
    prompt: np.ndarray
    """Tokens that other requests may share, for the prefix cache."""
    future: Future[Any]
    arrival: int
    """Rises with every request; the youngest row gives way when memory runs out."""
    submitted_at: float = field(default_factory=time.perf_counter)
    computed: int = 0
    """Tokens whose keys and values are in the row's slot [count]."""
    cached_tokens: int | None = None
    """Prompt tokens found in the prefix cache [count]; None until it first ran."""
    stored: bool = False
    """Whether its prompt was offered to the prefix cache."""

    @property
    def kept(self) -> np.ndarray:
        """What is offered to the prefix cache once it is computed."""
        return self.prompt

    @property
    def reads_prompt(self) -> bool:
        """Whether the logits of its prompt are wanted, so that none of it may come from the prefix cache."""
        return False

    @property
    def pending(self) -> int:
        """Tokens to compute before the next one can be chosen [count]."""
        return len(self.tokens) - self.computed

    def wanted(self, count: int) -> range:
        """Return which of the next ``count`` tokens' logits are needed, as positions in the row."""
        raise NotImplementedError

    def restart(self) -> None:
        """Forget what is computed, because the slot went to another row."""
        self.computed = 0

    def abandon(self) -> None:
        """Answer a row that stops while it runs."""
        self.future.cancel()

    def fail(self, error: BaseException) -> None:
        """Answer with an error, unless the client has gone."""
        with contextlib.suppress(InvalidStateError):
            self.future.set_exception(error)


@dataclass(slots=True, kw_only=True, eq=False)
class CompletionRow(Row):
    """A prompt being completed."""

    request: GenerationRequest
    max_tokens: int
    """After clipping to the context window [count]."""
    stream: TextStream
    source: torch.Generator
    ends: frozenset[int]
    """Ids that end the completion."""
    constraint: ConstraintState | None = None
    adjustment: Adjustment | None = None
    on_token: Callable[[TokenEvent], None] | None = None
    first_token_at: float | None = None
    events: list[TokenEvent] = field(default_factory=list)
    prompt_events: list[TokenEvent] = field(default_factory=list)
    """Likelihoods of the prompt's tokens so far, where they were requested."""

    @property
    def reads_prompt(self) -> bool:
        """Whether likelihoods of the prompt were requested."""
        return self.request.prompt_logprobs is not None

    def wanted(self, count: int) -> range:
        """Return the last position once every token is computed, and those of a prompt that is read."""
        end = self.computed + count
        if self.reads_prompt and self.computed < len(self.prompt):
            return range(self.computed, end)
        return range(end - 1, end) if end == len(self.tokens) else range(0)

    def restart(self) -> None:
        """Forget what is computed."""
        self.computed = 0
        self.prompt_events.clear()

    @property
    def room(self) -> int:
        """Tokens that may still be generated [count]."""
        return self.max_tokens - (len(self.tokens) - len(self.request.prompt))

    @property
    def generated(self) -> list[int]:
        """Ids generated so far."""
        return self.tokens[len(self.request.prompt) :]

    def abandon(self) -> None:
        """Answer with what there is."""
        self.stream.finish()
        self.finish("cancelled", self.generated)

    def finish(self, reason: FinishReason, ids: list[int]) -> None:
        """Answer with what was generated."""
        now = time.perf_counter()
        first = self.first_token_at or now
        self.drop_tokens_behind_the_text()
        generation = Generation(
            text=self.stream.text,
            token_ids=tuple(ids),
            finish_reason=reason,
            prompt_tokens=len(self.request.prompt),
            cached_tokens=self.cached_tokens or 0,
            ttft_ms=(first - self.submitted_at) * 1000,
            latency_ms=(now - self.submitted_at) * 1000,
            tokens=tuple(self.events),
            prompt=tuple(self.prompt_events),
        )
        with contextlib.suppress(InvalidStateError):  # cancelled between the last look and now
            self.future.set_result(generation)

    def drop_tokens_behind_the_text(self) -> None:
        """Leave out the events of tokens that begin behind a stop string's place in the text."""
        if not self.stream.stopped:
            return
        reader, read = codecs.getincrementaldecoder("utf-8")("replace"), 0
        for number, event in enumerate(self.events):
            if read >= len(self.stream.text):
                del self.events[number:]
                return
            read += len(reader.decode(event.raw))


@dataclass(slots=True, kw_only=True, eq=False)
class ScoreRow(Row):
    """A prompt and completions of it whose likelihoods are wanted and that differ in their last token alone.

    ``tokens`` are what all of them have before that token: one pass tells the worth of each.
    """

    first: int
    """Length of the prompt: position of the first token scored."""
    lasts: Sequence[int]
    """Last token of each completion."""
    shared: int = 0
    """Tokens that the prompt has in common with a neighbour of the same call [count]."""
    logprob: float = 0.0
    """Of what all completions have in common, as far as it is computed [nats]."""
    greedy: bool = True
    scores: list[Score] = field(default_factory=list)
    """One for each last token, once all is computed."""

    @property
    def kept(self) -> np.ndarray:
        """What a neighbour goes on from; keeping more of it would push out what others share."""
        return self.prompt[: self.shared]

    def wanted(self, count: int) -> range:
        """Return positions whose next token is part of a completion."""
        return range(max(self.computed, self.first - 1), self.computed + count)

    def restart(self) -> None:
        """Forget what is computed and summed."""
        self.computed, self.logprob, self.greedy = 0, 0.0, True

    def add(self, logits: torch.Tensor, start: int) -> None:
        """Add the likelihood of the tokens that follow positions ``start`` onwards.

        Args:
            logits: Shape ``(positions, vocabulary)``.
            start: Position of the first.
        """
        whole, best = logits.double().logsumexp(-1), logits.argmax(-1)
        common = self.tokens[start + 1 : start + 1 + len(logits)]
        targets = torch.tensor(common, dtype=torch.long, device=logits.device)
        chosen = logits[: len(common)].gather(1, targets[:, None])[:, 0].double()
        self.logprob += float((chosen - whole[: len(common)]).sum())
        self.greedy &= bool((best[: len(common)] == targets).all())
        if len(common) < len(logits):
            lasts = torch.tensor(self.lasts, device=logits.device)
            values = (logits[-1, lasts].double() - whole[-1]).tolist()
            tokens, ahead = len(self.tokens) - self.first + 1, int(best[-1])
            self.scores = [
                Score(self.logprob + value, tokens, self.greedy and last == ahead)
                for last, value in zip(self.lasts, values, strict=True)
            ]

    def finish(self) -> None:
        """Answer with a score for each last token."""
        with contextlib.suppress(InvalidStateError):
            self.future.set_result(self.scores)
