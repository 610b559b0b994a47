"""The numbers: tiles, the table of metrics by model, the bars, and the gate's rules."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from markupsafe import Markup

from tunery.core.evaluation import Evaluation, Metric, RuleOutcome
from tunery.core.figures import (
    at_least_as_good,
    count,
    counted,
    difference,
    duration,
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


class Cell(NamedTuple):
    """One metric of one model."""

    value: str
    interval: str
    n: str
    best: bool


class MetricRow(NamedTuple):
    """One metric across models; None where it was not measured."""

    name: str
    direction: str | None
    """Said only where lower is better."""
    goal: bool
    cells: tuple[Cell | None, ...]


class MetricTable(NamedTuple):
    """Metrics by models."""

    subjects: tuple[str, ...]
    tuned_column: int | None
    rows: tuple[MetricRow, ...]


class RuleLine(NamedTuple):
    """One gate rule as the page shows it."""

    passed: bool
    sentence: str
    written: str
    """The rule as its author wrote it."""


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
    best = inputs.best_prompting
    prompting = inputs.main_of(inputs.evaluations[best]) if best else None
    if best and prompting:
        tiles.append(Tile("Best prompting", metric_value(prompting), subject_name(best)))
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
    ordered = sorted(names, key=lambda name: name != inputs.main_metric)
    rows = tuple(_row(name, [e for _, e in evaluations], goal=name == inputs.main_metric) for name in ordered)
    subjects = [subject for subject, _ in evaluations]
    tuned = subjects.index("tuned") if "tuned" in subjects else None
    return MetricTable(tuple(subject_name(s) for s in subjects), tuned, rows)


def _row(name: str, evaluations: list[Evaluation], *, goal: bool) -> MetricRow:
    metrics = [evaluation.metrics.get(name) for evaluation in evaluations]
    measured = [metric for metric in metrics if metric is not None]
    lower = not measured[0].higher_is_better
    cells = tuple(_cell(metric, measured) if metric else None for metric in metrics)
    return MetricRow(measured[0].title, "lower is better" if lower else None, goal, cells)


def _cell(metric: Metric, row: list[Metric]) -> Cell:
    best = len(row) > 1 and all(at_least_as_good(metric, other) for other in row)
    shared = sum(metric.value == other.value for other in row) > 1
    return Cell(metric_value(metric), metric_interval(metric), count(metric.n), best and not shared)


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


def rules_of(inputs: ReportInputs) -> list[RuleLine]:
    """Return the gate's rules, the refused ones first."""
    rules = inputs.gate.rules if inputs.gate else ()
    return [_rule(rule) for rule in sorted(rules, key=lambda rule: rule.passed)]


def _rule(rule: RuleOutcome) -> RuleLine:
    # The sentence holds the numbers already, in the unit the rule means.
    written = ", ".join(
        f"{key}: {value if isinstance(value, str) else json.dumps(value, default=str)}"
        for key, value in rule.rule.items()
        if value is not None
    )
    return RuleLine(rule.passed, rule.sentence, written)
