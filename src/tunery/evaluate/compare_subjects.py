"""The paired comparisons that a run reports and its gate may ask for."""

from __future__ import annotations

from collections.abc import Sequence

from tunery.core.evaluation import Comparison
from tunery.evaluate.comparison import compare
from tunery.evaluate.config import GateRule
from tunery.evaluate.run import EvaluationResult


def compare_results(
    tuned: EvaluationResult, others: Sequence[EvaluationResult], *, rules: Sequence[GateRule] = ()
) -> tuple[Comparison, ...]:
    """Compare the tuned model with each other subject, on the main metric and on what rules must see.

    Args:
        tuned: B of every comparison.
        others: Baselines and, if there is one, the champion.
        rules: The gate's; each that asks for significance names a metric to test.

    Returns:
        For each other, first the main metric's comparison, then further ones; a metric that one side lacks
        is left out, and the gate then refuses the rule that needs it.

    Raises:
        ConfigError: The two were not evaluated on the same examples.
    """
    main = tuned.evaluation.main_metric
    metrics = dict.fromkeys([main, *(rule.metric for rule in rules if rule.significant)])
    found = []
    for other in others:
        names = (other.evaluation.subject, tuned.evaluation.subject)
        labels = tuned.evaluation.config.get("labels")
        found += [
            compare(other.predictions, tuned.predictions, metric=metric, names=names, labels=labels)
            for metric in metrics
            if metric in other.evaluation.metrics and metric in tuned.evaluation.metrics
        ]
    return tuple(found)
