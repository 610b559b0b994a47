"""Put a task's questions to an engine: greedy answers, and the likelihood of the answers given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

from tunery.core.engine import Engine, Generation, GenerationRequest, Sampling, Score, Tokenizer
from tunery.core.errors import ConfigError, RefusedByTemplate
from tunery.core.progress import Progress
from tunery.evaluate.metrics import PERPLEXITY, PREFERENCE_ACCURACY
from tunery.evaluate.prompting import Subject
from tunery.evaluate.task import Task, draw_stratified

T = TypeVar("T")

_NOTHING = Generation(
    text="",
    token_ids=(),
    finish_reason="length",
    prompt_tokens=0,
    cached_tokens=0,
    ttft_ms=0.0,
    latency_ms=0.0,
)
"""The answer of a row that could not be asked."""


class Completions(NamedTuple):
    """What the engine gave."""

    generations: tuple[Generation, ...]
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


def ask(
    engine: Engine, tokenizer: Tokenizer, task: Task, *, subject: Subject, progress: Progress
) -> Completions:
    """Ask a subject every question of a task, batch by batch so that progress can be shown.

    Prompts of one subject share their beginning (system turn, solved examples), which an engine with a
    prefix cache computes once.

    A row whose prompt leaves no room for an answer, or that the base's template refuses, gets an empty
    answer: another model might have given one, so it stays in the comparison.

    Raises:
        NotFoundError: The engine does not hold the adapter.
        ConfigError: No row at all can be put to the engine; lists them, before anything is computed.
    """
    if subject.prompting.day is not None:
        tokenizer = tokenizer.on_day(subject.prompting.day)
    prompts, unasked = _prompts(tokenizer, task, subject, engine.context_window)
    sampling = Sampling(max_tokens=task.config.max_new_tokens)
    requests = [
        GenerationRequest(prompt, subject.loaded_as, sampling, subject.prompting.constraint)
        for prompt in prompts.values()
    ]
    size = task.config.rows_per_batch
    answers: list[Generation] = []
    for batch in _batches(requests, size, progress, f"{subject.name}: answering"):
        answers += engine.generate(batch)
    tokens = sum(g.prompt_tokens + g.completion_tokens for g in answers)
    by_id = dict(zip(prompts, answers, strict=True))
    measured = PERPLEXITY in task.metrics and subject.perplexity
    limit = task.config.perplexity_limit if measured else 0
    drawn = draw_stratified(task.examples, limit, seed=task.config.seed)
    ranked = PREFERENCE_ACCURACY in task.metrics and subject.perplexity
    pairs = [(e.id, e.reference, e.rejected) for e in task.examples if ranked and e.rejected is not None]
    wanted = [(e.id, e.reference) for e in drawn]
    wanted += [(id_, text) for id_, *both in pairs for text in both]
    texts = {
        (id_, text): (prompts[id_], completion_ids(tokenizer, text)) for id_, text in wanted if id_ in prompts
    }
    texts = {key: both for key, both in texts.items() if sum(map(len, both)) <= engine.context_window}
    tokens += sum(len(prompt) + len(completion) for prompt, completion in texts.values())
    scores: list[Score] = []
    for some in _batches(list(texts.values()), size, progress, f"{subject.name}: likelihoods"):
        scores += engine.score(some, subject.loaded_as)
    found = dict(zip(texts, scores, strict=True))
    return Completions(
        tuple(by_id.get(e.id, _NOTHING) for e in task.examples),
        {e.id: found[e.id, e.reference] for e in drawn if (e.id, e.reference) in found},
        tokens,
        {
            id_: found[id_, preferred].logprob - found[id_, rejected].logprob
            for id_, preferred, rejected in pairs
            if (id_, preferred) in found and (id_, rejected) in found
        },
        unasked,
        len({id_ for id_, text in wanted if (id_, text) not in found}),
    )


def _prompts(
    tokenizer: Tokenizer, task: Task, subject: Subject, window: int
) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """Return the prompts of the rows that can be asked, and why the others cannot, both by example id.

    Raises:
        ConfigError: None can.
    """
    prompts, unasked = {}, {}
    for example in task.examples:
        try:
            ids = tokenizer.render_prompt(subject.prompting.conversation(example))
        except RefusedByTemplate as refusal:
            unasked[example.id] = refusal.message
            continue
        if len(ids) < window:
            prompts[example.id] = ids
        else:
            unasked[example.id] = (
                f"its {len(ids):,} prompt tokens leave none of the engine's {window:,} for an answer"
            )
    if not prompts:
        problems = [f"example {id_}: {why}" for id_, why in unasked.items()]
        raise ConfigError.of_problems(subject.name, problems, limit=20)
    return prompts, unasked


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
