"""What may enter the engine: requests, checked against the base and laid out as rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from tunery.core.engine import GenerationRequest, Sampling, TokenEvent
from tunery.core.errors import ConfigError
from tunery.model.tokenizer import ChatTokenizer
from tunery.serve.engines.embedded.adjustment import Adjustment
from tunery.serve.engines.embedded.constraints import Grammars
from tunery.serve.engines.embedded.lora import BASE
from tunery.serve.engines.embedded.prefix_cache import shared_prefix
from tunery.serve.engines.embedded.request import CompletionRow, ScoreRow
from tunery.serve.engines.embedded.sampling import generator
from tunery.serve.engines.embedded.text_stream import TextStream


class Scored(NamedTuple):
    """Where a completion gets its score."""

    row: ScoreRow | None
    """None for an empty completion."""
    place: int
    """Which of the row's last tokens is its own."""


class Admission:
    """Checks requests and lays them out as rows, in the threads that bring them.

    Rows come out for the base; the engine gives them their adapter and their place in the queue.

    Args:
        tokenizer: Decodes completions, and compiles constraints.
        context_window: Tokens a prompt and its completion may have together [count].
        vocab_size: Ids the model knows [count].
    """

    def __init__(self, tokenizer: ChatTokenizer, *, context_window: int, vocab_size: int) -> None:
        self._tokenizer = tokenizer
        self._context_window = context_window
        self._vocab_size = vocab_size
        self._grammars = Grammars(tokenizer.hf, tokenizer.stop_ids)

    def completion(
        self, request: GenerationRequest, on_token: Callable[[TokenEvent], None] | None
    ) -> CompletionRow:
        """Return the row of a prompt to complete.

        Raises:
            ConfigError: The prompt is empty or does not fit, or a setting is out of range.
        """
        sampling = request.sampling
        problem = self._prompt_problem(request.prompt, reserve=min(1, sampling.max_tokens))
        if problem:
            raise ConfigError(problem, param="messages")
        self._check(sampling)
        self._check_ids(sampling)
        if sampling.ignore_eos and request.constraint:
            raise ConfigError("a constraint ends its completion itself; leave it out", param="ignore_eos")
        if request.prompt_logprobs is not None and not 0 <= request.prompt_logprobs <= self._vocab_size:
            raise ConfigError(f"logprobs={request.prompt_logprobs} is out of range", param="logprobs")
        turn_ends = frozenset() if sampling.ignore_eos else self._tokenizer.stop_ids
        ends = turn_ends | frozenset(sampling.stop_token_ids)
        return CompletionRow(
            adapter=BASE,
            tokens=list(request.prompt),
            prompt=np.array(request.prompt, dtype=np.int64),
            future=Future(),
            arrival=0,
            request=request,
            max_tokens=min(sampling.max_tokens, self._context_window - len(request.prompt)),
            stream=TextStream(self._tokenizer, sampling.stop),
            source=generator(sampling.seed),
            ends=ends,
            constraint=self._grammars.start(request.constraint) if request.constraint else None,
            adjustment=Adjustment.of(sampling, prompt=request.prompt, ends=ends, vocab_size=self._vocab_size),
            on_token=on_token,
        )

    def scores(self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[Scored]:
        """Return where each prompt with its completion gets its score, in order.

        Completions of one prompt that differ in their last token alone, such as letters of a choice, share a
        row. A row keeps for others what it shares with its nearest neighbour; a lone one keeps its prompt.

        Raises:
            ConfigError: A prompt is empty or a pair does not fit; lists all pairs at fault.
        """
        problems = []
        for number, (prompt, completion) in enumerate(pairs):
            # A completion's last token is looked up, never computed, so it needs no room.
            problem = self._prompt_problem(prompt) or self._prompt_problem([*prompt, *completion], reserve=-1)
            if problem:
                problems.append(f"row {number}: {problem}")
        if problems:
            raise ConfigError.of_problems("score", problems, limit=20)
        lasts: dict[tuple[int, tuple[int, ...]], list[int]] = {}
        places: list[tuple[tuple[int, tuple[int, ...]], int] | None] = []
        for prompt, completion in pairs:
            if not completion:
                places.append(None)
                continue
            stem = (len(prompt), (*prompt, *completion[:-1]))
            candidates = lasts.setdefault(stem, [])
            places.append((stem, len(candidates)))
            candidates.append(completion[-1])
        rows = {stem: _score_row(*stem, candidates) for stem, candidates in lasts.items()}
        _note_shared([rows[stem] for stem in sorted(rows, key=lambda stem: stem[1])])
        return [Scored(rows[place[0]], place[1]) if place else Scored(None, 0) for place in places]

    def _check(self, sampling: Sampling) -> None:
        if sampling.max_tokens < 0:
            raise ConfigError(f"max_tokens={sampling.max_tokens} must be 0 or more", param="max_tokens")
        if not 0 <= sampling.temperature < float("inf"):
            raise ConfigError(f"temperature={sampling.temperature} must be 0 or more", param="temperature")
        if not 0 < sampling.top_p <= 1:
            raise ConfigError(f"top_p={sampling.top_p} must be above 0 and at most 1", param="top_p")
        if sampling.logprobs is not None and not 0 <= sampling.logprobs <= self._vocab_size:
            raise ConfigError(f"logprobs={sampling.logprobs} is out of range", param="top_logprobs")
        if not 0 <= sampling.min_p <= 1:
            raise ConfigError(f"min_p={sampling.min_p} must be from 0 to 1", param="min_p")
        if sampling.top_k < 0:
            raise ConfigError(f"top_k={sampling.top_k} must be 0 or more", param="top_k")
        if not 0 < sampling.repetition_penalty < float("inf"):
            raise ConfigError(
                f"repetition_penalty={sampling.repetition_penalty} must be above 0",
                param="repetition_penalty",
            )
        if not 0 <= sampling.min_tokens <= sampling.max_tokens:
            raise ConfigError(
                f"min_tokens={sampling.min_tokens} must be from 0 to max_tokens={sampling.max_tokens}",
                param="min_tokens",
            )

    def _check_ids(self, sampling: Sampling) -> None:
        named = {"logit_bias": [i for i, _ in sampling.logit_bias], "stop_token_ids": sampling.stop_token_ids}
        for name, ids in named.items():
            unknown = [i for i in ids if not 0 <= i < self._vocab_size]
            if unknown:
                raise ConfigError(
                    f"{name} holds the token id {unknown[0]}; they are from 0 to {self._vocab_size - 1}",
                    param=name,
                )

    def _prompt_problem(self, tokens: Sequence[int], *, reserve: int = 0) -> str | None:
        """Return what is wrong with token ids that must leave ``reserve`` tokens of the window free."""
        if not tokens:
            return "the prompt is empty"
        if len(tokens) + reserve > self._context_window:
            return (
                f"the prompt's {len(tokens)} tokens leave no room in the context window of "
                f"{self._context_window} tokens"
            )
        if min(tokens) < 0 or max(tokens) >= self._vocab_size:
            return f"token ids must be from 0 to {self._vocab_size - 1}"
        return None


def _score_row(first: int, tokens: tuple[int, ...], lasts: Sequence[int]) -> ScoreRow:
    return ScoreRow(
        adapter=BASE,
        tokens=list(tokens),
        prompt=np.array(tokens[:first], dtype=np.int64),
        future=Future(),
        arrival=0,
        first=first,
        lasts=lasts,
        shared=first,
    )


def _note_shared(rows: Sequence[ScoreRow]) -> None:
    """Note what each row's prompt shares with its nearest neighbours, rows in order of their tokens."""
    if len(rows) < 2:
        return
    common = [0, *(shared_prefix(a.prompt, b.prompt) for a, b in pairwise(rows)), 0]
    for row, before, behind in zip(rows, common, common[1:], strict=False):
        row.shared = max(before, behind)
