"""The judge: a model's scores, 1 to 5, of rows that a teacher wrote or a dataset version already has."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from tunery.core.errors import ConfigError, ResourceError
from tunery.core.example import Example, prompt_text
from tunery.core.ids import canonical_json, sha256_text
from tunery.core.progress import Progress
from tunery.endpoint.budget import Limits
from tunery.endpoint.journal import Journal
from tunery.endpoint.requests import Call, Requester, request_key
from tunery.synthesise.answers import Malformed, scores_of
from tunery.synthesise.config import RowJudgeConfig
from tunery.synthesise.prompts import prompt

_LABELS_SHOWN = 100


class JudgeContext(NamedTuple):
    """What a judge is given beside the rows."""

    task: str | None
    """What the model is for."""
    labels: Sequence[str] = ()
    """The classes, where answers are a closed set."""
    rubric: str | None = None
    """What matters beyond the general rubric."""


async def judge_scores(
    requester: Requester,
    judging: JudgeContext,
    rows: Sequence[Mapping[str, Any]],
    *,
    of: str,
    pay: bool = True,
) -> list[int] | None:
    """Return a judge's scores of some rows, 1 to 5; None where it gave no answer.

    Rows are objects with ``input`` and ``output``; equal rows ``of`` something else are another request.
    Without ``pay`` only what an earlier call has paid for is read.

    Raises:
        Malformed: The answer is no list of scores.
    """
    template = prompt("judge")
    values = {**judging._asdict(), "labels": judging.labels[:_LABELS_SHOWN], "rows": rows}
    turns = template.turns(values)
    key = request_key(requester.config, {"judge": template.version, "of": of, "turns": turns})
    answer = await requester.answer(key, turns, pay=pay)
    return None if answer is None else scores_of(answer.text, answer.finish, len(rows))


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
) -> Mapping[str, int]:
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

    Returns:
        Example id to score, 1 to 5; a row whose answer could not be read is missing.

    Raises:
        ConfigError: The endpoint's word on the settings, or not one answer could be read.
        ResourceError: The endpoint does not answer, its account is empty, or the budget left rows out.
    """
    size = config.rows_per_request
    batches = iter([examples[i : i + size] for i in range(0, len(examples), size)])
    scores: dict[str, int] = {}
    unread: list[str] = []
    with (
        Journal(journal, judge_identity(config, judging, examples)) as book,
        progress.task(f"Scores from {config.judge.model}", len(examples)) as bar,
    ):
        call = Call(Limits(config.budget_tokens, config.budget_usd), book, now, should_stop)

        async def judge(batch: Sequence[Example]) -> None:
            rows = [{"input": prompt_text(e), "output": e.reference} for e in batch]
            found: list[int] | None = []
            try:
                # What is paid for already is still read once the budget is spent.
                found = await judge_scores(
                    call.requesters[0], judging, rows, of="dataset", pay=not call.budget_spent
                )
            except Malformed as bad:
                unread.append(bad.drop.detail)
            if found is not None:
                scores.update((e.id, score) for e, score in zip(batch, found, strict=False))
                bar.advance(len(batch))

        def step() -> None:
            while not call.closed and len(call.running) < config.judge.concurrency:
                batch = next(batches, None)
                if batch is None:
                    return
                call.start(judge(batch), len(batch))

        call.run([config.judge], step, progress)
    if unread:
        message = f"{len(unread):,} answers of the judge could not be read: {unread[0]}"
        if not scores:
            raise ConfigError(
                message, hint="try a stronger judge, or fewer rows a request: --set rows_per_request=1"
            )
        progress.event(message, level="warn")
    if call.budget_spent:
        raise ResourceError(
            f"the budget pays for the scores of {len(scores):,} of {len(examples):,} rows "
            f"({book.spent.tokens:,} tokens are spent)",
            hint="the same command with a larger budget goes on from here; nothing is paid for twice",
        )
    if call.failed:
        raise ResourceError(
            f"{call.failed:,} requests to the judge brought no answer; "
            f"{len(scores):,} of {len(examples):,} rows have scores",
            hint="the same command asks for what is missing only",
        )
    return scores
