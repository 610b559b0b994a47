"""The gate: rules written before training, judged on what was measured after it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from tunery.core.errors import ConfigError
from tunery.core.evaluation import Comparison, Evaluation, GateResult, Metric, RuleOutcome
from tunery.core.figures import (
    bound,
    count,
    gap_beside,
    gap_bound,
    is_rate,
    metric_interval,
    metric_value,
    p_value,
    quantity_beside,
)
from tunery.core.ids import artifact_id
from tunery.evaluate.comparison import SIGNIFICANT
from tunery.evaluate.config import GateRule
from tunery.evaluate.metrics import higher_is_better, title_of
from tunery.evaluate.task import Task

_SLACK = 1e-9
"""Forgives the last bits of a subtraction: 0.3 - 0.1 is not 0.2 in binary."""
_PROMPTED = ("zero_shot", "few_shot", "best_baseline")


class SuiteNumbers(NamedTuple):
    """What the base and the tuned model reach on a named suite."""

    base: Mapping[str, Metric]
    tuned: Mapping[str, Metric]


@dataclass(frozen=True, slots=True)
class GateEvidence:
    """Everything that rules may look at."""

    tuned: Evaluation
    baselines: Mapping[str, Evaluation] = field(default_factory=dict)
    """Subject to its evaluation on the same rows."""
    comparisons: Sequence[Comparison] = ()
    """Paired tests with the tuned model as B, found by their A (an evaluation's subject) and metric."""
    champion: Evaluation | None = None
    """The present champion on the same rows; None while there is no champion."""
    suites: Mapping[str, SuiteNumbers] = field(default_factory=dict)
    start: Evaluation | None = None
    """The model that training went on from, on the same rows; None where it began with the base."""


class _Judged(NamedTuple):
    passed: bool
    observed: float | None
    required: float | None
    sentence: str


class _Unjudgeable(Exception):  # noqa: N818 - becomes a refusal, never leaves this file
    """A rule lacks what it needs; the message is its sentence."""


def check_rules(
    rules: Sequence[GateRule],
    task: Task,
    *,
    baselines: Sequence[str],
    suites: Sequence[str],
    start: bool = False,
) -> None:
    """Refuse rules that could only fail for want of a number, before anything is spent on training.

    ``baselines`` and ``suites`` are the names of those that will be measured; ``start`` says whether the
    model that training goes on from will be.

    Raises:
        ConfigError: There are no rules, or lists each rule's problem.
    """
    _refuse_no_rules(rules)
    problems = _missing_opponents(rules, baselines, suites, start=start)
    for number, rule in enumerate(rules):
        if rule.no_regression_on is None:
            try:
                task.check_metric(rule.metric, what=f"gate.rules[{number}].metric")
            except ConfigError as error:
                problems.append(error.message)
    if problems:
        raise ConfigError.of_problems("gate", problems)


def check_opponents(
    rules: Sequence[GateRule], *, baselines: Sequence[str], suites: Sequence[str], start: bool = False
) -> None:
    """Refuse rules that compare with what will not be measured; that can be told before the data is read.

    Raises:
        ConfigError: Lists each rule's problem.
    """
    if problems := _missing_opponents(rules, baselines, suites, start=start):
        raise ConfigError.of_problems("gate", problems)


def _missing_opponents(
    rules: Sequence[GateRule], baselines: Sequence[str], suites: Sequence[str], *, start: bool
) -> list[str]:
    problems = []
    for number, rule in enumerate(rules):
        where, needed = f"gate.rules[{number}]", rule.gain_over
        if rule.no_regression_on is not None and rule.no_regression_on not in suites:
            shown = ", ".join(suites) or "none"
            problems.append(f"{where}: suite {rule.no_regression_on!r} is not measured (measured: {shown})")
        if needed in ("zero_shot", "few_shot") and needed not in baselines:
            problems.append(f"{where}: gain_over {needed}, and that baseline is switched off")
        if needed == "start" and not start:
            problems.append(f"{where}: gain_over start, and train.start_from names no training before")
        if needed == "best_baseline" and not baselines:
            problems.append(f"{where}: gain_over best_baseline, and all baselines are switched off")
    return problems


def _refuse_no_rules(rules: Sequence[GateRule]) -> None:
    if not rules:
        raise ConfigError("the gate has no rules and would let anything pass", hint="set goal.metric")


def judge(rules: Sequence[GateRule], evidence: GateEvidence, *, now: datetime) -> GateResult:
    """Judge every rule; the gate passes when all of them hold.

    A rule that cannot be judged, because a number is missing or is no number, fails and says so: a gate
    that lets through what it could not look at is none. The one exception is a gain over a champion that
    does not exist yet.

    Raises:
        ConfigError: There are no rules, so anything would pass.
    """
    _refuse_no_rules(rules)
    outcomes = tuple(_outcome(rule, evidence) for rule in rules)
    inputs = {"tuned": evidence.tuned.id, "champion": evidence.champion.id if evidence.champion else "none"}
    inputs |= {"start": evidence.start.id} if evidence.start else {}
    inputs |= {f"baseline {name}": found.id for name, found in evidence.baselines.items()}
    identity = artifact_id(
        "gate",
        stage="gate",
        version=1,
        config={"rules": [o.rule for o in outcomes], "sentences": [o.sentence for o in outcomes]},
        inputs=inputs,
    )
    return GateResult(id=identity, passed=all(o.passed for o in outcomes), rules=outcomes, created_at=now)


def verdict(result: GateResult) -> str:
    """Return the gate's verdict for a person: ship, or do not ship and the chief reason."""
    if result.passed:
        rules = len(result.rules)
        return "ship: the rule holds" if rules == 1 else f"ship: all {rules} rules hold"
    failed = [outcome for outcome in result.rules if not outcome.passed]
    if any(o.rule.get("gain_over") in _PROMPTED and (o.observed or 0) < 0 for o in failed):
        return "do not ship; prompting wins"
    return f"do not ship: {len(failed)} of {len(result.rules)} rules failed"


def _outcome(rule: GateRule, evidence: GateEvidence) -> RuleOutcome:
    try:
        if rule.gain_over is not None:
            judged = _judge_gain(rule, evidence)
        elif rule.no_regression_on is not None:
            judged = _judge_regression(rule, evidence)
        else:
            judged = _judge_bound(rule, evidence)
    except _Unjudgeable as reason:
        judged = _Judged(False, None, None, f"{reason}; a rule that cannot be judged fails")
    return RuleOutcome(rule=rule.model_dump(mode="json", exclude_defaults=True), **judged._asdict())


def _judge_bound(rule: GateRule, evidence: GateEvidence) -> _Judged:
    metric = _metric(evidence.tuned.metrics, rule.metric, "the tuned model")
    if rule.at_least is not None:
        way, limit, passed = "least", rule.at_least, metric.value >= rule.at_least - _SLACK
    else:
        limit = rule.at_most if rule.at_most is not None else math.inf
        way, passed = "most", metric.value <= limit + _SLACK
    share = is_rate(metric)
    sentence = (
        f"{title_of(rule.metric)} is {quantity_beside(metric.value, limit, share=share)} "
        f"(n = {count(metric.n)}, 95 % interval {metric_interval(metric)}), "
        f"at {way} {bound(limit, share=share)} required"
    )
    return _Judged(passed, metric.value, limit, sentence)


def _judge_gain(rule: GateRule, evidence: GateEvidence) -> _Judged:
    if rule.gain_over == "champion" and evidence.champion is None:
        sentence = (
            f"there is no champion yet to compare {title_of(rule.metric)} with, so nothing stands against it"
        )
        return _Judged(True, None, rule.by, sentence)
    opponent = _opponent(rule, evidence)
    tuned = _metric(evidence.tuned.metrics, rule.metric, "the tuned model")
    other = _metric(opponent.metrics, rule.metric, opponent.subject)
    if opponent.data != evidence.tuned.data or other.n != tuned.n:
        raise _Unjudgeable(
            f"{opponent.subject} was measured on {other.n} rows of {opponent.data}, the tuned model on "
            f"{tuned.n} of {evidence.tuned.data}, which cannot be compared"
        )
    gain = _gain(rule.metric, tuned.value, other.value)
    passed = gain >= rule.by - _SLACK and gain > 0
    sentence = (
        f"{title_of(rule.metric)} {metric_value(tuned)} is {_distance(tuned, other, rule.by)} "
        f"{opponent.subject} ({metric_value(other)}), {_required_gain(rule, tuned)} required"
    )
    if rule.significant:
        comparison = _comparison(rule, opponent, evidence)
        shown = comparison.p_value < SIGNIFICANT and comparison.difference > 0
        passed = passed and shown
        sentence += f"; {p_value(comparison.p_value)}" + ("" if shown else ", no gain shown")
    if gain < 0 and rule.gain_over in _PROMPTED:
        sentence += "; prompting wins"
    return _Judged(passed, gain, rule.by, sentence)


def _judge_regression(rule: GateRule, evidence: GateEvidence) -> _Judged:
    name = str(rule.no_regression_on)
    if name not in evidence.suites:
        raise _Unjudgeable(f"suite {name!r} was not measured")
    numbers = evidence.suites[name]
    before = _metric(numbers.base, rule.metric, f"the base on {name}")
    after = _metric(numbers.tuned, rule.metric, f"the tuned model on {name}")
    gain = _gain(rule.metric, after.value, before.value)
    sentence = (
        f"{title_of(rule.metric)} on {name} is {metric_value(after)} (n = {count(after.n)}), "
        f"{_distance(after, before, rule.tolerance)} the base ({metric_value(before)}); "
        f"a loss of up to {gap_bound(rule.tolerance, share=is_rate(after))} is accepted"
    )
    return _Judged(gain >= -rule.tolerance - _SLACK, gain, -rule.tolerance, sentence)


def _opponent(rule: GateRule, evidence: GateEvidence) -> Evaluation:
    if rule.gain_over == "champion" and evidence.champion is not None:
        return evidence.champion
    if rule.gain_over == "start" and evidence.start is not None:
        return evidence.start
    if rule.gain_over != "best_baseline":
        if rule.gain_over not in evidence.baselines:
            raise _Unjudgeable(f"there is no evaluation of {rule.gain_over} to compare with")
        return evidence.baselines[str(rule.gain_over)]
    measured = [e for e in evidence.baselines.values() if rule.metric in e.metrics]
    if not measured:
        raise _Unjudgeable(f"no baseline has {title_of(rule.metric)} to compare with")
    for candidate in measured:  # one that is NaN might have been the best
        _metric(candidate.metrics, rule.metric, candidate.subject)
    sign = 1 if higher_is_better(rule.metric) else -1
    return max(measured, key=lambda e: sign * e.metrics[rule.metric].value)


def _comparison(rule: GateRule, opponent: Evaluation, evidence: GateEvidence) -> Comparison:
    wanted = (opponent.subject, evidence.tuned.subject, rule.metric)
    for comparison in evidence.comparisons:
        if (comparison.a, comparison.b, comparison.metric) == wanted and math.isfinite(comparison.p_value):
            return comparison
    raise _Unjudgeable(
        f"a significant gain in {title_of(rule.metric)} over {opponent.subject} is required, and no "
        "paired test of the two was made"
    )


def _metric(metrics: Mapping[str, Metric], name: str, of: str) -> Metric:
    if name not in metrics:
        raise _Unjudgeable(f"{title_of(name)} of {of} was not measured")
    if not math.isfinite(metrics[name].value):
        raise _Unjudgeable(f"{title_of(name)} of {of} is {metrics[name].value}, not a number to judge by")
    return metrics[name]


def _gain(metric: str, tuned: float, other: float) -> float:
    return tuned - other if higher_is_better(metric) else other - tuned


def _distance(one: Metric, other: Metric, limit: float) -> str:
    """Return how far one value is from another, told apart from the distance that a rule names."""
    amount = one.value - other.value
    if amount == 0:
        return "level with"
    share = is_rate(one) and is_rate(other)
    return f"{gap_beside(amount, limit, share=share)} {'above' if amount > 0 else 'below'}"


def _required_gain(rule: GateRule, metric: Metric) -> str:
    return "any gain" if rule.by == 0 else f"a gain of at least {gap_bound(rule.by, share=is_rate(metric))}"
