"""The numbers: tiles, the table of metrics by model, the bars, and the gate's rules."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from tunery.core.evaluation import Evaluation, Metric, RuleOutcome
from tunery.core.figures import (
    at_least_as_good,
    count,
    counted,
    difference,
    duration,
    effort,
    is_prompting,
    metric_interval,
    metric_value,
    p_value,
    subject_name,
    subject_order,
)
from tunery.report.bar_chart import SubjectBar, bar_chart
from tunery.report.inputs import ReportInputs


class Tile(NamedTuple):
    """One figure a reader should leave with."""

    label: str
    value: str
    note: str


class MetricRow(NamedTuple):
    """One metric across models."""

    metrics: Sequence[Metric | None]
    """None where it was not measured; at least one was."""
    best: Metric | None
    """The one that no other reaches."""
    goal: bool


class MetricTable(NamedTuple):
    """Metrics by models."""

    subjects: Sequence[str]
    rows: Sequence[MetricRow]


def ordered_evaluations(inputs: ReportInputs) -> list[tuple[str, Evaluation]]:
    """Return the evaluations from plain prompting to the tuned model."""
    return sorted(inputs.evaluations.items(), key=lambda item: subject_order(item[0]))


def tiles_of(inputs: ReportInputs) -> list[Tile]:
    """Return the few figures that sum the run up; only those that were measured."""
    tiles = []
    tuned = inputs.main_of(inputs.tuned)
    if tuned:
        note = f"{metric_interval(tuned)} · n {count(tuned.n)}"
        tiles.append(Tile(f"Tuned, {tuned.title}", metric_value(tuned), note))
    if inputs.best_prompting and inputs.prompting:
        prompting = metric_value(inputs.prompting)
        tiles.append(Tile("Best prompting", prompting, subject_name(inputs.best_prompting)))
    comparison = inputs.comparisons.get(inputs.main_comparison or "")
    if comparison and tuned and comparison.metric == tuned.name:
        against = f"over {subject_name(inputs.main_comparison or '').lower()}, {p_value(comparison.p_value)}"
        tiles.append(Tile("Gain", difference(tuned, comparison.difference), against))
    if inputs.adapter:
        note = f"{count(inputs.adapter.trained_tokens)} tokens · {counted(inputs.adapter.steps, 'step')}"
        tiles.append(Tile("Training took", duration(inputs.adapter.seconds), note))
    if inputs.run.seconds:
        tiles.append(Tile("Whole run", duration(sum(inputs.run.seconds.values())), "all stages together"))
    return tiles


def metric_table(inputs: ReportInputs) -> MetricTable | None:
    """Lay the metrics out by model, the goal's metric first; None when nothing was evaluated."""
    evaluations = ordered_evaluations(inputs)
    names = dict.fromkeys(name for _, evaluation in evaluations for name in evaluation.metrics)
    if not names:
        return None
    rows = []
    for name in sorted(names, key=lambda name: name != inputs.main_metric):
        metrics = [evaluation.metrics.get(name) for _, evaluation in evaluations]
        rows.append(MetricRow(metrics, _best_of(metrics), name == inputs.main_metric))
    return MetricTable([subject for subject, _ in evaluations], rows)


class EffortRow(NamedTuple):
    """What a model's answers took."""

    subject: str
    figures: Sequence[str | None]


def effort_of(inputs: ReportInputs) -> list[EffortRow]:
    """Return what each model's answers took; empty where it is known of none."""
    price = (inputs.run.recipe.get("evaluate") or {}).get("price_per_hour")
    rows = [EffortRow(s, [v for _, v in effort(e, price)]) for s, e in ordered_evaluations(inputs)]
    return rows if any(v is not None for row in rows for v in row.figures) else []


def _best_of(metrics: Sequence[Metric | None]) -> Metric | None:
    measured = [metric for metric in metrics if metric is not None]
    best = [m for m in measured if all(at_least_as_good(m, other) for other in measured)]
    return best[0] if len(best) == 1 < len(measured) else None


def bars_of(inputs: ReportInputs) -> Markup | None:
    """Draw the goal's metric for every model that has it, as a number."""
    bars = [
        SubjectBar(
            subject_name(subject),
            "tuned" if subject == "tuned" else "prompting" if is_prompting(evaluation) else "version",
            metric,
        )
        for subject, evaluation in ordered_evaluations(inputs)
        if (metric := inputs.main_of(evaluation)) is not None
        and all(math.isfinite(x) for x in (metric.value, *metric.ci95))
    ]
    return bar_chart(bars, target_of(inputs.run.recipe)) if bars else None


def target_of(recipe: Mapping[str, Any]) -> float | None:
    """Return the value that the recipe's goal names, None where it names none."""
    goal = recipe.get("goal")
    target = goal.get("target") if isinstance(goal, Mapping) else None
    return float(target) if isinstance(target, (int, float)) and not isinstance(target, bool) else None


def rule_as_written(outcome: RuleOutcome) -> str:
    """Return a gate rule as it reads; its sentence holds the numbers in the unit it means."""
    return outcome.written or ", ".join(
        f"{key}: {value if isinstance(value, str) else json.dumps(value, default=str)}"
        for key, value in outcome.rule.items()
        if value is not None
    )
