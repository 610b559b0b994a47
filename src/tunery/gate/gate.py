"""The gate: rules written before training, judged on what was measured after it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from statistics import NormalDist
from typing import NamedTuple

from tunery.core.evaluation import Comparison, Evaluation, GateResult, Metric, RuleOutcome
from tunery.core.figures import (
    bound,
    change,
    change_interval,
    count,
    counted,
    gap,
    gap_beside,
    gap_bound,
    is_prompting,
    is_prompting_name,
    is_rate,
    metric_interval,
    metric_value,
    p_value,
    quantity_beside,
    rounded_up,
    subject_phrase,
    unit_behind,
)
from tunery.core.ids import artifact_id
from tunery.core.run import BASE, BEST, BEST_ARM, CHAMPION, START, TRAINER
from tunery.core.statistics import holm, normal_quantile
from tunery.evaluate.comparison import best_of
from tunery.evaluate.metrics import higher_is_better, title_of
from tunery.gate.check import refuse_no_rules
from tunery.gate.rules import HUMAN, GateRule, written

_SLACK = 1e-9
"""Forgives the last bits of a subtraction: 0.3 - 0.1 is not 0.2 in binary."""


class SuiteResult(NamedTuple):
    """What the base and the tuned model reach on a named suite."""

    base: Evaluation
    tuned: Evaluation
    comparisons: tuple[Comparison, ...] = ()
    """Tests of the two by metric, with the tuned model as B."""
    beside: str = "the base"
    """What the tuned model is held against there, where it is not the base."""

    @property
    def whose(self) -> str:
        """The same, of whom a figure is."""
        return f"{self.beside}'s" if self.beside == "the base" else f"on {self.beside}"


class Ratings(NamedTuple):
    """What people thought of the tuned model's answers."""

    metrics: Mapping[str, Metric] = {}
    """Criterion to its mean rating."""
    agreement: Mapping[str, float] = {}
    """Criterion to Krippendorff's alpha of the reviewers."""


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
    suites: Mapping[str, SuiteResult] = field(default_factory=dict)
    start: Evaluation | None = None
    """The model that training went on from, on the same rows; None where it began with the base."""
    trainer: Evaluation | None = None
    """The tuned model as training computed it, on the same rows; None where no rule is about it."""
    ratings: Ratings = Ratings()  # noqa: RUF009 - a tuple of nothing
    unmeasured: str = ""
    """What nobody looked at and a reader should know of; empty where all was."""


class _Judged(NamedTuple):
    holds: bool
    """By its numbers, before chance is looked at."""
    observed: float | None
    required: float | None
    sentence: str
    ci95: tuple[float, float] | None = None
    p_value: float | None = None
    """Of a rule that asks for something to be shown."""
    missing: str = ""
    """What is not shown where the p-value is too large."""
    change: str | None = None
    """What would make it hold."""


class _Unjudgeable(Exception):  # noqa: N818 - becomes a refusal, never leaves this file
    """A rule lacks what it needs; the message is its sentence."""


def judge(
    rules: Sequence[GateRule], evidence: GateEvidence, *, now: datetime, alpha: float = 0.05
) -> GateResult:
    """Judge every rule; the gate passes when all of them hold.

    Rules that ask for something to be shown share one alpha by Holm's correction, so that the chance of any
    wrong claim among them is at most alpha. A rule that cannot be judged, because a number is missing or is
    no number, fails and says so: a gate that lets through what it could not look at is none. The one
    exception is a gain over a champion that does not exist yet.

    Args:
        rules: Written before training.
        evidence: Measured after it.
        now: When.
        alpha: Chance of a wrong claim, over all rules.

    Raises:
        ConfigError: There are no rules, so anything would pass.
    """
    refuse_no_rules(rules)
    judged = [_judged(rule, evidence) for rule in rules]
    values = [one.p_value for one in judged if one.p_value is not None]
    adjusted = iter(holm(values))
    outcomes = tuple(
        _outcome(rule, one, next(adjusted) if one.p_value is not None else None, (alpha, len(values)))
        for rule, one in zip(rules, judged, strict=True)
    )
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
    result = GateResult(
        id=identity,
        passed=all(o.passed for o in outcomes),
        rules=outcomes,
        created_at=now,
        alpha=alpha,
        caveats=tuple(_caveats(evidence, alpha)),
    )
    return result.with_(verdict=verdict(result))


def verdict(result: GateResult) -> str:
    """Return the gate's verdict for a person: ship, or do not ship and the chief reason."""
    if result.passed:
        rules = len(result.rules)
        found = "ship: the rule holds" if rules == 1 else f"ship: all {rules} rules hold"
        return "; but ".join([found, *result.caveats])
    failed = [outcome for outcome in result.rules if not outcome.passed]
    if any(_is_prompting(o.rule.get("gain_over")) and (o.observed or 0) < 0 for o in failed):
        return "do not ship; prompting wins"
    if all(o.rule.get("on") not in (None, HUMAN) or "no_regression_on" in o.rule for o in failed):
        suites = dict.fromkeys(o.rule.get("on") or o.rule["no_regression_on"] for o in failed)
        return f"do not ship: the task's rules hold, those of {' and '.join(suites)} do not"
    return f"do not ship: {len(failed)} of {len(result.rules)} rules failed"


def _is_prompting(arm: str | None) -> bool:
    return arm is not None and (arm == BEST or is_prompting_name(arm))


def _judged(rule: GateRule, evidence: GateEvidence) -> _Judged:
    try:
        if rule.gain_over is not None:
            return _judge_gain(rule, evidence)
        if rule.no_worse_than is not None:
            return _judge_no_worse(rule, evidence)
        if rule.no_regression_on is not None:
            return _judge_regression(rule, evidence)
        return _judge_bound(rule, evidence)
    except _Unjudgeable as reason:
        return _Judged(False, None, None, f"{reason}; a rule that cannot be judged fails")


def _outcome(
    rule: GateRule, judged: _Judged, adjusted: float | None, shared: tuple[float, int]
) -> RuleOutcome:
    """Return a rule's outcome once chance is looked at.

    Args:
        rule: As written.
        judged: By its own numbers.
        adjusted: Its p-value after Holm's correction.
        shared: Alpha, and the tests that share it [count].
    """
    alpha, tests = shared
    passed, sentence = judged.holds, judged.sentence
    if adjusted is not None:
        passed = passed and adjusted < alpha
        over = f" over {tests} rules" if tests > 1 else ""
        sentence += f"; {p_value(adjusted)}{over}" + ("" if adjusted < alpha else f", {judged.missing}")
    if judged.holds is False and (judged.observed or 0) < 0 and _is_prompting(rule.gain_over):
        sentence += "; prompting wins"
    return RuleOutcome(
        rule=rule.model_dump(mode="json", exclude_defaults=True),
        passed=passed,
        observed=judged.observed,
        required=judged.required,
        sentence=sentence,
        ci95=judged.ci95,
        p_value=adjusted,
        written=written(rule),
        change=None if passed else judged.change,
    )


def _judge_bound(rule: GateRule, evidence: GateEvidence) -> _Judged:
    metric, where = _bounded(rule, evidence)
    if rule.at_least is not None:
        way, limit, sign = "least", rule.at_least, 1
    else:
        way, limit, sign = "most", rule.at_most if rule.at_most is not None else math.inf, -1
    share, unit = is_rate(metric), unit_behind(metric.unit)
    interval = f", 95 % interval {metric_interval(metric)}" if len(set(metric.ci95)) > 1 else ""
    sentence = (
        f"{title_of(rule.metric)}{where} is {quantity_beside(metric.value, limit, share=share)}{unit} "
        f"(n = {count(metric.n)}{interval}), "
        f"at {way} {bound(limit, share=share)}{unit} required{' of the whole interval' if rule.ci else ''}"
    )
    holds = sign * (metric.value - limit) >= -_SLACK
    if rule.agreement is not None:
        alpha = evidence.ratings.agreement.get(rule.metric, math.nan)
        holds = holds and alpha >= rule.agreement - _SLACK
        told = quantity_beside(alpha, rule.agreement, share=False) if math.isfinite(alpha) else "unknown"
        sentence += (
            f"; the reviewers' alpha is {told}, at least {bound(rule.agreement, share=False)} required"
        )
    p = None
    if rule.ci:
        ends = (metric.value - metric.ci95[0], metric.ci95[1] - metric.value)
        p = _p_beyond(sign * (metric.value - limit), ends[0] if sign > 0 else ends[1])
    fix = (
        _to_reach(metric, limit) if not holds else _rows_to_show(metric.n, metric.value - limit, metric.ci95)
    )
    return _Judged(holds, metric.value, limit, sentence, metric.ci95, p, "not shown", fix)


def _bounded(rule: GateRule, evidence: GateEvidence) -> tuple[Metric, str]:
    """Return the metric that a bound is about, and where it was measured."""
    if rule.on == HUMAN:
        return _metric(evidence.ratings.metrics, rule.metric, "the tuned model by people"), " by people"
    if rule.on is not None:
        found = _suite(rule.on, evidence).tuned.metrics
        return _metric(found, rule.metric, f"the tuned model on {rule.on}"), f" on {rule.on}"
    return _metric(evidence.tuned.metrics, rule.metric, "the tuned model"), ""


def _judge_gain(rule: GateRule, evidence: GateEvidence) -> _Judged:
    if rule.gain_over == CHAMPION and evidence.champion is None:
        return _no_champion(rule, rule.by)
    tuned, other, opponent = _sides(rule, str(rule.gain_over), evidence)
    gain = _gain(rule.metric, tuned.value, other.value)
    holds = gain >= rule.by - _SLACK and gain > 0
    sentence = (
        f"{title_of(rule.metric)} {metric_value(tuned)} is {_distance(tuned, other, rule.by)} "
        f"{subject_phrase(opponent.subject)} ({metric_value(other)}), {_required_gain(rule, tuned)} required"
    )
    fix = _to_reach(tuned, other.value + (rule.by if higher_is_better(rule.metric) else -rule.by))
    if not (rule.significant or rule.ci):
        return _Judged(holds, gain, rule.by, sentence, change=fix)
    compared = _comparison(rule, opponent, evidence)
    if rule.ci:
        p = _p_beyond(compared.difference - rule.by, compared.difference - compared.ci95[0])
        sentence += f" of the 95 % interval ({_interval(compared, tuned)})"
    else:
        p = compared.p_value if compared.difference > 0 else 1.0
    if holds:
        fix = _rows_to_show(compared.n, compared.difference - (rule.by if rule.ci else 0), compared.ci95)
    return _Judged(holds, gain, rule.by, sentence, compared.ci95, p, "no gain shown", fix)


def _judge_no_worse(rule: GateRule, evidence: GateEvidence) -> _Judged:
    if rule.no_worse_than == CHAMPION and evidence.champion is None:
        return _no_champion(rule, -rule.within)
    if rule.on is not None:
        suite = _suite(rule.on, evidence)
        tuned = _metric(suite.tuned.metrics, rule.metric, f"the tuned model on {rule.on}")
        other = _metric(suite.base.metrics, rule.metric, f"{suite.beside} on {rule.on}")
        compared = _found(suite.comparisons, suite.base.subject, rule.metric, f"{suite.beside} on {rule.on}")
        where, beside = f" on {rule.on}", suite.beside
    else:
        tuned, other, opponent = _sides(rule, str(rule.no_worse_than), evidence)
        compared = _comparison(rule, opponent, evidence)
        where, beside = "", subject_phrase(opponent.subject)
    gain = compared.difference
    sentence = (
        f"{title_of(rule.metric)}{where} is {metric_value(tuned)} (n = {count(compared.n)}), "
        f"{_distance(tuned, other, rule.within)} {beside} ({metric_value(other)}; 95 % interval of the "
        f"difference {_interval(compared, tuned)}); a loss of more than "
        f"{gap_bound(rule.within, share=is_rate(tuned))} must be ruled out"
    )
    p = _p_beyond(gain + rule.within, gain - compared.ci95[0])
    if gain <= -rule.within:
        sign = 1 if higher_is_better(rule.metric) else -1
        fix = _to_reach(tuned, other.value - sign * rule.within)
    else:
        fix = _rows_to_show(compared.n, gain + rule.within, compared.ci95)
    return _Judged(
        gain >= -rule.within - _SLACK, gain, -rule.within, sentence, compared.ci95, p, "not ruled out", fix
    )


def _judge_regression(rule: GateRule, evidence: GateEvidence) -> _Judged:
    name = str(rule.no_regression_on)
    suite = _suite(name, evidence)
    before = _metric(suite.base.metrics, rule.metric, f"the base on {name}")
    after = _metric(suite.tuned.metrics, rule.metric, f"the tuned model on {name}")
    gain = _gain(rule.metric, after.value, before.value)
    sentence = (
        f"{title_of(rule.metric)} on {name} is {metric_value(after)} (n = {count(after.n)}), "
        f"{_distance(after, before, rule.tolerance)} the base ({metric_value(before)}); "
        f"a loss of up to {gap_bound(rule.tolerance, share=is_rate(after))} is accepted"
    )
    sign = 1 if higher_is_better(rule.metric) else -1
    fix = _to_reach(after, before.value - sign * rule.tolerance)
    return _Judged(gain >= -rule.tolerance - _SLACK, gain, -rule.tolerance, sentence, change=fix)


def _no_champion(rule: GateRule, required: float) -> _Judged:
    sentence = (
        f"there is no champion yet to compare {title_of(rule.metric)} with, so nothing stands against it"
    )
    return _Judged(True, None, required, sentence)


def _suite(name: str, evidence: GateEvidence) -> SuiteResult:
    if name not in evidence.suites:
        raise _Unjudgeable(f"suite {name!r} was not measured")
    return evidence.suites[name]


def _sides(rule: GateRule, arm: str, evidence: GateEvidence) -> tuple[Metric, Metric, Evaluation]:
    """Return the metric of the tuned model and of an arm on the same rows, and the arm's evaluation."""
    opponent = _opponent(rule.metric, arm, evidence)
    tuned = _metric(evidence.tuned.metrics, rule.metric, "the tuned model")
    other = _metric(opponent.metrics, rule.metric, subject_phrase(opponent.subject))
    if opponent.arm and other.n < tuned.n:  # what others answered a part of is compared on that part
        shared = _comparison(rule, opponent, evidence)
        if shared.value_a is not None and shared.value_b is not None:
            one, two = (
                m.with_(value=v, n=shared.n) for m, v in ((tuned, shared.value_b), (other, shared.value_a))
            )
            return one, two, opponent
    if opponent.data != evidence.tuned.data or other.n != tuned.n:
        raise _Unjudgeable(
            f"{subject_phrase(opponent.subject)} was measured on {other.n} rows of {opponent.data}, the "
            f"tuned model on {tuned.n} of {evidence.tuned.data}, which cannot be compared"
        )
    return tuned, other, opponent


def _opponent(metric: str, arm: str, evidence: GateEvidence) -> Evaluation:
    named = {
        CHAMPION: evidence.champion,
        START: evidence.start,
        TRAINER: evidence.trainer,
        BASE: evidence.baselines.get("zero_shot"),
    }
    if arm not in (BEST, BEST_ARM):
        found = evidence.baselines.get(arm) or named.get(arm)
        if found is None:
            raise _Unjudgeable(f"there is no evaluation of {subject_phrase(arm)} to compare with")
        return found
    rows = evidence.tuned.metrics[metric].n if metric in evidence.tuned.metrics else None
    measured = [
        e
        for e in evidence.baselines.values()
        if metric in e.metrics and (arm == BEST_ARM or is_prompting(e)) and _whole(e, metric, rows)
    ]
    if not measured:
        raise _Unjudgeable(f"no baseline has {title_of(metric)} to compare with")
    for candidate in measured:  # one that is NaN might have been the best
        _metric(candidate.metrics, metric, subject_phrase(candidate.subject))
    return best_of(measured, metric)


def _whole(arm: Evaluation, metric: str, rows: int | None) -> bool:
    """Return whether an arm answered as many rows as the tuned model; of what others answered a part may."""
    return arm.arm is None or arm.metrics[metric].n == rows


def _comparison(rule: GateRule, opponent: Evaluation, evidence: GateEvidence) -> Comparison:
    return _found(evidence.comparisons, opponent.subject, rule.metric, subject_phrase(opponent.subject))


def _found(comparisons: Sequence[Comparison], a: str, metric: str, opponent: str) -> Comparison:
    for comparison in comparisons:
        if (comparison.a, comparison.metric) == (a, metric) and math.isfinite(comparison.p_value):
            return comparison
    raise _Unjudgeable(
        f"a difference in {title_of(metric)} to {opponent} is to be shown, and no paired test of the two was "
        "made"
    )


def _metric(metrics: Mapping[str, Metric], name: str, of: str) -> Metric:
    if name not in metrics:
        raise _Unjudgeable(f"{title_of(name)} of {of} was not measured")
    if not math.isfinite(metrics[name].value):
        raise _Unjudgeable(f"{title_of(name)} of {of} is {metrics[name].value}, not a number to judge by")
    return metrics[name]


def _gain(metric: str, tuned: float, other: float) -> float:
    return tuned - other if higher_is_better(metric) else other - tuned


def _p_beyond(above: float, reach: float) -> float:
    """Return the two-sided p-value of a value lying as far above a limit, from its 95 % interval.

    It is under 0.05 exactly where the interval's end lies above the limit, and a normal curve elsewhere.

    Args:
        above: How far the value is above the limit.
        reach: From the value to the end of its interval towards the limit.
    """
    if above <= _SLACK or math.isnan(above):
        return 1.0
    if reach <= 0:
        return 0.0
    return min(1.0, 2 * (1 - NormalDist().cdf(above * normal_quantile(0.95) / reach)))


def _interval(compared: Comparison, metric: Metric) -> str:
    return change_interval(*compared.ci95, share=is_rate(metric))


def _to_reach(metric: Metric, limit: float) -> str:
    """Return what a value is short of a limit, in right answers where it counts those."""
    amount = abs(limit - metric.value)
    if is_rate(metric) and metric.method == "wilson" and 0 <= limit <= 1 and metric.higher_is_better:
        answers = math.ceil(amount * metric.n - 1e-6)
        return f"{counted(max(1, answers), 'more right answer')} of {count(metric.n)} would reach it"
    way = "more" if metric.higher_is_better else "less"
    return f"{gap(amount, share=is_rate(metric))} {way} would reach it"


def _rows_to_show(n: int, above: float, ci95: tuple[float, float]) -> str:
    """Return the rows that would show what these did not, if they came out alike."""
    if abs(above) <= _SLACK:
        return "a value beyond the limit; on it no number of rows shows anything"
    needed = math.ceil(n * ((ci95[1] - ci95[0]) / 2 / above) ** 2)
    return f"with results like these, about {count(rounded_up(max(needed, n + 1)))} rows would show it"


def _caveats(evidence: GateEvidence, alpha: float) -> list[str]:
    """Return what speaks against shipping though rules may hold: no gain over prompting, losses elsewhere."""
    found = []
    main = evidence.tuned.main_metric
    rows = evidence.tuned.metrics[main].n if main in evidence.tuned.metrics else None
    baselines = [e for e in evidence.baselines.values() if main in e.metrics and _whole(e, main, rows)]
    if baselines and rows is not None:
        best = best_of(baselines, main)
        shown = next((c for c in evidence.comparisons if (c.a, c.metric) == (best.subject, main)), None)
        if shown is None or not (shown.p_value < alpha and shown.difference > 0):
            numbers = f" ({_difference_in_words(shown, evidence.tuned.main)})" if shown else ""
            found.append(f"no gain over {subject_phrase(best.subject)} is shown{numbers}")
    for name, suite in evidence.suites.items():
        adjusted = holm([compared.p_value for compared in suite.comparisons])
        for compared, p in zip(suite.comparisons, adjusted, strict=True):
            if p < alpha and compared.difference < 0 and compared.metric in suite.tuned.metrics:
                told = compared.with_(p_value=p)
                numbers = _difference_in_words(told, suite.tuned.metrics[compared.metric])
                found.append(f"{title_of(compared.metric)} on {name} is worse than {suite.whose} ({numbers})")
    return [*found, evidence.unmeasured] if evidence.unmeasured else found


def _difference_in_words(compared: Comparison, metric: Metric) -> str:
    share = is_rate(metric)
    return (
        f"{change(compared.difference, share=share)}, 95 % interval {_interval(compared, metric)}, "
        f"{p_value(compared.p_value)}"
    )


def _distance(one: Metric, other: Metric, limit: float) -> str:
    """Return how far one value is from another, told apart from the distance that a rule names."""
    amount = one.value - other.value
    if amount == 0:
        return "level with"
    share = is_rate(one) and is_rate(other)
    return f"{gap_beside(amount, limit, share=share)} {'above' if amount > 0 else 'below'}"


def _required_gain(rule: GateRule, metric: Metric) -> str:
    return "any gain" if rule.by == 0 else f"a gain of at least {gap_bound(rule.by, share=is_rate(metric))}"
