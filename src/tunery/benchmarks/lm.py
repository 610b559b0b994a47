"""An engine as lm-evaluation-harness sees a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs, postprocess_generated_text
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from tunery.core.engine import Engine, GenerationRequest, Sampling, Score
from tunery.core.progress import Progress, Silent
from tunery.model.tokenizer import ChatTokenizer

_ROWS_PER_CALL = 2048
"""Scored between two looks at whether to stop; rows that begin alike lie in one call [count]."""
_MAX_NEW_TOKENS = 256
"""Of tasks that name no limit; the harness's own default [count]."""

Pair = tuple[Sequence[int], Sequence[int]]


class EngineLm(TemplateLM):  # type: ignore[misc]  # the harness's own class, which has no types
    """Log-likelihoods and completions of an adapter or the base, as the harness's own backend gives them.

    Texts become ids as its Hugging Face backend makes them, so that both score the same tokens.

    Args:
        engine: Computes.
        tokenizer: Of the engine's base, with the template that chats are written by.
        adapter: Name under which it is loaded; None for the base.
        progress: Shows how many rows are done, and stops where the run is to stop.
    """

    def __init__(
        self,
        engine: Engine,
        tokenizer: ChatTokenizer,
        *,
        adapter: str | None = None,
        progress: Progress | None = None,
    ) -> None:
        super().__init__()
        self._engine = engine
        self._adapter = adapter
        self._progress = progress or Silent()
        self.tokenizer = tokenizer.hf
        self._template = tokenizer.chat_template_sha256
        self.tokens = 0
        """Tokens of all rows given so far, prompts and completions [count]."""
        self.cut = 0
        """Prompts that lost their beginning, because they were longer than the window [count]."""

    @property
    def eot_token_id(self) -> int:
        """Id that ends a text."""
        return int(self.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        """Id that stands before a text that nothing precedes."""
        begin = self.tokenizer.bos_token_id
        return int(begin) if begin is not None else self.eot_token_id

    @property
    def max_length(self) -> int:
        """Tokens that a row may have [count]."""
        return self._engine.context_window

    @property
    def tokenizer_name(self) -> str:
        """Name of tokenizer and template, for caches of requests."""
        return f"{self.tokenizer.name_or_path}-{self._template[:16]}".replace("/", "__")

    def tok_encode(self, string: str, *, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Return the ids of a text; special tokens as the tokenizer adds them, but no second beginning."""
        begin = self.tokenizer.decode(self.prefix_token_id)
        if add_special_tokens is None and begin and string.startswith(begin):
            add_special_tokens = False
        named = {} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
        return list(self.tokenizer.encode(string, **named))

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], *, add_generation_prompt: bool = True
    ) -> str:
        """Return a conversation as the template writes it."""
        return str(
            self.tokenizer.apply_chat_template(
                chat_history,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=not add_generation_prompt,
            )
        )

    def loglikelihood(self, requests: Sequence[Any], **_: Any) -> list[tuple[float, bool]]:
        """Return of each context and continuation how likely it is, and whether greedy decoding writes it."""
        found: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm=True)
        return found

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, list[int], list[int]]], **_: Any
    ) -> list[tuple[float, bool]]:
        pairs = [
            (self._last(context, self.max_length + 1 - len(continuation)), continuation)
            for _, context, continuation in requests
        ]
        return [(score.logprob, score.greedy) for score in self._scores(pairs)]

    def loglikelihood_rolling(self, requests: Sequence[Any], **_: Any) -> list[float]:
        """Return the log-likelihood of whole texts, those longer than the window in overlapping parts."""
        pairs: list[Pair] = []
        sizes = []
        for request in requests:
            windows = get_rolling_token_windows(
                token_list=self.tok_encode(request.args[0]),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length - 1,
                context_len=1,
            )
            parts = [make_disjoint_window(window) for window in windows]
            sizes.append(len(parts))
            pairs += parts
        scores = iter(self._scores(pairs))
        return [sum(next(scores).logprob for _ in range(size)) for size in sizes]

    def generate_until(self, requests: Sequence[Any], **_: Any) -> list[str]:
        """Return a completion of each context, up to the first of its task's stop strings."""
        rows, stops = [], []
        ends = self.tokenizer.decode([self.eot_token_id])
        for request in requests:
            context, given = request.args
            named = normalize_gen_kwargs(given, _MAX_NEW_TOKENS)
            stop = handle_stop_sequences(named.get("until"), eos=ends)
            most = min(int(named["max_gen_toks"]), self.max_length - 1)
            sampled = bool(named.get("do_sample"))
            sampling = Sampling(
                max_tokens=most,
                temperature=float(named.get("temperature", 1.0)) if sampled else 0.0,
                top_p=float(named.get("top_p", 1.0)) if sampled else 1.0,
                stop=tuple(stop),
                seed=0,
            )
            prompt = self._last(self.tok_encode(context), self.max_length - most)
            rows.append(GenerationRequest(tuple(prompt), adapter=self._adapter, sampling=sampling))
            stops.append(stop)
        with self._progress.task("completions", len(rows)) as bar:
            generations = self._engine.generate(rows)
            bar.advance(len(rows))
        self.tokens += sum(g.prompt_tokens + g.completion_tokens for g in generations)
        return [
            postprocess_generated_text(generation=g.text, stop=stop, think_end_token=None)
            for g, stop in zip(generations, stops, strict=True)
        ]

    def _last(self, ids: list[int], room: int) -> list[int]:
        """Return ids that fit, what is too much cut from their beginning."""
        self.cut += len(ids) > room
        return ids[-room:]

    def _scores(self, pairs: Sequence[Pair]) -> list[Score]:
        """Score pairs in order of their tokens, so that those that begin alike are computed together."""
        order = sorted(range(len(pairs)), key=lambda i: (*pairs[i][0], *pairs[i][1]))
        found: dict[int, Score] = {}
        with self._progress.task("log-likelihoods", len(pairs)) as bar:
            for start in range(0, len(order), _ROWS_PER_CALL):
                some = order[start : start + _ROWS_PER_CALL]
                found |= zip(some, self._engine.score([pairs[i] for i in some], self._adapter), strict=True)
                bar.advance(len(some))
        self.tokens += sum(len(context) + len(continuation) for context, continuation in pairs)
        return [found[i] for i in range(len(pairs))]
