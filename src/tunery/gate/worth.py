"""Is fine-tuning worth it: what prompting gives already, what each arm costs, when training pays back."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from tunery.core.evaluation import Comparison, Evaluation
from tunery.core.figures import (
    at_least_as_good,
    change,
    change_interval,
    count,
    duration,
    is_prompting,
    is_rate,
    metric_phrase,
    metric_value,
    p_value,
    percent,
    quantity,
    rounded_up,
    subject_name,
    subject_phrase,
    usd,
)
from tunery.core.prices import usd_of_time
from tunery.core.run import CHAMPION, START, TRAINER, TUNED
from tunery.evaluate.comparison import best_of

ENOUGH = 0.8
"""Share of the target from which prompting alone is worth a second thought."""


class Terms(NamedTuple):
    """What worth is measured by."""

    target: float | None = None
    """Of the goal's metric."""
    price_per_hour: float | None = None
    """Of the hardware that trains and answers [US dollars]."""
    training_s: float | None = None
    """Wall time of the training [s]."""
    alpha: float = 0.05


def worth(
    evaluations: Mapping[str, Evaluation], comparisons: Mapping[str, Comparison], terms: Terms
) -> tuple[str, ...]:
    """Return what a person should weigh, in sentences; none where the tuned model was not measured.

    Args:
        evaluations: Subject to its evaluation on the test split.
        comparisons: Subject to its paired test with the tuned model as B, on the goal's metric.
        terms: Target, prices and training time.
    """
    tuned = evaluations.get(TUNED)
    if tuned is None or tuned.main_metric not in tuned.metrics:
        return ()
    main = tuned.main_metric
    own = (TUNED, START, CHAMPION, TRAINER)
    arms = {
        name: e
        for name, e in evaluations.items()
        if name not in own and main in e.metrics and math.isfinite(e.metrics[main].value)
    }
    return (
        *_prompting(arms, main, terms),
        *_gain(arms, tuned, comparisons, terms),
        *_costs({**arms, TUNED: tuned}, terms),
        *_payback(arms, tuned, terms),
    )


def _prompting(arms: Mapping[str, Evaluation], main: str, terms: Terms) -> Iterator[str]:
    prompted = [e for e in arms.values() if is_prompting(e)]
    if not prompted:
        return
    best = best_of(prompted, main)
    metric = best.metrics[main]
    sentence = f"Prompting alone reaches {metric_phrase(metric)} ({subject_phrase(best.subject)})"
    if terms.target is not None and terms.target > 0 and metric.higher_is_better:
        share = metric.value / terms.target
        sentence += (
            f", {percent(min(share, 1.0))} of the target of {quantity(terms.target, share=is_rate(metric))}"
        )
        if share >= 1:
            sentence += ": the target is reached without any training"
        elif share >= ENOUGH:
            sentence += ": think twice whether the rest is worth a model of one's own"
    yield f"{sentence}."


def _gain(
    arms: Mapping[str, Evaluation], tuned: Evaluation, comparisons: Mapping[str, Comparison], terms: Terms
) -> Iterator[str]:
    """Say by how much the tuned model is ahead of the best prompting, and of the best of all other arms."""
    main = tuned.main_metric
    prompted = [e for e in arms.values() if is_prompting(e)]
    others = [e for e in arms.values() if not is_prompting(e)]
    shown = [best_of(some, main) for some in (prompted, others) if some]
    for arm in shown:
        compared = comparisons.get(arm.subject)
        if compared is None or compared.metric != main:
            continue
        share = is_rate(tuned.metrics[main])
        ahead = compared.p_value < terms.alpha and compared.difference > 0
        behind = compared.p_value < terms.alpha and compared.difference < 0
        verdict = "better than" if ahead else "worse than" if behind else "not shown to be better than"
        rows = f" on the {count(compared.n)} rows that both answered" if compared.n < tuned.main.n else ""
        yield (
            f"The tuned model is {verdict} {subject_phrase(arm.subject)}{rows}: {metric_value(tuned.main)} "
            f"against {metric_value(arm.metrics[main])}, {change(compared.difference, share=share)} (95 % "
            f"interval {change_interval(*compared.ci95, share=share)}, {p_value(compared.p_value)})."
        )


def _costs(arms: Mapping[str, Evaluation], terms: Terms) -> Iterator[str]:
    price = terms.price_per_hour
    known = {name: cost for name, e in arms.items() if (cost := e.usd_per_1k(price)) is not None}
    if not known:
        return
    listed = [f"{subject_name(name)} {usd(cost)}" for name, cost in sorted(known.items(), key=lambda c: c[1])]
    hourly = "" if terms.price_per_hour is None else f" at {usd(terms.price_per_hour)} an hour"
    yield f"1,000 requests cost, own hardware{hourly} at the evaluation's pace: {', '.join(listed)}."


def _payback(arms: Mapping[str, Evaluation], tuned: Evaluation, terms: Terms) -> Iterator[str]:
    """Say after how many requests training has paid itself against the cheapest arm that is as good."""
    mine = tuned.usd_per_1k(terms.price_per_hour)
    if mine is None or terms.price_per_hour is None or terms.training_s is None:
        return
    spent = usd_of_time(terms.training_s, terms.price_per_hour)
    training = f"Training took {duration(terms.training_s)}, {usd(spent)}"
    main = tuned.main_metric
    equal = {
        name: cost
        for name, e in arms.items()
        if at_least_as_good(e.metrics[main], tuned.main)
        and (cost := e.usd_per_1k(terms.price_per_hour)) is not None
    }
    if not equal:
        yield f"{training}; no arm of known cost is as good: what it bought is quality, not a saving."
        return
    name, cost = min(equal.items(), key=lambda item: item[1])
    if cost <= mine:
        yield f"{training}; it never pays back: {subject_phrase(name)} is as good and costs no more."
        return
    requests = rounded_up(math.ceil(spent / (cost - mine) * 1000))
    yield f"{training}; against {subject_phrase(name)} it has paid itself after {count(requests)} requests."
