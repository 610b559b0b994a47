"""Per-example values to metrics, each with its n and a 95 % interval."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tunery.core.canaries import EXPOSURE
from tunery.core.evaluation import (
    ClassScore,
    Confusion,
    Metric,
    Unit,
    earlier_unit,
    metric_title,
    title_of_part,
)
from tunery.core.statistics import wilson_interval
from tunery.evaluate.corpus import corpus_names, declaration_of_corpus, make_corpus
from tunery.evaluate.scorers import Declaration, ScorerOptions, declaration_of_scorer, scorer_names
from tunery.statistics.bootstrap import bca_interval
from tunery.statistics.clusters import are_clustered, sums_by_cluster

if TYPE_CHECKING:
    from tunery.evaluate.pairing import Row

MACRO_F1, PERPLEXITY = "macro_f1", "perplexity"
PREFERENCE_ACCURACY = "preference_accuracy"
PREFERENCE_MARGIN = "preference_margin"
"""Per-example score that it is computed from: log-probability of the preferred answer minus that of the
rejected one [nats]. What it gains over the model before is DPO's reward margin, divided by beta."""
WIN_RATE = "judge_win_rate"
"""Share of rows on which the judge prefers the tuned model's answer to the best baseline's."""
PASS_AT_K, REPEAT_AGREEMENT = "pass_at_k", "repeat_agreement"
COST = "cost_per_1k"
"""What 1,000 requests cost the model that is judged [US dollars]; known where a price is."""
AGGREGATES: Mapping[str, Declaration] = {
    COST: Declaration(
        "cost of 1,000 requests in US dollars", higher_is_better=False, needs=("price",), unit="number"
    ),
    EXPOSURE: Declaration("exposure in bits", higher_is_better=False, needs=("canaries",), unit="number"),
    PASS_AT_K: Declaration("pass@k", needs=("repeats",), judged_by="exact_match"),
    REPEAT_AGREEMENT: Declaration("repeats that agree", needs=("repeats",), judged_by="exact_match"),
    PREFERENCE_ACCURACY: Declaration(
        "preference accuracy", needs=("pairs",), auto=("labels", "json", "text"), judged_by="exact_match"
    ),
    WIN_RATE: Declaration("judge's win rate", needs=("judge",), judged_by="exact_match"),
}
"""Metrics that are a mean of what no scorer gives, but the engine.

Preference accuracy is the share of pairs whose preferred answer, stop token included, is likelier as a whole
than the rejected one. It needs no reference model, so that models before and after preference training
compare; it is the ranking accuracy of Chen et al. (2024), arXiv 2405.19534.
"""
_MOST_CONFUSIONS = 20
_FEWEST_CLUSTERS = 2
"""That can be resampled [count]."""


def metric_names() -> tuple[str, ...]:
    """Return every metric there is, sorted; a scorer that judges parts adds ``name.part``."""
    return tuple(sorted({*scorer_names(), *corpus_names(), *AGGREGATES}))


def declaration_of(metric: str) -> Declaration:
    """Return what a metric, or the metric that ``metric`` is a part of, says of itself.

    One that no scorer here gives, as in a file of predictions from elsewhere, is taken to improve upwards.
    """
    name = metric.partition(".")[0]
    if name in AGGREGATES:
        return AGGREGATES[name]
    if name in corpus_names():
        return declaration_of_corpus(name)
    if name in scorer_names():
        return declaration_of_scorer(name)
    return Declaration(metric_title(name), unit=earlier_unit(name))


def higher_is_better(metric: str) -> bool:
    """Return which way a metric improves."""
    return declaration_of(metric).higher_is_better


def unit_of(metric: str) -> Unit:
    """Return what a metric's values are."""
    return declaration_of(metric).unit


def title_of(metric: str) -> str:
    """Return a metric's name as a reader says it; of a part both names.

    >>> title_of("exact_match"), title_of("field_match.total_sum")
    ('exact match', 'fields right: total sum')
    """
    return title_of_part(declaration_of(metric).title, metric.partition(".")[2])


def mean_metric(name: str, values: Sequence[float], *, clusters: Sequence[str] = (), seed: int = 0) -> Metric:
    """Return the mean of per-example scores in [0, 1].

    Right/wrong gets Wilson's interval, graded scores a bootstrap. Where every row has the same graded
    score a bootstrap could only answer with a point, so Wilson's interval is given: it holds for any
    scores in [0, 1] and is on the wide side. Rows that come in clusters are resampled by cluster, and where
    that could only be a point, Wilson's interval counts clusters.

    Args:
        name: The metric's name.
        values: One score an example, shape ``(n,)``, at least one.
        clusters: What each example is drawn with, shape ``(n,)``; empty where each stands alone.
        seed: For the bootstrap.

    Raises:
        ValueError: There are no values, or one lies outside [0, 1].
    """
    if not values or not all(0 <= v <= 1 for v in values):
        raise ValueError(f"{name}: needs at least one score, each between 0 and 1")
    n, total = len(values), min(math.fsum(values), float(len(values)))
    import numpy as np

    columns = np.column_stack([np.asarray(values, dtype=np.float64), np.ones(n)])
    grouped = are_clustered(clusters)
    columns = sums_by_cluster(columns, clusters) if grouped else columns
    units = len(columns)
    alike = bool(np.ptp(columns[:, 0] / columns[:, 1]) == 0)
    if alike or (set(values) <= {0.0, 1.0} and not grouped):
        interval = wilson_interval(total * units / n, units)
        return _metric(name, total / n, n, interval, method="wilson")
    interval = bca_interval(columns, lambda sums: sums[:, 0] / sums[:, 1], seed=seed)
    return _metric(name, total / n, n, interval)


def _metric(
    name: str, value: float, n: int, ci95: tuple[float, float], *, method: str = "bootstrap"
) -> Metric:
    """Return a metric with what its scorer or aggregate declares."""
    return Metric(
        name=name,
        value=value,
        n=n,
        ci95=ci95,
        method=method,
        higher_is_better=higher_is_better(name),
        title=title_of(name),
        unit=declaration_of(name).unit,
    )


def corpus_metric(
    name: str, rows: Sequence[Row], *, options: ScorerOptions | None = None, seed: int = 0
) -> Metric | None:
    """Return a corpus metric over the rows that have what it is computed from.

    Rows, or the clusters that they come in, are resampled. Of a share of which no resample could differ, or
    of a single unit, Wilson's interval is given: it is the honest width.

    Args:
        name: The metric's name.
        rows: Answers with their references and per-row numbers.
        options: What the task says.
        seed: For the bootstrap.

    Returns:
        The metric with its ``n`` rows; None where no row has what it needs, and where value or interval is no
        finite number or, of what is no share, fewer than two units are left: there is then nothing that a
        record could hold and a gate could trust.
    """
    import numpy as np

    declared = declaration_of(name)
    kept = [row for row in rows if all(score in row.scores for score in declared.scores)]
    if not kept:
        return None
    corpus = make_corpus(name, [kept], options)
    columns = sums_by_cluster(corpus.columns(kept), [row.cluster or row.id for row in kept])
    units, is_share = len(columns), declared.unit == "share"
    # A perplexity beyond a float is caught below instead of warned about in the middle of a run.
    with np.errstate(over="ignore", invalid="ignore"):
        value = float(corpus.of_sums(columns.sum(axis=0, keepdims=True))[0])
        if units >= _FEWEST_CLUSTERS:
            interval = bca_interval(columns, corpus.of_sums, seed=seed)
            if not (is_share and interval.low == interval.high):
                finite = all(math.isfinite(x) for x in (value, *interval))
                return _metric(name, value, len(kept), interval) if finite else None
    if not is_share or not math.isfinite(value):
        return None
    return _metric(name, value, len(kept), wilson_interval(value * units, units), method="wilson")


def class_scores(references: Sequence[str], predictions: Sequence[str]) -> tuple[ClassScore, ...]:
    """Return precision, recall and F1 of every class that occurs among the references, by name.

    Precision is 0 where a class was never answered.
    """
    support, answered = Counter(references), Counter(predictions)
    hits = Counter(r for r, p in zip(references, predictions, strict=True) if r == p)
    return tuple(
        ClassScore(
            label=label,
            support=support[label],
            precision=hits[label] / answered[label] if answered[label] else 0.0,
            recall=hits[label] / support[label],
            f1=2 * hits[label] / (support[label] + answered[label]),
        )
        for label in sorted(support)
    )


def worst_confusions(references: Sequence[str], predictions: Sequence[str]) -> tuple[Confusion, ...]:
    """Return the most frequent pairs of a class and what it was wrongly answered as, worst first."""
    wrong = Counter((r, p) for r, p in zip(references, predictions, strict=True) if r != p)
    ranked = sorted(wrong.items(), key=lambda item: (-item[1], item[0]))
    return tuple(
        Confusion(reference=reference, prediction=prediction, count=count)
        for (reference, prediction), count in ranked[:_MOST_CONFUSIONS]
    )
