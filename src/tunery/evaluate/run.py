"""Evaluate one subject on one task: answers, scores, metrics."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tunery.core.clock import Clock, SystemClock
from tunery.core.engine import Engine, Tokenizer
from tunery.core.errors import first_of
from tunery.core.evaluation import Evaluation, Metric, Prediction
from tunery.core.example import Example, where
from tunery.core.figures import counted, listed_counts
from tunery.core.ids import artifact_id
from tunery.core.judging import AsksMany
from tunery.core.progress import Progress, Silent
from tunery.evaluate import metrics as measure
from tunery.evaluate.ask import Completions, ask
from tunery.evaluate.calibration import CONFIDENCE, calibration
from tunery.evaluate.config import EvaluateConfig
from tunery.evaluate.corpus import corpus_names, signatures
from tunery.evaluate.corpus.macro_f1 import no_label
from tunery.evaluate.corpus.perplexity import LOGPROB, TOKENS
from tunery.evaluate.judges.config import UNJUDGED
from tunery.evaluate.judges.judge import judge_key
from tunery.evaluate.kept import NOTHING, Answer, KeptAnswers
from tunery.evaluate.prompting import Subject
from tunery.evaluate.repeats import repeat_metrics
from tunery.evaluate.scorers import (
    AskingScorer,
    DetailedScorer,
    ErringScorer,
    PreparedScorer,
    Scorer,
    applies,
    make_scorer,
)
from tunery.evaluate.task import Task
from tunery.statistics.clusters import are_clustered
from tunery.text.answer import LabelReader

STAGE_VERSION = 1
"""Raise when equal inputs would give another evaluation."""

_SHOWN = 3
"""Rows at fault that a warning names [count]."""


class EvaluationResult(NamedTuple):
    """An evaluation and the answers behind it."""

    evaluation: Evaluation
    predictions: tuple[Prediction, ...]


def evaluation_id(task: Task, subject: Subject) -> str:
    """Return the id that evaluating ``subject`` on ``task`` will have, so that it need not be done twice."""
    return artifact_id(
        "eval",
        stage="evaluate",
        version=STAGE_VERSION,
        config=_config(task, subject),
        inputs={
            "base": subject.base,
            "adapter": subject.adapter or "none",
            "data": task.data,
            "subject": subject.name,
            "rows": artifact_id(
                "rows", stage="rows", version=1, config={"ids": [e.id for e in task.examples]}, inputs={}
            ),
        },
    )


def evaluate(  # noqa: PLR0913 - each is a port of its own
    engine: Engine,
    tokenizer: Tokenizer,
    task: Task,
    *,
    subject: Subject,
    progress: Progress | None = None,
    clock: Clock | None = None,
    kept: KeptAnswers | None = None,
) -> EvaluationResult:
    """Let a subject answer every example of a task and measure the answers.

    Answers are greedy, so the same weights give the same evaluation. The engine is the one that will serve,
    so that what is judged is what answers; an adapter must have been loaded into it under its id. Answers
    that ``kept`` has from an evaluation that was cut off are not asked for again.

    Raises:
        NotFoundError: The engine does not hold the adapter.
        ConfigError: A prompt does not fit the base's context window.
    """
    started = time.monotonic()
    answers = ask(engine, tokenizer, task, subject=subject, progress=progress or Silent(), kept=kept)
    return judged(task, subject, answers, started=started, progress=progress, clock=clock)


def judged(
    task: Task,
    subject: Subject,
    answers: Completions,
    *,
    started: float,
    progress: Progress | None = None,
    clock: Clock | None = None,
) -> EvaluationResult:
    """Measure the answers that a subject gave to every example of a task.

    Args:
        task: What is right, and what is measured.
        subject: Who answered.
        answers: One for each example.
        started: When answering began, by :func:`time.monotonic` [s].
        progress: Told of every warning.
        clock: Says when it was.
    """
    progress, clock = progress or Silent(), clock or SystemClock()
    predictions, said = _judge(task, subject, answers)
    labels = _labels(task, predictions)
    measured = (
        *_means(task, predictions),
        *_of_corpus(task, predictions),
        *_corrected(task, predictions),
        *_of_repeats(task, predictions),
    )
    found = {metric.name: metric for metric in measured}
    if any(not math.isfinite(score.logprob) for score in answers.likelihoods.values()):
        found.pop(measure.PERPLEXITY, None)  # of the other rows alone it would flatter
    sure = [p for p in predictions if CONFIDENCE in p.scores]
    evaluation = Evaluation(
        id=evaluation_id(task, subject),
        subject=subject.name,
        base=subject.base,
        adapter=subject.adapter,
        data=task.data,
        main_metric=task.main_metric,
        metrics=found,
        per_class=measure.class_scores(*labels),
        confusions=measure.worst_confusions(*labels),
        config=_config(task, subject),
        created_at=clock.now(),
        seconds=time.monotonic() - started,
        tokens=answers.tokens,
        warnings=(
            *_warnings(task, answers, measured=measure.PERPLEXITY in found),
            *_unjudged(predictions),
            *said,
        ),
        arm=subject.engine.get("arm"),
        sample_prompt=subject.prompting.shown(task.examples[0]),
        calibration=calibration(sure, task.config.max_error) if sure else None,
        **_effort(answers),
    )
    for warning in evaluation.warnings:
        progress.event(f"{subject.name}: {warning}", level="warn")
    return EvaluationResult(evaluation, predictions)


def _of_repeats(task: Task, predictions: Sequence[Prediction]) -> list[Metric]:
    config = task.config
    if config.repeats == 1:
        return []
    return repeat_metrics(predictions, config.pass_k or config.repeats, seed=config.seed)


def _effort(answers: Completions) -> dict[str, Any]:
    """Return the tokens, the time and the money that answers took, as far as they are known."""
    given = [a for a in answers.answers if a.finish_reason != "error" and a is not NOTHING]
    found: dict[str, Any] = {"answering_s": answers.answering_s, "usd": answers.usd}
    if any(a.prompt_tokens for a in given):
        found["prompt_tokens"] = sum(a.prompt_tokens for a in given)
        found["completion_tokens"] = sum(a.completion_tokens for a in given)
    if latencies := [a.latency_ms for a in given if a.latency_ms > 0]:
        found["latency_p50_ms"], found["latency_p95_ms"] = np.percentile(latencies, [50, 95]).tolist()
    return found


def _config(task: Task, subject: Subject) -> dict[str, Any]:
    """Return what influences the outcome, JSON-ready."""
    # Named one by one: a recipe's section may hold more than these settings.
    names = set(EvaluateConfig.model_fields) - {"baseline", "rows_per_batch", "metrics", "judge", "slices"}
    settings, judge = task.config.model_dump(mode="json", include=names), task.config.judge
    return {
        **settings,
        "metrics": list(task.metrics),
        "main_metric": task.main_metric,
        "labels": list(task.labels) if task.labels else None,
        "prompt": subject.prompting.describe(),
        "perplexity": subject.perplexity,
        "engine": dict(subject.engine),
        # Named only where there are any: evaluations of rows that stand alone keep the ids they have.
        **({"signatures": signed} if (signed := signatures(task.metrics, task.scorer_options)) else {}),
        **({"clusters": True} if are_clustered([e.group for e in task.examples]) else {}),
        **({"judge": judge_key(judge, "rubric")} if judge is not None and task.asks_judge else {}),
    }


class _Judged(NamedTuple):
    """Answers with their scores, and what scorers say of how they judged."""

    predictions: tuple[Prediction, ...]
    warnings: tuple[str, ...]


def _judge(task: Task, subject: Subject, answers: Completions) -> _Judged:
    scorers = {name: make_scorer(name, task.scorer_options) for name in (*task.scorers, task.main_scorer)}
    plain = {name: scorers[name] for name in task.scorers}
    main = scorers[task.main_scorer]
    _ask_judge(task, scorers, answers)
    said = _prepare(task, scorers, answers)
    predictions = tuple(
        Prediction(
            id=example.id,
            prediction=generation.text,
            reference=example.reference,
            correct=main.correct(generation.text, example),
            scores=_noted(task, generation) | _scores(plain, generation.text, example, answers),
            finish_reason=generation.finish_reason,
            cluster=None if example.group == example.id else example.group,
            shots=tuple(shot.id for shot in subject.prompting.chosen_for(example)),
            reason=generation.reason,
        )
        for example, generation in zip(task.examples, answers.answers, strict=True)
    )
    return _Judged(predictions, said)


def _prepare(task: Task, scorers: Mapping[str, Scorer], answers: Completions) -> tuple[str, ...]:
    """Let scorers that judge all answers at once do so; return their warnings."""
    rows = [(given.text, example) for given, example in zip(answers.answers, task.examples, strict=True)]
    found: list[str] = []
    for scorer in scorers.values():
        if isinstance(scorer, PreparedScorer):
            scorer.prepare(rows)
            found += scorer.warnings
    return tuple(found)


def _ask_judge(task: Task, scorers: Mapping[str, Scorer], answers: Completions) -> None:
    """Put the questions of all scorers on all answers to the judge at once, where it takes many."""
    judge: object = task.models.judge  # a plain callable as well, which mypy holds for no AsksMany
    if not isinstance(judge, AsksMany):
        return
    texts = [generation.text for generation in answers.answers]
    for scorer in scorers.values():
        if isinstance(scorer, AskingScorer):
            rows = zip(texts, task.examples, strict=True)
            judge.ask([turns for text, row in rows for turns in scorer.questions(text, row)], scorer.form)


def _noted(task: Task, answer: Answer) -> dict[str, float]:
    """Return the numbers of an answer that corpus metrics are computed from; none where nothing was asked."""
    wanted = {score for name in task.metrics for score in measure.declaration_of(name).scores}
    numbers = {
        "latency_ms": answer.latency_ms,
        "answer_tokens": float(answer.completion_tokens),
        "answer_characters": float(len(answer.text)),
    }
    if answer.logprob is not None:
        numbers[CONFIDENCE] = math.exp(min(0.0, answer.logprob))
    unanswered = answer == NOTHING or answer.reason is not None
    return {} if unanswered else {n: value for n, value in numbers.items() if n in wanted}


def _scores(
    scorers: Mapping[str, Scorer], answer: str, example: Example, answers: Completions
) -> dict[str, float]:
    """Return every scorer's value, its parts', the likelihood that perplexity is made of, a pair's order."""
    scores: dict[str, float] = {}
    for name, scorer in scorers.items():
        if not applies(scorer, example):
            continue
        scores[name] = scorer.score(answer, example)
        if isinstance(scorer, DetailedScorer):
            scores |= {f"{name}.{part}": value for part, value in scorer.parts(answer, example).items()}
    likelihood = answers.likelihoods.get(example.id)
    if likelihood is not None and likelihood.tokens and math.isfinite(likelihood.logprob):
        scores |= {LOGPROB: likelihood.logprob, TOKENS: float(likelihood.tokens)}
    margin = answers.margins.get(example.id)
    if margin is not None and math.isfinite(margin):
        scores |= {measure.PREFERENCE_ACCURACY: float(margin > 0), measure.PREFERENCE_MARGIN: margin}
    return scores


def _means(task: Task, predictions: Sequence[Prediction]) -> list[Metric]:
    """Return the mean of every scorer, of every part and of the pairs' order over the rows that have it."""
    names = [*task.scorers, *task.parts]
    names += [n for n in (measure.PREFERENCE_ACCURACY,) if any(n in p.scores for p in predictions)]
    found = []
    for name in names:
        having = [p for p in predictions if name in p.scores]
        clusters = [p.cluster or p.id for p in having]
        values = [p.scores[name] for p in having]
        found.append(measure.mean_metric(name, values, clusters=clusters, seed=task.config.seed))
    return found


def main_metric_over(task: Task, predictions: Sequence[Prediction]) -> Metric | None:
    """Return a task's main metric over some of its answers; None where they are too few for it."""
    name, seed = task.main_metric, task.config.seed
    if name in corpus_names():
        return measure.corpus_metric(name, predictions, options=task.scorer_options, seed=seed)
    having = [p for p in predictions if name in p.scores]
    values, clusters = [p.scores[name] for p in having], [p.cluster or p.id for p in having]
    return measure.mean_metric(name, values, clusters=clusters, seed=seed) if having else None


def _of_corpus(task: Task, predictions: Sequence[Prediction]) -> list[Metric]:
    """Return the corpus metrics, those left out that no rows or no finite number speak for."""
    found = [
        measure.corpus_metric(name, predictions, options=task.scorer_options, seed=task.config.seed)
        for name in task.metrics
        if name in corpus_names()
    ]
    return [metric for metric in found if metric is not None]


def _corrected(task: Task, predictions: Sequence[Prediction]) -> list[Metric]:
    """Return the means of scorers whose error was measured as they would be without it."""
    found = []
    for name in task.scorers:
        scorer = make_scorer(name, task.scorer_options)
        if isinstance(scorer, ErringScorer):
            answers = [p.prediction for p in predictions if name in p.scores]
            rate, part = scorer.corrected(answers), f"{name}.corrected"
            found.append(
                Metric(
                    name=part,
                    value=rate.value,
                    n=len(answers),
                    ci95=rate.ci95,
                    method="rogan_gladen",
                    higher_is_better=measure.higher_is_better(name),
                    title=measure.title_of(part),
                )
            )
    return found


class _Labels(NamedTuple):
    """References and answers as labels of the closed set; empty where there is none."""

    references: Sequence[str]
    answered: Sequence[str]


def _labels(task: Task, predictions: Sequence[Prediction]) -> _Labels:
    if not task.labels:
        return _Labels((), ())
    reader = LabelReader(task.labels)
    references = [reader.read(p.reference) or p.reference for p in predictions]
    none = no_label({*references, *task.labels})
    return _Labels(references, [reader.read(p.prediction) or none for p in predictions])


def _unjudged(predictions: Sequence[Prediction]) -> list[str]:
    rows = sum(any(n.endswith(f".{UNJUDGED}") and v for n, v in p.scores.items()) for p in predictions)
    if not rows:
        return []
    return [f"the judge gave no readable verdict on {rows} of {len(predictions)} answers; they score 0"]


def _warnings(task: Task, answers: Completions, *, measured: bool) -> tuple[str, ...]:
    found = []
    unasked = len(answers.unasked)
    if unasked:
        names = {e.id: where(e) for e in task.examples}
        shown = "; ".join(first_of([f"{names[i]}: {why}" for i, why in answers.unasked.items()], _SHOWN))
        found.append(
            f"{unasked} of {len(answers.answers)} rows could not be asked and count as answered with "
            f"nothing ({shown})"
        )
    if answers.unscored:
        found.append(
            f"{counted(answers.unscored, 'row')} left out of perplexity or of preference accuracy: with the "
            "answers given they do not fit the base's window"
        )
    errors = [a.reason or "no answer" for a in answers.answers if a.finish_reason == "error"]
    if errors:
        why = listed_counts(Counter(errors), _SHOWN)
        found.append(f"{len(errors)} of {len(answers.answers)} rows got no answer and count as wrong ({why})")
    cut = sum(g.finish_reason == "length" for g in answers.answers) - unasked
    if cut:
        found.append(
            f"{cut} of {len(answers.answers)} answers were cut off at max_new_tokens = "
            f"{task.config.max_new_tokens}"
        )
    if answers.likelihoods and not measured:
        found.append("perplexity is no finite number or has fewer than two rows, and was left out")
    return tuple(found)
