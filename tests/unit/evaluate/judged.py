"""Rows of answers beside their references, as metrics read them."""

from __future__ import annotations

from collections.abc import Sequence

from tunery.core.evaluation import Metric, Prediction
from tunery.evaluate.metrics import corpus_metric
from tunery.evaluate.scorers import ScorerOptions


def judged(
    answers: Sequence[str], references: Sequence[str] | None = None, **scores: Sequence[float]
) -> list[Prediction]:
    """Return one row an answer, its per-row numbers by name."""
    return [
        Prediction(
            id=f"ex-{i}",
            prediction=answer,
            reference=reference,
            correct=answer == reference,
            scores={name: values[i] for name, values in scores.items()},
        )
        for i, (answer, reference) in enumerate(zip(answers, references or answers, strict=True))
    ]


def macro_f1(references: Sequence[str], answers: Sequence[str], *, seed: int = 0) -> Metric:
    """Return macro-F1 of answers that are labels."""
    metric = corpus_metric("macro_f1", judged(answers, references), seed=seed)
    assert metric is not None
    return metric


def measured(name: str, answers: Sequence[str], references: Sequence[str], **options: str) -> float:
    """Return the value of a corpus metric."""
    metric = corpus_metric(name, judged(answers, references), options=ScorerOptions(**options))  # type: ignore[arg-type]
    assert metric is not None
    return metric.value
