"""Whether B is better than A on the same examples, or whether nothing has been shown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tunery.core.evaluation import Comparison, Evaluation, Prediction, Verdict
from tunery.core.figures import at_least_as_good
from tunery.core.statistics import Interval
from tunery.evaluate.corpus import corpus_names, make_corpus
from tunery.evaluate.metrics import declaration_of, higher_is_better, title_of, unit_of
from tunery.evaluate.pairing import Paired, Row, pair_rows
from tunery.evaluate.predictions import PredictionRow, read_prediction_rows
from tunery.evaluate.rescore import scored
from tunery.evaluate.run import EvaluationResult
from tunery.evaluate.scorers import ScorerOptions
from tunery.statistics.bootstrap import PairedTest, paired_test
from tunery.statistics.clusters import are_clustered, mean_difference_interval, sums_by_cluster
from tunery.statistics.mcnemar import mcnemar_exact, newcombe_interval

if TYPE_CHECKING:
    from tunery.statistics.bootstrap import Floats, Statistic

CORRECT = "correct"
"""The metric that counts right answers, whichever scorer judged them."""
SIGNIFICANT = 0.05
_IDS_SHOWN = 20


def compare(
    a: Sequence[Prediction],
    b: Sequence[Prediction],
    *,
    metric: str = CORRECT,
    names: tuple[str, str] = ("a", "b"),
    options: ScorerOptions | None = None,
) -> Comparison:
    """Compare two models on the examples both answered; positive differences mean that B is better.

    Right/wrong values are compared by McNemar's exact test with Newcombe's interval; graded scores
    and corpus metrics by randomization with the paired bootstrap's interval. Where rows come in
    clusters, these are what is swapped and resampled, and a mean's interval is robust to them. ``fixed`` and
    ``broken`` count the metric where it is right/wrong and ``correct`` elsewhere. Where lower is better, as
    for perplexity, the difference is A minus B.

    Args:
        a: Predictions of A.
        b: Predictions of B.
        metric: ``correct``, a corpus metric such as ``macro_f1``, or a scorer (part) that both have.
        names: What to call A and B.
        options: What the task says, for corpus metrics; labels are by default those among the references.

    Raises:
        ConfigError: An id repeats, none is shared, references of one id differ, or the metric is missing.
    """
    return _compare(pair_rows(a, b, names), metric, options)


def _compare(rows: Paired, metric: str, options: ScorerOptions | None = None) -> Comparison:
    if metric in corpus_names():
        scores = declaration_of(metric).scores
        rows = rows.having(*scores) if scores else rows
        one, other = zip(*(_with_reference(x, y) for x, y in rows.pairs), strict=True)
        corpus = make_corpus(metric, (one, other), options)
        return _compare_sums(rows, (corpus.columns(one), corpus.columns(other)), corpus.of_sums, metric)
    if metric == CORRECT:
        return _compare_right_wrong(rows, rows.correct(), metric)
    rows = rows.having(metric)
    values = [(x.scores[metric], y.scores[metric]) for x, y in rows.pairs]
    if all(value in (0.0, 1.0) for pair in values for value in pair):
        good = float(higher_is_better(metric))
        return _compare_right_wrong(rows, [(x == good, y == good) for x, y in values], metric)
    return _compare_means(rows, _scores(rows, metric), metric)


def compare_results(
    tuned: EvaluationResult, others: Sequence[EvaluationResult], *, metrics: Sequence[str] = ()
) -> tuple[Comparison, ...]:
    """Compare the tuned model with each other subject, on the main metric and on what rules must see.

    Args:
        tuned: B of every comparison.
        others: Baselines and, if there is one, the champion.
        metrics: Further ones, such as those that a gate's rules ask a difference to be shown in.

    Returns:
        For each other, first the main metric's comparison, then further ones; a metric that one side lacks
        is left out, and the gate then refuses the rule that needs it.

    Raises:
        ConfigError: The two were not evaluated on the same examples.
    """
    main = tuned.evaluation.main_metric
    compared = dict.fromkeys([main, *metrics])
    options = ScorerOptions.of_config(tuned.evaluation.config)
    found = []
    for other in others:
        names = (other.evaluation.subject, tuned.evaluation.subject)
        found += [
            compare(other.predictions, tuned.predictions, metric=metric, names=names, options=options)
            for metric in compared
            if metric in other.evaluation.metrics and metric in tuned.evaluation.metrics
        ]
    return tuple(found)


def best_of(measured: Sequence[Evaluation], metric: str) -> Evaluation:
    """Return the evaluation that no other exceeds, the first of equals.

    Args:
        measured: At least one, each with the metric.
        metric: By which.
    """
    best = measured[0]
    for candidate in measured[1:]:
        if not at_least_as_good(best.metrics[metric], candidate.metrics[metric]):
            best = candidate
    return best


def compare_files(a: Path, b: Path, *, metric: str = CORRECT) -> Comparison:
    """Compare two files of answers from any system.

    A row is judged by ``correct`` where both files say it. Where either does not, both are judged by exact
    match, so that one file's own, perhaps kinder, judgement is never set against ours. Any other metric is
    that of the files' own scores where all rows of both have it, else of our scorer of that name, which then
    judges both.

    Raises:
        ConfigError: A file has bad rows or a score that is no number, the files share no id, references or
            questions differ, or nothing in them gives the metric.
    """
    rows = pair_rows(read_prediction_rows(a), read_prediction_rows(b), (str(a), str(b)))
    return _compare(rows if metric == CORRECT else scored(rows, metric), metric)


def _compare_right_wrong(rows: Paired, judged: Sequence[tuple[bool, bool]], metric: str) -> Comparison:
    if are_clustered(rows.clusters):
        import numpy as np

        right = np.asarray(judged, dtype=np.float64)
        right = right if higher_is_better(metric) else 1 - right
        return _compare_means(rows, (right[:, :1], right[:, 1:]), metric, judged=judged)
    test = mcnemar_exact([x for x, _ in judged], [y for _, y in judged])
    both = sum(x and y for x, y in judged)
    n = len(judged)
    interval = newcombe_interval(both, test.fixed, test.broken, n - both - test.fixed - test.broken)
    result = PairedTest((test.fixed - test.broken) / n, interval, test.p_value)
    a, b = (both + test.broken) / n, (both + test.fixed) / n
    values = (a, b) if higher_is_better(metric) else (1 - a, 1 - b)
    return _record(rows, judged, result, metric=metric, values=values, test="mcnemar_exact")


def _with_reference(x: Row, y: Row) -> tuple[Row, Row]:
    """Return both rows with the reference that one of them may lack."""
    if x.reference is None and isinstance(x, PredictionRow):
        x = x._replace(reference=y.reference)
    if y.reference is None and isinstance(y, PredictionRow):
        y = y._replace(reference=x.reference)
    return x, y


def _scores(rows: Paired, *names: str) -> tuple[Floats, Floats]:
    """Return per-example scores of A and of B, each of shape ``(n, len(names))``."""
    import numpy as np

    a, b = ([[row.scores[name] for name in names] for row in side] for side in zip(*rows.pairs, strict=True))
    return np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)


def _compare_means(
    rows: Paired,
    sides: tuple[Floats, Floats],
    metric: str,
    *,
    judged: Sequence[tuple[bool, bool]] | None = None,
) -> Comparison:
    """Compare the means of per-example scores, each side of shape ``(n, 1)``."""
    import numpy as np

    ones = np.ones_like(sides[0])
    counted = (np.concatenate([sides[0], ones], axis=1), np.concatenate([sides[1], ones], axis=1))
    compared = _compare_sums(rows, counted, lambda sums: sums[:, 0] / sums[:, 1], metric, judged=judged)
    sign = 1 if higher_is_better(metric) else -1
    gains = np.concatenate([sign * (sides[1] - sides[0]), ones], axis=1)
    return compared.with_(ci95=tuple(mean_difference_interval(sums_by_cluster(gains, rows.clusters))))


def _compare_sums(
    rows: Paired,
    sides: tuple[Floats, Floats],
    of_sums: Statistic,
    metric: str,
    *,
    judged: Sequence[tuple[bool, bool]] | None = None,
) -> Comparison:
    """Compare a metric that ``of_sums`` computes of the sums over rows, by swapping what hangs together."""
    width = sides[0].shape[1]
    sign = 1 if higher_is_better(metric) else -1

    def difference(sums: Floats) -> Floats:
        return sign * (of_sums(sums[:, width:]) - of_sums(sums[:, :width]))

    a, b = (float(of_sums(side.sum(axis=0, keepdims=True))[0]) for side in sides)
    units = [sums_by_cluster(side, rows.clusters) for side in sides]
    if len(units[0]) < 2:  # one row can show nothing, and is no reason to stop a run
        observed = sign * (b - a)
        result = PairedTest(observed, Interval(min(-1.0, observed), max(1.0, observed)), 1.0)
    else:
        result = paired_test(units[0], units[1], difference)
    if judged is None:  # files may hold scores alone
        judged = [(False, False)] * len(rows.pairs) if rows.are_unjudged else rows.correct()
    return _record(rows, judged, result, metric=metric, values=(a, b), test="randomization")


def _record(
    rows: Paired,
    judged: Sequence[tuple[bool, bool]],
    result: PairedTest,
    *,
    metric: str,
    values: tuple[float, float],
    test: str,
) -> Comparison:
    changed = [
        (x.id, after) for (x, _), (before, after) in zip(rows.pairs, judged, strict=True) if before != after
    ]
    fixed = [id for id, right in changed if right]
    broken = [id for id, right in changed if not right]
    return Comparison(
        a=rows.names[0],
        b=rows.names[1],
        metric=metric,
        metric_title=title_of(metric),
        unit=unit_of(metric),
        n=len(judged),
        fixed=len(fixed),
        broken=len(broken),
        p_value=result.p_value,
        difference=result.difference,
        ci95=result.ci95,
        test=test,
        verdict=verdict_of(result.difference, result.p_value),
        fixed_ids=tuple(fixed[:_IDS_SHOWN]),
        broken_ids=tuple(broken[:_IDS_SHOWN]),
        value_a=values[0],
        value_b=values[1],
        clusters=len(set(rows.clusters)) if are_clustered(rows.clusters) else None,
        only_a=rows.only_a,
        only_b=rows.only_b,
    )


def verdict_of(difference: float, p: float) -> Verdict:
    """Return what a difference and its p-value show; positive is better."""
    if p >= SIGNIFICANT or difference == 0:
        return "no difference shown"
    return "better" if difference > 0 else "worse"
