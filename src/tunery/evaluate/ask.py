"""Put a task's questions to an engine: greedy answers, and the likelihood of the references."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

from tunery.core.engine import Engine, Generation, GenerationRequest, Sampling, Score, Tokenizer
from tunery.core.errors import ConfigError
from tunery.core.progress import Progress
from tunery.evaluate.metrics import PERPLEXITY
from tunery.evaluate.prompting import Subject
from tunery.evaluate.task import Task, draw_stratified

T = TypeVar("T")


class Completions(NamedTuple):
    """What the engine gave."""

    generations: tuple[Generation, ...]
    """One for each example, in order."""
    likelihoods: Mapping[str, Score]
    """Example id to the likelihood of its reference, for the rows drawn for perplexity."""
    tokens: int
    """Prompt and completion tokens processed [count]."""


def ask(
    engine: Engine, tokenizer: Tokenizer, task: Task, *, subject: Subject, progress: Progress
) -> Completions:
    """Ask a subject every question of a task, batch by batch so that progress can be shown.

    Prompts of one subject share their beginning (system turn, solved examples), which an engine with a
    prefix cache computes once.

    Raises:
        NotFoundError: The engine does not hold the adapter.
        ConfigError: Prompts do not fit the engine's context window; lists them, before any is answered.
    """
    prompts = {e.id: tokenizer.render_prompt(subject.prompting.conversation(e)) for e in task.examples}
    _check_lengths(prompts, engine.context_window, subject)
    sampling = Sampling(max_tokens=task.config.max_new_tokens)
    requests = [
        GenerationRequest(prompts[e.id], subject.adapter, sampling, subject.prompting.constraint)
        for e in task.examples
    ]
    size = task.config.rows_per_batch
    generations: list[Generation] = []
    for batch in _batches(requests, size, progress, f"{subject.name}: answering"):
        generations += engine.generate(batch)
    tokens = sum(g.prompt_tokens + g.completion_tokens for g in generations)
    measured = PERPLEXITY in task.metrics and subject.perplexity
    limit = task.config.perplexity_limit if measured else 0
    rows = draw_stratified(task.examples, limit, seed=task.config.seed)
    pairs = [(prompts[e.id], completion_ids(tokenizer, e.reference)) for e in rows]
    tokens += sum(len(prompt) + len(completion) for prompt, completion in pairs)
    scores: list[Score] = []
    for some in _batches(pairs, size, progress, f"{subject.name}: perplexity"):
        scores += engine.score(some, subject.adapter)
    return Completions(tuple(generations), {e.id: s for e, s in zip(rows, scores, strict=True)}, tokens)


def _check_lengths(prompts: Mapping[str, Sequence[int]], window: int, subject: Subject) -> None:
    problems = [
        f"example {name}: its {len(ids):,} prompt tokens leave none of the engine's {window:,} for an answer"
        for name, ids in prompts.items()
        if len(ids) >= window
    ]
    if problems:
        raise ConfigError.of_problems(subject.name, problems, limit=20)


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
