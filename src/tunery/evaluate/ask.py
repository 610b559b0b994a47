"""Put a task's questions to an engine: greedy answers, and the likelihood of the answers given."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

from tunery.core.engine import Engine, GenerationRequest, Sampling, Score, Tokenizer
from tunery.core.errors import ConfigError, RefusedByTemplate
from tunery.core.example import Example
from tunery.core.progress import Progress
from tunery.evaluate.kept import NOTHING, Answer, KeptAnswers
from tunery.evaluate.metrics import PERPLEXITY, PREFERENCE_ACCURACY
from tunery.evaluate.prompting import Subject
from tunery.evaluate.repeats import seed_of
from tunery.evaluate.task import Task, draw_stratified

T = TypeVar("T")
CHOICES = "choices"
"""Metadata of a row whose answer is one of these texts, the likeliest, and not written freely."""
BEGUN = "begun"
"""Metadata of a row whose answer goes on from this text, as if the model had written it."""


class Completions(NamedTuple):
    """What the engine gave."""

    answers: tuple[Answer, ...]
    """One for each example, in order."""
    likelihoods: Mapping[str, Score]
    """Example id to the likelihood of its reference, for the rows drawn for perplexity."""
    tokens: int
    """Prompt and completion tokens processed [count]."""
    margins: Mapping[str, float] = {}
    """Example id to how much likelier its preferred answer is than the rejected one, for preference pairs
    [nats]."""
    unasked: Mapping[str, str] = {}
    """Example id to why it could not be put to the engine; its answer is empty."""
    unscored: int = 0
    """Rows that are left out of perplexity or of preference accuracy, as prompt and answer do not fit the
    window [count]."""
    answering_s: float | None = None
    """Wall time of all answers; those of an earlier call count as long as those of this one [s]."""
    usd: float | None = None
    """What an endpoint took for them [US dollars]."""


def ask(
    engine: Engine,
    tokenizer: Tokenizer,
    task: Task,
    *,
    subject: Subject,
    progress: Progress,
    kept: KeptAnswers | None = None,
) -> Completions:
    """Ask a subject every question of a task, batch by batch so that progress can be shown.

    Prompts of one subject share their beginning (system turn, solved examples), which an engine with a
    prefix cache computes once. Prompts are written when their batch is due, so that memory holds the answers
    and no more than a batch of prompts.

    A row whose prompt leaves no room for an answer, or that the base's template refuses, gets an empty
    answer: another model might have given one, so it stays in the comparison.

    Args:
        engine: What answers.
        tokenizer: Of its base.
        task: The questions.
        subject: Who is asked, and how.
        progress: Told of every batch.
        kept: Answers of an earlier call that was cut off; each batch is added to them.

    Raises:
        NotFoundError: The engine does not hold the adapter.
        ConfigError: No row at all can be put to the engine; lists them.
    """
    if subject.prompting.day is not None:
        tokenizer = tokenizer.on_day(subject.prompting.day)
    asking = _Asking(engine, tokenizer, task, subject, progress, kept or KeptAnswers())
    asking.answer()
    if len(asking.unasked) == len(task.examples):
        problems = [f"example {id_}: {why}" for id_, why in asking.unasked.items()]
        raise ConfigError.of_problems(subject.name, problems, limit=20)
    return asking.likelihoods()


class _Asking:
    """One subject's way through a task."""

    def __init__(
        self,
        engine: Engine,
        tokenizer: Tokenizer,
        task: Task,
        subject: Subject,
        progress: Progress,
        kept: KeptAnswers,
    ) -> None:
        self.engine, self.tokenizer, self.task, self.subject = engine, tokenizer, task, subject
        self.progress, self.kept = progress, kept
        self.unasked: dict[str, str] = {}
        self.spent_s, self.answered = 0.0, 0

    def answer(self) -> None:
        """Put every question that has no answer yet."""
        name, constraint = self.subject.loaded_as, self.subject.prompting.constraint
        size = self.task.config.rows_per_batch
        bar = f"{self.subject.name}: answering"
        for batch in _batches(self.task.examples, size, self.progress, bar):
            prompts = {e.id: ids for e in batch if (ids := self._prompt(e)) is not None}
            new = [id_ for id_ in prompts if id_ not in self.kept.answers]
            offered = {e.id: choices for e in batch if e.id in new and (choices := choices_of(e))}
            self.kept.add_answers(self._choose(offered, prompts))
            new = [id_ for id_ in new if id_ not in offered]
            how = {e.id: self._sampling(e) for e in batch}
            requests = [GenerationRequest(prompts[id_], name, how[id_], constraint) for id_ in new]
            started = time.monotonic()
            given = self.engine.generate(requests) if requests else []
            self.spent_s, self.answered = (
                self.spent_s + time.monotonic() - started,
                self.answered + len(given),
            )
            self.kept.add_answers({id_: Answer.of(one) for id_, one in zip(new, given, strict=True)})

    def _sampling(self, example: Example) -> Sampling:
        """Return how a row's answer is drawn: greedily, or by a seed of its own."""
        config = self.task.config
        return Sampling(
            max_tokens=config.max_new_tokens,
            temperature=config.temperature,
            seed=seed_of(config.seed, example) if config.temperature else None,
            logprobs=0 if config.confidence else None,
        )

    def _choose(
        self, offered: Mapping[str, Sequence[str]], prompts: Mapping[str, tuple[int, ...]]
    ) -> dict[str, Answer]:
        """Answer with the choice that is likeliest for its length in characters, the first of equals.

        Choices of one length are ranked by likelihood alone, longer and shorter ones as
        lm-evaluation-harness ranks them for its ``acc_norm``. A row of which no choice fits the window is
        answered with nothing, and so is one whose likelihoods are no numbers.
        """
        rows = [(id_, text, self.tokenizer.encode(text)) for id_, texts in offered.items() for text in texts]
        window = self.engine.context_window
        rows = [row for row in rows if row[2] and len(prompts[row[0]]) + len(row[2]) <= window]
        pairs = [(prompts[id_], ids) for id_, _, ids in rows]
        scores = self.engine.score(pairs, self.subject.loaded_as) if pairs else []
        best: dict[str, tuple[float, str]] = {}
        lengths = dict.fromkeys(offered, 0)
        for (id_, text, ids), score in zip(rows, scores, strict=True):
            likelihood = score.logprob / len(text)
            lengths[id_] += len(prompts[id_]) + len(ids)
            if math.isfinite(likelihood) and (id_ not in best or likelihood > best[id_][0]):
                best[id_] = (likelihood, text)
        return {
            id_: NOTHING._replace(text=text, finish_reason="stop", prompt_tokens=lengths[id_])
            for id_, (_, text) in best.items()
        }

    def likelihoods(self) -> Completions:
        """Compute the likelihoods that metrics want, and return everything."""
        task, kept = self.task, self.kept
        measured = PERPLEXITY in task.metrics and self.subject.perplexity
        limit = task.config.perplexity_limit if measured else 0
        drawn = draw_stratified(task.examples, limit, seed=task.config.seed)
        ranked = PREFERENCE_ACCURACY in task.metrics and self.subject.perplexity
        pairs = [e for e in task.examples if ranked and e.rejected is not None]
        wanted = {_of_reference(e.id): (e, e.reference) for e in (*drawn, *pairs)}
        wanted |= {_of_rejected(e.id): (e, str(e.rejected)) for e in pairs}
        bar = f"{self.subject.name}: likelihoods"
        for names in _batches(list(wanted), task.config.rows_per_batch, self.progress, bar):
            rows = {n: self._row(*wanted[n]) for n in names if n not in kept.scores}
            fitting = {n: row for n, row in rows.items() if row is not None}
            given = self.engine.score(list(fitting.values()), self.subject.loaded_as) if fitting else []
            kept.add_scores(dict(zip(fitting, given, strict=True)))
        scores = kept.scores
        tokens = sum(one.prompt_tokens + one.completion_tokens for one in kept.answers.values())
        return Completions(
            tuple(kept.answers.get(e.id, NOTHING) for e in task.examples),
            {e.id: scores[_of_reference(e.id)] for e in drawn if _of_reference(e.id) in scores},
            tokens
            + sum(
                scores[name].tokens + kept.answers[example.id].prompt_tokens
                for name, (example, _) in wanted.items()
                if name in scores
            ),
            {
                e.id: scores[_of_reference(e.id)].logprob - scores[_of_rejected(e.id)].logprob
                for e in pairs
                if _of_reference(e.id) in scores and _of_rejected(e.id) in scores
            },
            self.unasked,
            len({example.id for name, (example, _) in wanted.items() if name not in scores}),
            self.spent_s / self.answered * len(kept.answers) if self.answered else None,
        )

    def _row(self, example: Example, text: str) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
        """Return prompt and answer as ids, None where they do not fit the window together."""
        prompt = self._prompt(example)
        completion = completion_ids(self.tokenizer, text)
        if prompt is None or len(prompt) + len(completion) > self.engine.context_window:
            return None
        return prompt, completion

    def _prompt(self, example: Example) -> tuple[int, ...] | None:
        """Return a row's prompt; None where it cannot be put to the engine, which is noted."""
        try:
            ids = self.tokenizer.render_prompt(self.subject.prompting.conversation(example))
        except RefusedByTemplate as refusal:
            self.unasked[example.id] = refusal.message
            return None
        if begun := example.metadata.get(BEGUN):
            ids = (*ids, *self.tokenizer.encode(str(begun)))
        window = self.engine.context_window
        if len(ids) < window:
            return ids
        self.unasked[example.id] = (
            f"its {len(ids):,} prompt tokens leave none of the engine's {window:,} for an answer"
        )
        return None


def choices_of(example: Example) -> tuple[str, ...]:
    """Return the answers that a row offers to choose from; none where the answer is to be written."""
    offered = example.metadata.get(CHOICES)
    return tuple(map(str, offered)) if isinstance(offered, (list, tuple)) else ()


def _of_reference(id_: str) -> str:
    return id_


def _of_rejected(id_: str) -> str:
    return f"{id_} rejected"


def completion_ids(tokenizer: Tokenizer, reference: str) -> tuple[int, ...]:
    """Return the ids whose likelihood perplexity measures: the reference and the stop token after it.

    With them perplexity is the exponential of the loss that training reports. Where several tokens may end
    a turn the port does not say which one the template writes, so none is counted.
    """
    stop = tuple(tokenizer.stop_ids)
    return (*tokenizer.encode(reference), *(stop if len(stop) == 1 else ()))


def _batches(rows: Sequence[T], size: int, progress: Progress, description: str) -> Iterator[Sequence[T]]:
    """Yield rows in batches and move a bar after each was worked on."""
    if not rows:
        return
    with progress.task(description, len(rows)) as bar:
        for start in range(0, len(rows), size):
            batch = rows[start : start + size]
            yield batch
            bar.advance(len(batch))
