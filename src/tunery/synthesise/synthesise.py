"""Write synthetic rows: request, read, filter, judge, until there are enough or the budget ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

from tunery.core.dataset import DatasetVersion
from tunery.core.errors import ConfigError, TuneryError
from tunery.core.example import SEED_PROMPTS, Drop, Example
from tunery.core.figures import listed_counts
from tunery.core.progress import Progress, ProgressBar
from tunery.endpoint.budget import Limits
from tunery.endpoint.journal import Journal, PaidAnswer
from tunery.endpoint.requests import Call, sampling
from tunery.synthesise.answers import Candidate, Malformed, candidate_of, json_list
from tunery.synthesise.config import JudgeConfig, SynthesiseConfig
from tunery.synthesise.filter import RowFilter
from tunery.synthesise.judge import JudgeContext, judge_scores
from tunery.synthesise.output import Synthesised, output_files, row_of, write_output
from tunery.synthesise.prompts import prompt
from tunery.synthesise.seeds import RequestSpec, Seeds
from tunery.text.normalise import prompt_fingerprint

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
    files = output_files(out)
    seeds = Seeds(material.version, material.train, config, material.task)
    row_filter = RowFilter(config, material.train, material.held_out, seeds.labels, material.group_threshold)
    with (
        Journal(files.journal, seeds.identity) as journal,
        progress.task(f"Rows from {config.teacher.model}", config.rows) as bar,
    ):
        call = Call(Limits(config.budget_tokens, config.budget_usd), journal, now, should_stop)
        work = _Work(config, material.task, seeds, row_filter, call, bar)
        work.call.run([config.teacher, *([config.judging] if config.judging else [])], work.step, progress)
        rows = work.rows()
        if not rows:
            raise _nothing(work)
        manifest = _manifest(work, material, now())
        return write_output(files, rows[: config.rows], work.rejected, manifest)


def _nothing(work: _Work) -> TuneryError:
    teacher = work.config.teacher
    if work.stopped == "budget" and not work.requests:
        return ConfigError(
            "the budget does not pay for one request: it must cover the prompt, at one token a byte, "
            f"and an answer of {teacher.max_tokens:,} tokens",
            hint="raise --budget-tokens or --budget-usd, or lower teacher.max_tokens",
        )
    counts = Counter(r["reason"] for r in work.rejected)
    reasons = listed_counts(counts) or "no answer"
    first = f"; the first: {work.rejected[0]['detail']}" if work.rejected else ""
    return ConfigError(
        f"not one row of {teacher.model} could be used ({reasons}{first})",
        hint="try a stronger teacher, or fewer rows in one request: --set rows_per_request=2",
    )


def _manifest(work: _Work, material: Material, now: datetime) -> dict[str, Any]:
    config, seeds, call = work.config, work.seeds, work.call
    priced = config.teacher.price_prompt is not None or config.teacher.price_completion is not None
    prompts = {"rows": seeds.prompt.version}
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
        "bought": call.bought,
        "retries": call.retries,
        "failed": call.failed,
        "tokens": call.journal.spent.tokens,
        "tokens_unsure": call.journal.lost.tokens,
        "usd": round(call.journal.spent.usd, 6) if priced else None,
        "unmetered": work.unmetered,
        "stopped": work.stopped if kept < config.rows else None,
        "scores": None if config.judge is None else {str(s): n for s, n in sorted(work.scores.items())},
    }


@dataclass(slots=True)
class _Work:
    """Rows to be: answers not looked at yet, rows kept, rows rejected."""

    config: SynthesiseConfig
    task: str | None
    seeds: Seeds
    row_filter: RowFilter
    call: Call
    bar: ProgressBar
    rejected: list[dict[str, Any]] = field(default_factory=list)
    scores: Counter[int] = field(default_factory=Counter)
    out_of_requests: bool = False
    requests: int = 0
    unmetered: int = 0
    _kept: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    """Index of the request to its rows."""
    _answers: dict[int, tuple[RequestSpec, PaidAnswer | None]] = field(default_factory=dict)
    """Answers that wait for those before them; None where a request came to nothing."""
    _issued: int = 0
    _looked_at: int = 0

    @property
    def stopped(self) -> Literal["budget", "requests"] | None:
        """What ended the call before all rows were there."""
        return "budget" if self.call.budget_spent else "requests" if self.out_of_requests else None

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows kept, in the order of their requests."""
        return [row for index in sorted(self._kept) for row in self._kept[index]]

    def step(self) -> None:
        """Take in what has ended, then send what may be sent."""
        while self._looked_at in self._answers:
            spec, answer = self._answers.pop(self._looked_at)
            self._looked_at += 1
            if answer is not None:
                self._take(spec, answer)
        while self._may_send():
            spec = self.seeds.request(self._issued)
            self._issued += 1
            # What is paid for may still stand behind what is not.
            self.call.start(self._ask(spec, pay=not self.stopped), self.config.rows_per_request)

    def _may_send(self) -> bool:
        if self.call.closed:
            return False
        # Never more than could all be needed: whether request i is sent depends on answers, not on timing.
        waiting = sum(a is not None for _, a in self._answers.values()) * self.config.rows_per_request
        expected = sum(map(len, self._kept.values())) + waiting + sum(self.call.running.values())
        if expected >= self.config.rows:
            return False
        if self._issued >= self.config.most_requests:
            if not self.call.running:
                self.out_of_requests = True
            return False
        return True

    async def _ask(self, spec: RequestSpec, *, pay: bool) -> None:
        answer = await self.call.requesters[0].answer(spec.key, spec.turns, pay=pay)
        self._answers[spec.number] = (spec, answer)

    def _take(self, spec: RequestSpec, answer: PaidAnswer) -> None:
        """Read an answer, filter its rows, and keep them or hand them to the judge."""
        self.requests += 1
        self.unmetered += not answer.metered
        try:
            items = json_list(answer.text, answer.finish)
        except Malformed as bad:
            self._reject(bad.drop, spec, answer.text)
            return
        rows: list[Candidate] = []
        for item in items[: self.config.rows_per_request]:
            try:
                row = candidate_of(item, spec.output)
            except Malformed as bad:
                self._reject(bad.drop, spec, item)
                continue
            drop = self.row_filter.reject(row, spec)
            if drop is None:
                rows.append(row)
            else:
                self._reject(drop, spec, row._asdict())
        if self.config.judge is not None and rows:
            self.call.start(self._judge(self.config.judge, spec, answer, rows), len(rows))
        else:
            self._keep(spec, answer, rows)

    async def _judge(
        self, judge: JudgeConfig, spec: RequestSpec, answer: PaidAnswer, rows: list[Candidate]
    ) -> None:
        requester = self.call.requesters[1]
        judging = JudgeContext(self.task, self.seeds.labels, judge.rubric)
        try:
            scores = await judge_scores(requester, judging, [r._asdict() for r in rows], of=spec.key)
            if scores is None:
                raise Malformed("not_judged", "the judge gave no answer")
        except Malformed as bad:
            for row in rows:
                self._reject(Drop("not_judged", bad.drop.detail), spec, row._asdict())
            return
        self.scores.update(scores)
        for row, score in zip(rows, scores, strict=True):
            if score < judge.threshold:
                detail = f"score {score}, at least {judge.threshold} is required"
                self._reject(Drop("low_score", detail), spec, row._asdict())
            else:
                by = {"score": score, "model": requester.config.model, "prompt": prompt("judge").version}
                self._keep(spec, answer, [row], {"judge": by})

    def _keep(
        self, spec: RequestSpec, answer: PaidAnswer, rows: Sequence[Candidate], note: Mapping[str, Any] = {}
    ) -> None:
        metadata = {
            "source_kind": "synthetic",
            "method": self.config.method,
            "teacher": self.config.teacher.model,
            "endpoint": answer.endpoint,
            "prompt": self.seeds.prompt.version,
            "seeds": [e.id for e in spec.seeds],
            SEED_PROMPTS: [prompt_fingerprint(e) for e in spec.seeds],
            "made_at": answer.at,
            "request_id": answer.request_id,
            **note,
        }
        for row in rows:
            written = row_of(spec.opening, row.input, row.output, metadata)
            self._kept.setdefault(spec.number, []).append(written)
            self.bar.advance()

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
