"""One step of the engine: forward over all rows, next tokens chosen, finished rows answered."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import NamedTuple

import torch

from tunery.core.engine import FinishReason, TokenEvent, TopLogprob
from tunery.core.errors import ConfigError
from tunery.core.faults import is_out_of_memory
from tunery.model.token_bytes import ShownToken, TokenBytes
from tunery.model.tokenizer import ChatTokenizer
from tunery.serve.engines.embedded.attention import RowSpan
from tunery.serve.engines.embedded.causal_lm import CausalLm
from tunery.serve.engines.embedded.constraints import ConstraintState
from tunery.serve.engines.embedded.kv_arena import KvArena
from tunery.serve.engines.embedded.request import CompletionRow, Row, ScoreRow
from tunery.serve.engines.embedded.sampling import sample
from tunery.serve.engines.embedded.scheduler import Scheduler, Step

_NOT_FINITE = "the model gives logits that are not finite numbers for this request"


class _Likely(NamedTuple):
    """A token and how likely it was, as far as that was asked for."""

    token_id: int
    logprob: float | None = None
    top: tuple[TopLogprob, ...] = ()
    shown: ShownToken = ShownToken("", b"")

    def event(self, *, text: str) -> TokenEvent:
        """Return it as a step of a completion in which ``text`` became final."""
        return TokenEvent(self.token_id, text, self.logprob, self.top, self.shown.text, self.shown.raw)


class Decoder:
    """Runs steps; used by the engine's thread alone.

    Args:
        model: The base with its adapters.
        arena: Keys and values of running rows.
        scheduler: Chooses what a step computes.
        tokenizer: Says what ends a turn, and how tokens read.
    """

    def __init__(
        self, model: CausalLm, arena: KvArena, scheduler: Scheduler, tokenizer: ChatTokenizer
    ) -> None:
        self._model = model
        self._arena = arena
        self._scheduler = scheduler
        self._tokenizer = tokenizer
        self._bytes = TokenBytes(tokenizer.hf)

    @torch.inference_mode()
    def step(self) -> None:
        """Compute one step and answer what it finishes.

        Where there is no memory for it, stored prompts are forgotten; where there still is none, the request
        that asks for most ends with an error, and the next step is tried without it.
        """
        step = self._scheduler.next_step()
        if not step.work:
            return
        try:
            logits, wanted = self._forward(step)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            self._scheduler.relieve(step)
            return
        for work in step.work:
            self._scheduler.advance(work)
        completing: list[CompletionRow] = []
        lines: list[int] = []
        line = 0
        for work, positions in zip(step.work, wanted, strict=True):
            row = work.row
            if isinstance(row, ScoreRow):
                self._score(row, logits[line : line + len(positions)], positions)
            elif isinstance(row, CompletionRow) and positions:
                if row.reads_prompt and not self._read_prompt(row, positions, logits[line:]):
                    self._fail(row, _NOT_FINITE)
                elif row.pending == 0 and row.max_tokens == 0:
                    self._end(row, "length", [])
                elif row.pending == 0:
                    completing.append(row)
                    lines.append(line + len(positions) - 1)
            line += len(positions)
        if not completing:
            return
        try:
            self._extend(completing, logits if len(lines) == len(logits) else logits[lines])
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            # Their tokens are computed and their next ones are not chosen: there is no step to try again.
            for row in completing:
                if row in self._scheduler.rows:
                    self._scheduler.refuse(row)

    def _forward(self, step: Step) -> tuple[torch.Tensor, list[range]]:
        """Return logits of wanted positions, and which positions of each row those are."""
        decoding = [w.row.adapter for w in step.work[: step.decoding]]
        ids: list[int] = []
        packed: list[int] = []
        wanted: list[range] = []
        for work in step.work:
            row = work.row
            positions = row.wanted(work.size)
            packed += [len(ids) + p - row.computed for p in positions]
            wanted.append(positions)
            ids += row.tokens[row.computed : row.computed + work.size]
        bank = self._model.adapters
        logits = self._model.forward(
            ids,
            self._model.batch(
                self._arena,
                decoding=step.decoding,
                spans=[RowSpan(w.slot, w.row.computed, w.size) for w in step.work],
            ),
            wanted=packed,
            body=bank.runs(decoding, [(w.row.adapter, w.size) for w in step.work[step.decoding :]]),
            head=bank.runs((), [(w.row.adapter, len(p)) for w, p in zip(step.work, wanted, strict=True)]),
        )
        return logits, wanted

    def _extend(self, rows: Sequence[CompletionRow], logits: torch.Tensor) -> None:
        """Choose each row's next token, and end rows that are done."""
        allowed = self._mask(rows, logits)
        best, ids = allowed.max(dim=-1)
        finite, tokens = torch.isfinite(best).tolist(), ids.tolist()
        for index, row in enumerate(rows):
            if not finite[index]:
                self._refuse(row)
                continue
            sampling = row.request.sampling
            token = tokens[index]
            if sampling.temperature > 0:
                token = sample(
                    allowed[index],
                    temperature=sampling.temperature,
                    top_p=sampling.top_p,
                    source=row.source,
                    top_k=sampling.top_k,
                    min_p=sampling.min_p,
                )
            try:
                self._accept(row, token, logits[index])
            except Exception as error:
                row.fail(error)
                self._scheduler.remove(row)

    def _read_prompt(self, row: CompletionRow, positions: range, logits: torch.Tensor) -> bool:
        """Note how likely the prompt's tokens after these positions were; False where that is no number.

        Args:
            logits: Those of the positions, shape ``(at least len(positions), vocabulary)``.
        """
        prompt, alternatives = row.request.prompt, row.request.prompt_logprobs or 0
        if not row.prompt_events:
            first = self._bytes.shown(prompt[0], first=True)
            row.prompt_events.append(TokenEvent(prompt[0], "", None, (), first.text, first.raw))
        for position, line in zip(positions, logits, strict=False):
            if position + 1 < len(prompt):
                likely = self._likelihoods(prompt[position + 1], line, alternatives)
                row.prompt_events.append(likely.event(text=""))
        return not any(math.isnan(event.logprob or 0.0) for event in row.prompt_events)

    def _mask(self, rows: Sequence[CompletionRow], logits: torch.Tensor) -> torch.Tensor:
        """Return logits as rows adjust them, with ``-inf`` where a constraint does not allow a token."""
        if all(row.constraint is None and row.adjustment is None for row in rows):
            return logits
        masked = logits.clone()
        for index, row in enumerate(rows):
            if row.adjustment is not None:
                row.adjustment.apply_(masked[index])
            if row.constraint is not None:
                allowed = torch.from_numpy(row.constraint.allowed()).to(logits.device)
                size = min(len(allowed), logits.shape[1])
                masked[index, :size].masked_fill_(~allowed[:size], float("-inf"))
                masked[index, size:] = float("-inf")
            if row.adjustment is not None:
                row.adjustment.put_off_end_(masked[index])
        return masked

    def _refuse(self, row: CompletionRow) -> None:
        """End a row that has no token to choose: its grammar gave up, or its logits are no numbers."""
        lost = row.constraint.error if row.constraint else None
        if lost:
            row.fail(ConfigError(f"the completion cannot follow its constraint: {lost}"))
            self._scheduler.remove(row)
        else:
            self._fail(row, _NOT_FINITE)

    def _score(self, row: ScoreRow, logits: torch.Tensor, positions: range) -> None:
        try:
            if positions:
                row.add(logits, positions.start)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            self._scheduler.refuse(row)
            return
        if row.pending == 0:
            self._answer_score(row)

    def _answer_score(self, row: ScoreRow) -> None:
        if any(math.isnan(score.logprob) for score in row.scores):
            self._fail(row, _NOT_FINITE)
        else:
            row.finish()
            self._scheduler.remove(row)

    def _fail(self, row: Row, reason: str) -> None:
        """Answer with an error, and leave no NaN in the slot."""
        row.fail(ConfigError(reason, hint="load other weights: these are damaged, or training diverged"))
        self._arena.clear(self._scheduler.rows.index(row))
        self._scheduler.remove(row)

    def _accept(self, row: CompletionRow, token: int, logits: torch.Tensor) -> None:
        """Add a token to its row, send it to the client, and end the row if it was the last."""
        if row.first_token_at is None:
            row.first_token_at = time.perf_counter()
        alternatives = row.request.sampling.logprobs
        likely = _Likely(token)
        if alternatives is not None:
            likely = self._likelihoods(token, logits, alternatives, first=not row.generated)
        if token in row.ends:
            self._emit(row, likely.event(text=row.stream.finish()))
            self._end(row, "stop", row.generated)
            return
        if row.constraint is not None:
            row.constraint.accept(token)
        if row.adjustment is not None:
            row.adjustment.count(token)
        row.tokens.append(token)
        text = row.stream.push(token)
        complete = row.constraint is not None and row.constraint.complete
        full = row.room == 0
        if complete or full:
            text += row.stream.finish()
        self._emit(row, likely.event(text=text))
        if row.stream.stopped:
            self._end(row, "stop", row.generated[:-1])  # the token that completed the stop string
        elif complete:
            self._end(row, "stop", row.generated)
        elif full:
            self._end(row, "length", row.generated)
        elif row.constraint is not None and alternatives is None:
            self._write_out(row, row.constraint)

    def _write_out(self, row: CompletionRow, constraint: ConstraintState) -> None:
        """Complete a label that is the only one left: nothing the model says could change it."""
        rest = constraint.rest(self._tokenizer.decode(row.generated))
        if not rest:
            return
        ids = self._tokenizer.encode(rest)
        if len(ids) > row.room or not row.ends.isdisjoint(ids) or not constraint.accepts(ids):
            return
        for position, token in enumerate(ids, 1):
            row.tokens.append(token)
            text = row.stream.push(token) + (row.stream.finish() if position == len(ids) else "")
            self._emit(row, TokenEvent(token, text, None, ()))
            if row.stream.stopped:
                self._end(row, "stop", row.generated[:-1])
                return
        self._end(row, "stop", row.generated)

    def _end(self, row: CompletionRow, reason: FinishReason, ids: list[int]) -> None:
        row.finish(reason, ids)
        self._scheduler.remove(row)

    def _likelihoods(
        self, token: int, logits: torch.Tensor, alternatives: int, *, first: bool = False
    ) -> _Likely:
        """Return what the model itself gave the token, before temperature and constraint.

        Args:
            alternatives: Most likely tokens to tell of [count].
            first: Whether the token begins the completion.
        """
        logprobs = torch.log_softmax(logits.double(), dim=-1)  # [nats]
        values, ids = logprobs.topk(alternatives)
        top = []
        for i, value in zip(ids.tolist(), values.tolist(), strict=True):
            shown = self._bytes.shown(i, first=first)
            top.append(TopLogprob(i, shown.text, value, shown.raw))
        return _Likely(token, float(logprobs[token]), tuple(top), self._bytes.shown(token, first=first))

    def _emit(self, row: CompletionRow, event: TokenEvent) -> None:
        if row.request.sampling.logprobs is not None:
            row.events.append(event)
        if row.on_token is not None:
            row.on_token(event)
