"""Write synthetic rows: request, read, filter, judge, until there are enough or the budget ends."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

from tunery.core.dataset import DatasetVersion
from tunery.core.errors import ConfigError, TuneryError
from tunery.core.example import SEED_PROMPTS, Drop, Example
from tunery.core.figures import listed_counts
from tunery.core.progress import Progress, ProgressBar
from tunery.synthesise.answers import Candidate, Malformed, candidate_of, json_list, scores_of
from tunery.synthesise.budget import Budget
from tunery.synthesise.config import JudgeConfig, SynthesiseConfig
from tunery.synthesise.endpoint import Endpoint
from tunery.synthesise.filter import RowFilter
from tunery.synthesise.journal import Journal, PaidAnswer
from tunery.synthesise.judge import JudgeContext, judge_request
from tunery.synthesise.output import Synthesised, check_output, files_of, row_of, write_output
from tunery.synthesise.prompts import prompt
from tunery.synthesise.requests import CallOutcome, Requester, sampling
from tunery.synthesise.seeds import RequestSpec, Seeds
from tunery.text.normalise import prompt_fingerprint

_POLL_S = 0.2
_REJECTED_CHARS = 2000


class Material(NamedTuple):
    """What rows are made from."""

    version: DatasetVersion
    train: Sequence[Example]
    held_out: Sequence[Example]
    """Validation and test rows: never shown to the teacher, and nothing like them is let in."""
    task: str | None
    """What the tuned model is for."""
    group_threshold: float
    """Similarity from which curation puts two rows into one split."""


def make_synthetic(
    material: Material,
    config: SynthesiseConfig,
    out: Path,
    *,
    now: Callable[[], datetime],
    progress: Progress,
    should_stop: Callable[[], bool],
) -> Synthesised:
    """Write a file of synthetic rows, going on where an earlier call with the same output left off.

    Which rows come out depends on the settings and on what the teacher answers, not on the order in which
    answers arrive. Every answer is on disk before it is used, so a call that is killed and typed again pays
    for what is missing only; the budget holds for all calls with one output together.

    Args:
        material: Training rows to show, held-out rows to keep away from.
        config: The settings.
        out: The file, ending with ``.jsonl``; rejected rows, journal and manifest lie beside it.
        now: The clock.
        progress: Where rows are reported to.
        should_stop: Asked several times a second; once it says yes, nothing new is sent, what is in flight is
            waited for, and :class:`KeyboardInterrupt` is raised.

    Returns:
        The manifest; ``stopped`` says whether budget or requests ran out before all rows were there.

    Raises:
        ConfigError: The settings, or the endpoint's word on them; or not one row could be used.
        ConflictError: The output belongs to something else.
        ResourceError: The endpoint does not answer, or its account is empty.
    """
    files = files_of(out)
    check_output(files)
    seeds = Seeds(material.version, material.train, config, material.task)
    row_filter = RowFilter(config, material.train, material.held_out, seeds.labels, material.group_threshold)
    with (
        Journal(files.journal, seeds.identity) as journal,
        progress.task(f"Rows from {config.teacher.model}", config.rows) as task,
    ):
        work = _Work(config, material.task, seeds, row_filter, journal, task, now, should_stop)
        asyncio.run(work.run())
        if work.interrupted:
            progress.event(f"{journal.kept()}; type the same command again to go on")
            raise KeyboardInterrupt
        rows = work.rows()
        if not rows:
            raise _nothing(work, config)
        manifest = _manifest(work, material, seeds, now())
        return write_output(files, rows[: config.rows], work.rejected, manifest)


def _nothing(work: _Work, config: SynthesiseConfig) -> TuneryError:
    if work.stopped == "budget" and not work.requests:
        return ConfigError(
            "the budget does not pay for one request: it must cover the prompt, at one token a byte, "
            f"and an answer of {config.teacher.max_tokens:,} tokens",
            hint="raise --budget-tokens or --budget-usd, or lower teacher.max_tokens",
        )
    counts = Counter(r["reason"] for r in work.rejected)
    reasons = listed_counts(counts) or "no answer"
    first = f"; the first: {work.rejected[0]['detail']}" if work.rejected else ""
    return ConfigError(
        f"not one row of {config.teacher.model} could be used ({reasons}{first})",
        hint="try a stronger teacher, or fewer rows in one request: --set rows_per_request=2",
    )


def _manifest(work: _Work, material: Material, seeds: Seeds, now: datetime) -> dict[str, Any]:
    config, journal = work.config, work.journal
    priced = config.teacher.price_prompt is not None or config.teacher.price_completion is not None
    prompts = {"rows": seeds.prompt_version}
    if config.judge is not None:
        prompts["judge"] = prompt("judge").version
    kept = len(work.rows())
    return {
        "identity": seeds.identity,
        "created_at": now,
        "dataset_version": material.version.id,
        "method": config.method,
        "teacher": config.teacher.model,
        "endpoint": config.teacher.host,
        "prompts": prompts,
        "sampling": sampling(config.teacher),
        "seed_rows": len(seeds.pool),
        "rows_asked": config.rows,
        "rows": min(kept, config.rows),
        "surplus": max(0, kept - config.rows),
        "rejected": dict(sorted(Counter(r["reason"] for r in work.rejected).items())),
        "requests": work.requests,
        "bought": sum(a.bought for a in work.outcome.requesters),
        "retries": sum(a.retries for a in work.outcome.requesters),
        "failed": work.outcome.failed,
        "tokens": journal.spent.tokens,
        "tokens_unsure": journal.lost.tokens,
        "usd": round(journal.spent.usd, 6) if priced else None,
        "unmetered": work.unmetered,
        "stopped": work.stopped if kept < config.rows else None,
        "scores": None if config.judge is None else {str(s): n for s, n in sorted(work.scores.items())},
    }


class _Accepted(NamedTuple):
    """A row that passed the filter."""

    candidate: Candidate
    spec: RequestSpec
    answer: PaidAnswer


@dataclass(slots=True)
class _Work:
    """One call: requests in flight, answers not looked at yet, rows kept."""

    config: SynthesiseConfig
    task_text: str | None
    seeds: Seeds
    row_filter: RowFilter
    journal: Journal
    task: ProgressBar
    now: Callable[[], datetime]
    should_stop: Callable[[], bool]
    rejected: list[dict[str, Any]] = field(default_factory=list)
    scores: Counter[int] = field(default_factory=Counter)
    outcome: CallOutcome = field(default_factory=CallOutcome)
    out_of_requests: bool = False
    interrupted: bool = False
    requests: int = 0
    unmetered: int = 0
    _kept: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    """Index of the request to its rows."""
    _answers: dict[int, tuple[RequestSpec, PaidAnswer | None]] = field(default_factory=dict)
    """Answers that wait for those before them; None where a request came to nothing."""
    _running: dict[asyncio.Task[None], int] = field(default_factory=dict)
    """Task to the rows expected of it at most."""
    _issued: int = 0
    _looked_at: int = 0

    @property
    def stopped(self) -> Literal["budget", "requests"] | None:
        """What ended the call before all rows were there."""
        return "budget" if self.outcome.budget_spent else "requests" if self.out_of_requests else None

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows kept, in the order of their requests."""
        return [row for index in sorted(self._kept) for row in self._kept[index]]

    async def run(self) -> None:
        """Work until there are enough rows or there is a reason to stop.

        Raises:
            TuneryError: Only the user can fix what the endpoint refuses.
        """
        config, judging = self.config, self.config.judging
        budget = Budget(config.budget_tokens, config.budget_usd, self.journal.spent)
        async with AsyncExitStack() as stack:
            for settings in (config.teacher, *([judging] if judging else [])):
                endpoint = await stack.enter_async_context(Endpoint(settings))
                self.outcome.requesters.append(Requester(endpoint, self.journal, budget, self.now))
            try:
                while True:
                    self._advance()
                    if not self._running:
                        break
                    await asyncio.wait(self._running, timeout=_POLL_S, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for running in self._running:
                    running.cancel()
                await asyncio.gather(*self._running, return_exceptions=True)
        if self.outcome.error is not None and not self.interrupted:
            raise self.outcome.error

    def _advance(self) -> None:
        """Take in what has ended, then send what may be sent."""
        for ended in [t for t in self._running if t.done()]:
            del self._running[ended]
            ended.result()
        while self._looked_at in self._answers:
            spec, answer = self._answers.pop(self._looked_at)
            self._looked_at += 1
            if answer is not None:
                self._take(spec, answer)
        if self.should_stop() and not self.interrupted:
            self.interrupted = True
            self.outcome.close()
        while self._may_send():
            spec = self.seeds.request(self._issued)
            self._issued += 1
            if self.stopped and self.journal.find(spec.key) is None:
                self._answers[spec.number] = (spec, None)  # what is paid for may still stand behind it
                continue
            self._start(self._ask(spec), self.config.rows_per_request)

    def _may_send(self) -> bool:
        if self.interrupted or self.outcome.error:
            return False
        # Never more than could all be needed: whether request i is sent depends on answers, not on timing.
        waiting = sum(a is not None for _, a in self._answers.values()) * self.config.rows_per_request
        expected = sum(map(len, self._kept.values())) + waiting + sum(self._running.values())
        if expected >= self.config.rows:
            return False
        if self._issued >= self.config.most_requests:
            if not self._running:
                self.out_of_requests = True
            return False
        return True

    def _start(self, work: Coroutine[Any, Any, None], rows: int) -> None:
        self._running[asyncio.create_task(work)] = rows

    async def _ask(self, spec: RequestSpec) -> None:
        self._answers[spec.number] = (
            spec,
            await self.outcome.answer(self.outcome.requesters[0], spec.key, spec.turns),
        )

    def _take(self, spec: RequestSpec, answer: PaidAnswer) -> None:
        """Read an answer, filter its rows, and keep them or hand them to the judge."""
        self.requests += 1
        self.unmetered += not answer.metered
        try:
            items = json_list(answer.text, answer.finish)
        except Malformed as bad:
            self._reject(bad.drop, spec, answer.text)
            return
        accepted: list[_Accepted] = []
        for item in items[: self.config.rows_per_request]:
            try:
                candidate = candidate_of(item, spec.output)
            except Malformed as bad:
                self._reject(bad.drop, spec, item)
                continue
            drop = self.row_filter.reject(candidate, spec)
            if drop is not None:
                self._reject(drop, spec, candidate._asdict())
                continue
            accepted.append(_Accepted(candidate, spec, answer))
        if self.config.judge is not None and accepted:
            self._start(self._judge(self.config.judge, accepted), len(accepted))
        else:
            self._keep(accepted, [{} for _ in accepted])

    async def _judge(self, judge: JudgeConfig, accepted: list[_Accepted]) -> None:
        requester, spec = self.outcome.requesters[1], accepted[0].spec
        rows = [m.candidate._asdict() for m in accepted]
        config = self.config.judging or self.config.teacher
        judging = JudgeContext(self.task_text, self.seeds.labels, judge.rubric)
        request = judge_request(config, judging, rows, of=spec.key)
        answer = await self.outcome.answer(requester, request.key, request.turns)
        try:
            if answer is None:
                raise Malformed(Drop("not_judged", "the judge gave no answer"))
            scores = scores_of(answer.text, answer.finish, len(accepted))
        except Malformed as bad:
            for row in accepted:
                self._reject(Drop("not_judged", bad.drop.detail), spec, row.candidate._asdict())
            return
        kept: list[_Accepted] = []
        notes: list[dict[str, Any]] = []
        for row, score in zip(accepted, scores, strict=True):
            self.scores[score] += 1
            if score < judge.threshold:
                detail = f"score {score}, at least {judge.threshold} is required"
                self._reject(Drop("low_score", detail), spec, row.candidate._asdict())
                continue
            kept.append(row)
            notes.append({"judge": {"score": score, "model": config.model, "prompt": request.version}})
        self._keep(kept, notes)

    def _keep(self, accepted: Sequence[_Accepted], notes: Sequence[Mapping[str, Any]]) -> None:
        for row, note in zip(accepted, notes, strict=True):
            metadata = {**self._provenance(row.spec, row.answer), **note}
            written = row_of(row.spec.opening, row.candidate.input, row.candidate.output, metadata)
            self._kept.setdefault(row.spec.number, []).append(written)
            self.task.advance()

    def _provenance(self, spec: RequestSpec, answer: PaidAnswer) -> dict[str, Any]:
        return {
            "source_kind": "synthetic",
            "method": self.config.method,
            "teacher": self.config.teacher.model,
            "endpoint": answer.endpoint,
            "prompt": spec.prompt,
            "seeds": [e.id for e in spec.seeds],
            SEED_PROMPTS: [prompt_fingerprint(e) for e in spec.seeds],
            "made_at": answer.at,
            "request_id": answer.request_id,
        }

    def _reject(self, drop: Drop, spec: RequestSpec, content: Any) -> None:
        text = content if isinstance(content, str) else str(content)
        text = text.encode("utf-8", "backslashreplace").decode("utf-8")
        self.rejected.append(
            {
                "reason": drop.reason,
                "detail": drop.detail,
                "request": spec.number,
                "seeds": [e.id for e in spec.seeds],
                "text": text[:_REJECTED_CHARS],
            }
        )
