"""JudgeContext: a model's scores, 1 to 5, of rows that a teacher wrote or a dataset version already has."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from tunery.core.errors import ConfigError
from tunery.core.example import Example, prompt_text
from tunery.core.ids import canonical_json, sha256_text
from tunery.core.progress import Progress, ProgressBar
from tunery.synthesise.answers import Malformed, scores_of
from tunery.synthesise.budget import Amount, Budget
from tunery.synthesise.config import RowJudgeConfig, TeacherConfig
from tunery.synthesise.endpoint import Endpoint, Turns
from tunery.synthesise.journal import Journal
from tunery.synthesise.prompts import prompt
from tunery.synthesise.requests import CallOutcome, Requester, request_key

_POLL_S = 0.2
_LABELS_SHOWN = 100


class JudgeContext(NamedTuple):
    """What a judge is given beside the rows."""

    task: str | None
    """What the model is for."""
    labels: Sequence[str] = ()
    """The classes, where answers are a closed set."""
    rubric: str | None = None
    """What matters beyond the general rubric."""


class JudgeRequest(NamedTuple):
    """One request to a judge."""

    key: str
    turns: Turns
    version: str
    """Of the prompt."""


class Judged(NamedTuple):
    """The scores of a judge."""

    scores: Mapping[str, int]
    """Example id to score, 1 to 5; a row whose answer could not be read is missing."""
    spent: Amount
    """In all calls with the same journal."""
    unpaid: bool
    """Whether the budget left rows out."""
    failed: int
    """Requests that no attempt brought an answer to [count]; the same call sends them again."""


def judge_request(
    config: TeacherConfig, judging: JudgeContext, rows: Sequence[Mapping[str, Any]], *, of: str
) -> JudgeRequest:
    """Return the request that asks for the scores of some rows.

    Args:
        config: Who judges.
        judging: What it is given beside the rows.
        rows: Objects with ``input`` and ``output``.
        of: What the rows belong to; equal rows of another are another request.
    """
    template = prompt("judge")
    turns = template.turns(
        {
            "task": judging.task,
            "rows": rows,
            "rubric": judging.rubric,
            "labels": judging.labels[:_LABELS_SHOWN],
        }
    )
    key = request_key(config, {"judge": template.version, "of": of, "turns": turns})
    return JudgeRequest(key, turns, template.version)


def judge_identity(config: RowJudgeConfig, judging: JudgeContext, examples: Sequence[Example]) -> str:
    """Return a hash of who judges what by which words; not of the budget or of where the model lives."""
    about = [
        prompt("judge").version,
        judging.task,
        list(judging.labels),
        judging.rubric,
        config.rows_per_request,
        [e.id for e in examples],
    ]
    return request_key(config.judge, sha256_text(canonical_json(about)))


def judge_rows(  # noqa: PLR0913 - what, by whom and by which words, where it is kept, who is informed
    examples: Sequence[Example],
    config: RowJudgeConfig,
    judging: JudgeContext,
    journal: Path,
    *,
    now: Callable[[], datetime],
    progress: Progress,
    should_stop: Callable[[], bool],
) -> Judged:
    """Have a model score rows, going on where an earlier call with the same journal left off.

    Args:
        examples: What is judged; system turns are left out.
        config: Who judges, and what it may cost.
        judging: What the judge is given beside the rows.
        journal: File of the answers paid for; its folder must exist.
        now: The clock.
        progress: Told of the rows judged.
        should_stop: Asked several times a second; once it says yes, nothing new is sent, what is in flight is
            waited for, and :class:`KeyboardInterrupt` is raised.

    Raises:
        ConfigError: The endpoint's word on the settings, or not one answer could be read.
        ResourceError: The endpoint does not answer, or its account is empty.
    """
    with (
        Journal(journal, judge_identity(config, judging, examples)) as book,
        progress.task(f"Scores from {config.judge.model}", len(examples)) as bar,
    ):
        call = _Call(config, judging, book, bar)
        asyncio.run(call.run(examples, now, should_stop))
        if call.interrupted:
            progress.event(f"{book.kept()}; type the same command again to go on")
            raise KeyboardInterrupt
    if call.outcome.error is not None:
        raise call.outcome.error
    if call.unread:
        message = f"{len(call.unread):,} answers of the judge could not be read: {call.unread[0]}"
        if not call.scores:
            raise ConfigError(
                message, hint="try a stronger judge, or fewer rows a request: --set rows_per_request=1"
            )
        progress.event(message, level="warn")
    return Judged(call.scores, book.spent, call.outcome.budget_spent, call.outcome.failed)


@dataclass(slots=True)
class _Call:
    """One call: its requests and what came of them."""

    config: RowJudgeConfig
    judging: JudgeContext
    journal: Journal
    bar: ProgressBar
    outcome: CallOutcome = field(default_factory=CallOutcome)
    scores: dict[str, int] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)
    interrupted: bool = False

    async def run(
        self, examples: Sequence[Example], now: Callable[[], datetime], should_stop: Callable[[], bool]
    ) -> None:
        """Ask about all rows, as many requests at once as the settings say."""
        size = self.config.rows_per_request
        batches = iter([examples[i : i + size] for i in range(0, len(examples), size)])
        budget = Budget(self.config.budget_tokens, self.config.budget_usd, self.journal.spent)
        async with Endpoint(self.config.judge) as endpoint:
            requester = Requester(endpoint, self.journal, budget, now)
            self.outcome.requesters.append(requester)
            workers = [
                asyncio.create_task(self._work(requester, batches))
                for _ in range(self.config.judge.concurrency)
            ]
            try:
                waiting = set(workers)
                while waiting:
                    ended, waiting = await asyncio.wait(waiting, timeout=_POLL_S)
                    for worker in ended:
                        worker.result()
                    if should_stop() and not self.interrupted:
                        self.interrupted = True
                        self.outcome.close()
            finally:
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)

    async def _work(self, requester: Requester, batches: Iterator[Sequence[Example]]) -> None:
        # What is paid for already is still read once the budget is spent; nothing at all once sending ended.
        for batch in batches:
            if requester.closed:
                return
            rows = [{"input": prompt_text(e), "output": e.reference} for e in batch]
            request = judge_request(self.config.judge, self.judging, rows, of="dataset")
            if self.outcome.budget_spent and self.journal.find(request.key) is None:
                continue
            answer = await self.outcome.answer(requester, request.key, request.turns)
            if answer is None:
                continue
            try:
                found = scores_of(answer.text, answer.finish, len(batch))
            except Malformed as bad:
                self.unread.append(bad.drop.detail)
                found = []
            self.scores.update((e.id, score) for e, score in zip(batch, found, strict=False))
            self.bar.advance(len(batch))
