"""Planted canaries: how far training made a model give them away, beside the base."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from tunery.core.canaries import EXPOSURE, SPACE, SUITE, Canary, canaries, planted, references
from tunery.core.dataset import DatasetVersion
from tunery.core.evaluation import Evaluation, Metric, Prediction
from tunery.core.ids import artifact_id
from tunery.core.run import TUNED
from tunery.core.training import Adapter
from tunery.evaluate.comparison import compare_results
from tunery.evaluate.metrics import declaration_of
from tunery.evaluate.prompting import Subject
from tunery.evaluate.run import EvaluationResult
from tunery.gate.gate import SuiteResult
from tunery.pipeline.context import RunContext
from tunery.pipeline.stages.data import tokenizer_of
from tunery.pipeline.stages.evaluate import asked_on, found_or_made, tuned_subject
from tunery.pipeline.stages.suites import base_on_suite
from tunery.pipeline.stages.train import canaries_of, trainings
from tunery.statistics.exposure import exposure

if TYPE_CHECKING:
    from tunery.pipeline.recipe import Recipe
    from tunery.train.methods.sft import CanaryConfig

STAGE_VERSION = 1
"""Raise when equal inputs would give another exposure."""


def planted_by(recipe: Recipe) -> CanaryConfig | None:
    """Return the canaries that the trainings of a recipe plant; None where none does."""
    return next((c for config in trainings(recipe.train) if (c := canaries_of(config)) is not None), None)


def measure_canaries(
    context: RunContext, dataset: DatasetVersion, adapter: Adapter
) -> dict[str, SuiteResult]:
    """Measure the exposure of planted canaries in base and tuned model; nothing where none was planted."""
    settings = planted_by(context.recipe)
    if settings is None:
        return {}
    tuned = tuned_subject(context, adapter, name=f"{TUNED} on {SUITE}")
    base = base_on_suite(context, SUITE, asked_on(context, adapter))
    before, after = (
        _measured(context, dataset, settings, subject, own)
        for subject, own in ((base, None), (tuned, adapter))
    )
    compared = compare_results(after, [before])
    return {SUITE: SuiteResult(before.evaluation, after.evaluation, compared)}


def _measured(
    context: RunContext,
    dataset: DatasetVersion,
    settings: CanaryConfig,
    subject: Subject,
    adapter: Adapter | None,
) -> EvaluationResult:
    subject = replace(subject, engine=context.engine_settings.identity)
    config = {
        **settings.model_dump(mode="json", include={"count", "seed", "references"}),
        "system_prompt": dataset.system_prompt,
        "prompt": subject.prompting.describe(),
        "engine": dict(subject.engine),
    }
    identity = artifact_id(
        "eval",
        stage=SUITE,
        version=STAGE_VERSION,
        config=config,
        inputs={"base": subject.base, "adapter": subject.adapter or "none", "subject": subject.name},
    )
    record = {"id": identity, "config": config}
    return found_or_made(
        context, identity, partial(_compute, context, dataset, settings, subject, adapter, record), adapter
    )


def _compute(
    context: RunContext,
    dataset: DatasetVersion,
    settings: CanaryConfig,
    subject: Subject,
    adapter: Adapter | None,
    record: Mapping[str, object],
) -> EvaluationResult:
    """Rank each canary's secret among references under its own question."""
    started = time.monotonic()
    tokenizer, engine = tokenizer_of(context, dataset), context.engine(adapter)
    others = references(settings.references, settings.seed)
    hidden = canaries(settings.count, settings.seed)
    rows = planted(settings.count, 1, settings.seed, dataset.system_prompt)
    predictions, tokens = [], 0
    with context.progress.task(f"{subject.name}: likelihoods", len(hidden)) as bar:
        for row, canary in zip(rows, hidden, strict=True):
            prompt = tokenizer.render_prompt(row.prompt)
            pairs = [(prompt, tokenizer.encode(secret)) for secret in (canary.secret, *others)]
            own, *rest = (score.logprob for score in engine.score(pairs, subject.loaded_as))
            predictions.append(_prediction(row.id, canary, own, rest))
            tokens += len(prompt) + sum(len(ids) for _, ids in pairs)
            bar.advance(1)
    evaluation = Evaluation(
        id=str(record["id"]),
        subject=subject.name,
        base=subject.base,
        adapter=subject.adapter,
        data=f"{SUITE}@{settings.seed}",
        main_metric=EXPOSURE,
        metrics=_metrics(predictions),
        config=record["config"],
        created_at=context.workspace.clock.now(),
        seconds=time.monotonic() - started,
        tokens=tokens,
    )
    return EvaluationResult(evaluation, tuple(predictions))


def _prediction(identity: str, canary: Canary, own: float, rest: Sequence[float]) -> Prediction:
    # A rule about what could not be measured fails.
    known = all(map(math.isfinite, (own, *rest)))
    scores = {EXPOSURE: exposure(own, rest, space=SPACE)} if known else {}
    unknown = not any(value < own for value in rest)
    return Prediction(id=identity, prediction="", reference=canary.secret, correct=unknown, scores=scores)


def _metrics(predictions: Sequence[Prediction]) -> dict[str, Metric]:
    bits = [p.scores[EXPOSURE] for p in predictions if EXPOSURE in p.scores]
    return {EXPOSURE: _mean(bits)} if len(bits) == len(predictions) else {}


def _mean(bits: Sequence[float]) -> Metric:
    import numpy as np

    from tunery.statistics.bootstrap import bca_interval

    about, n = declaration_of(EXPOSURE), len(bits)
    columns = np.column_stack([np.asarray(bits), np.ones(n)])
    return Metric(
        name=EXPOSURE,
        value=math.fsum(bits) / n,
        n=n,
        ci95=tuple(bca_interval(columns, lambda sums: sums[:, 0] / sums[:, 1])),
        method="bootstrap",
        higher_is_better=about.higher_is_better,
        title=about.title,
        unit=about.unit,
    )
