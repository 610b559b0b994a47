"""Per-example values to metrics, each with its n and a 95 % interval."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from tunery.core.engine import Score
from tunery.core.evaluation import ClassScore, Confusion, Metric, metric_title, title_of_part
from tunery.core.statistics import wilson_interval
from tunery.evaluate.bootstrap import bca_interval
from tunery.evaluate.clusters import are_clustered, sums_by_cluster
from tunery.evaluate.scorers import Declaration, declaration_of_scorer, scorer_names

if TYPE_CHECKING:
    from tunery.evaluate.bootstrap import Floats

MACRO_F1 = "macro_f1"
PERPLEXITY = "perplexity"
PREFERENCE_ACCURACY = "preference_accuracy"
PREFERENCE_MARGIN = "preference_margin"
"""Per-example score that it is computed from: log-probability of the preferred answer minus that of the
rejected one [nats]. What it gains over the model before is DPO's reward margin, divided by beta."""
WIN_RATE = "judge_win_rate"
"""Share of rows on which the judge prefers the tuned model's answer to the best baseline's."""
LOGPROB, TOKENS = "logprob", "completion_tokens"
"""Per-example scores that perplexity is computed from."""
NO_LABEL = "(no label)"
"""Stands for every answer that names no label of the set."""


def no_label(references: Collection[str]) -> str:
    """Return what stands for an answer that names no label: :data:`NO_LABEL`, unless that is one itself."""
    name = NO_LABEL
    while name in references:
        name = f"({name})"
    return name


AGGREGATES: Mapping[str, Declaration] = {
    MACRO_F1: Declaration("macro F1", needs=("labels",), auto=("labels",), judged_by="accuracy"),
    PERPLEXITY: Declaration(
        "perplexity", higher_is_better=False, auto=("labels", "json", "text"), judged_by="exact_match"
    ),
    PREFERENCE_ACCURACY: Declaration(
        "preference accuracy", needs=("pairs",), auto=("labels", "json", "text"), judged_by="exact_match"
    ),
    WIN_RATE: Declaration("judge's win rate", needs=("judge",), judged_by="exact_match"),
}
"""Metrics that are no mean of a scorer's values.

Preference accuracy is the share of pairs whose preferred answer, stop token included, is likelier as a whole
than the rejected one. It needs no reference model, so that models before and after preference training
compare; it is the ranking accuracy of Chen et al. (2024), arXiv 2405.19534.
"""
_MOST_CONFUSIONS = 20
_FEWEST_CLUSTERS = 2
"""That can be resampled [count]."""


def metric_names() -> tuple[str, ...]:
    """Return every metric there is, sorted; a scorer that judges parts adds ``name.part``."""
    return tuple(sorted({*scorer_names(), *AGGREGATES}))


def declaration_of(metric: str) -> Declaration:
    """Return what a metric, or the metric that ``metric`` is a part of, says of itself.

    One that no scorer here gives, as in a file of predictions from elsewhere, is taken to improve upwards.
    """
    name = metric.partition(".")[0]
    if name in AGGREGATES:
        return AGGREGATES[name]
    return declaration_of_scorer(name) if name in scorer_names() else Declaration(metric_title(name))


def higher_is_better(metric: str) -> bool:
    """Return which way a metric improves."""
    return declaration_of(metric).higher_is_better


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
    )


def macro_f1_columns(references: Sequence[str], predictions: Sequence[str], classes: Sequence[str]) -> Floats:
    """Return what macro-F1 sums over examples.

    Returns:
        Zeros and ones, shape ``(n, 3 * n_classes)``: answered rightly as the class, is of the class,
        answered as the class.
    """
    import numpy as np

    columns = np.zeros((len(references), 3, len(classes)))
    place = {label: i for i, label in enumerate(classes)}
    for row, (reference, prediction) in enumerate(zip(references, predictions, strict=True)):
        if reference in place:
            columns[row, 1, place[reference]] = 1
        if prediction in place:
            columns[row, 2, place[prediction]] = 1
            columns[row, 0, place[prediction]] = float(prediction == reference)
    return columns.reshape(len(references), -1)


def macro_f1_of_sums(sums: Floats) -> Floats:
    """Return macro-F1 of summed columns, ``(k, 3 * n_classes)`` to ``(k,)``, over the classes that occur."""
    import numpy as np

    hits, support, answered = np.moveaxis(sums.reshape(len(sums), 3, -1), 1, 0)
    f1 = 2 * hits / np.maximum(support + answered, 1)
    occurring = support > 0
    mean: Floats = (f1 * occurring).sum(axis=1) / np.maximum(occurring.sum(axis=1), 1)
    return mean


def macro_f1(
    references: Sequence[str], predictions: Sequence[str], *, clusters: Sequence[str] = (), seed: int = 0
) -> Metric:
    """Return the unweighted mean of the F1 of every class that occurs among the references.

    An answer outside those classes is a miss of its reference's class and no class of its own; this is
    scikit-learn's ``f1_score(..., labels=sorted(set(references)), average="macro", zero_division=0)``.

    Args:
        references: Label of each example, shape ``(n,)``, at least one.
        predictions: Label answered, same shape.
        clusters: What each example is drawn with; empty where each stands alone.
        seed: For the bootstrap.

    Raises:
        ValueError: There are no examples.
    """
    if not references:
        raise ValueError("macro_f1: needs at least one example")
    columns = macro_f1_columns(references, predictions, sorted(set(references)))
    value = float(macro_f1_of_sums(columns.sum(axis=0, keepdims=True))[0])
    n, right = len(references), sum(r == p for r, p in zip(references, predictions, strict=True))
    units = len(set(clusters)) if are_clustered(clusters) else n
    if right in (0, n) or units < _FEWEST_CLUSTERS:
        # No resample could differ; the interval of the accuracy is the honest width.
        return _metric(MACRO_F1, value, n, wilson_interval(right * units / n, units), method="wilson")
    columns = sums_by_cluster(columns, clusters) if units < n else columns
    return _metric(MACRO_F1, value, n, bca_interval(columns, macro_f1_of_sums, seed=seed))


def perplexity(scores: Sequence[Score], *, clusters: Sequence[str] = (), seed: int = 0) -> Metric | None:
    """Return exp of the mean negative log-likelihood per completion token, pooled over rows.

    Rows are resampled, not tokens, because tokens of one answer hang together.

    Args:
        scores: One a row.
        clusters: What each row is drawn with; empty where each stands alone.
        seed: For the bootstrap.

    Returns:
        The metric with ``n`` rows, or None when fewer than two rows have tokens or a likelihood is not a
        finite number: there is then nothing that a record could hold and a gate could trust.
    """
    import numpy as np

    drawn_with = clusters or [str(number) for number in range(len(scores))]
    kept = [cluster for cluster, s in zip(drawn_with, scores, strict=True) if s.tokens > 0]
    rows = [(s.logprob, float(s.tokens)) for s in scores if s.tokens > 0]
    if len(set(kept)) < _FEWEST_CLUSTERS or not all(math.isfinite(logprob) for logprob, _ in rows):
        return None
    columns = sums_by_cluster(np.asarray(rows, dtype=np.float64), kept)
    # A perplexity beyond a float is caught below instead of warned about in the middle of a run.
    with np.errstate(over="ignore", invalid="ignore"):
        value = float(perplexity_of_sums(columns.sum(axis=0, keepdims=True))[0])
        interval = bca_interval(columns, perplexity_of_sums, seed=seed)
    if not all(math.isfinite(x) for x in (value, *interval)):
        return None
    return _metric(PERPLEXITY, value, len(rows), interval)


def perplexity_of_sums(sums: Floats) -> Floats:
    """Return the perplexity of summed (log-likelihood [nats], tokens), ``(k, 2)`` to ``(k,)``."""
    import numpy as np

    values: Floats = np.exp(-sums[:, 0] / sums[:, 1])
    return values


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
