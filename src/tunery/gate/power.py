"""What a test split can show: the smallest gain that a paired test sees, and the rows that a gain needs.

Two models are told apart by the rows on which one is right and the other is not. How many those are is known
only afterwards, so it is taken from what is known before: the baseline's errors once they are measured, and a
tenth of the rows while nothing is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import NormalDist

from tunery.core.evaluation import Evaluation
from tunery.core.figures import (
    counted,
    gap,
    is_prompting_name,
    is_rate,
    is_share,
    metric_value,
    percent,
    rounded_up,
    subject_name,
)
from tunery.core.run import BEST, BEST_ARM
from tunery.evaluate.comparison import SIGNIFICANT, best_of
from tunery.evaluate.metrics import higher_is_better, unit_of
from tunery.gate.rules import GateRule, written

POWER = 0.8
"""Chance with which a gain is to be shown if it is there."""
_UNKNOWN = 0.1
_OF_CHOICES = 0.25
"""Share of multiple-choice items that a model judges differently once tuned: likeliest letters turn easily.
Measured on SmolLM2-135M before and after BANKING77: 26 % of 400 (docs/lab-log.md)."""
_STEPS = 1000


def rows_needed(gain: float, discordant: float, *, alpha: float = SIGNIFICANT, power: float = POWER) -> int:
    """Return the paired rows at which McNemar's test shows a gain, at least those of the exact test [rows].

    Args:
        gain: Share of rows won, above 0.
        discordant: Share of rows on which one model is right and the other is not; at least ``gain``.
        alpha: Two-sided level of the test.
        power: Chance of showing it.

    Raises:
        ValueError: The gain is not above 0, or above the discordant share.

    Source:
        Connor (1987), Biometrics 43(1), 207-211, equation 3 without its correction.

    >>> rows_needed(0.02, 0.1)
    1960
    """
    if not 0 < gain <= discordant <= 1:
        raise ValueError(f"a gain of {gain} in {discordant} discordant rows")
    level, chance = _quantiles(alpha, power)
    spread = level * math.sqrt(discordant) + chance * math.sqrt(discordant - gain**2)
    return max(math.ceil((spread / gain) ** 2), math.ceil(_fewest_won(alpha) / discordant))


def detectable_gain(rows: int, discordant: Callable[[float], float], *, most: float = 1.0) -> float | None:
    """Return the smallest gain that paired rows show, to a thousandth of ``most``; None where none is.

    Args:
        rows: Of the test split [rows].
        discordant: From a gain to the share of rows on which one model is right and the other is not.
        most: Largest gain there can be.

    >>> detectable_gain(385, lambda gain: max(0.1, gain))
    0.046
    """
    gains = (most * step / _STEPS for step in range(1, _STEPS + 1))
    return next((gain for gain in gains if gain and rows_needed(gain, discordant(gain)) <= rows), None)


def unmeasured(gain: float) -> float:
    """Return the share of rows that two models are taken to judge differently while nothing is measured."""
    return max(_UNKNOWN, gain)


def discordant_share(baseline: float, gain: float) -> float:
    """Return on which share of rows a baseline and a model that gains on it disagree, when errors are
    independent of each other; they seldom are, so it is at most that.

    Args:
        baseline: Share of rows that the baseline has right.
        gain: Of the other model, which has ``baseline + gain`` right.
    """
    better = min(1.0, baseline + gain)
    independent = baseline * (1 - better) + better * (1 - baseline)
    # What is won was wrong before; as much as is lost besides must be won back.
    return max(gain, min(independent, 2 * (1 - baseline) - gain))


def before_anything(rows: int, gains: Sequence[float]) -> str:
    """Return what test rows can show while no model is measured.

    Args:
        rows: Of the test split [rows].
        gains: Smallest gains that the gate's rules ask to be shown; may be empty.
    """
    seen = detectable_gain(rows, unmeasured)
    assumed = (
        f"paired test at {SIGNIFICANT:g}, power {POWER:g}, {percent(_UNKNOWN)} of the rows judged differently"
    )
    if seen is None:
        return f"{counted(rows, 'test row')} can show no gain at all; take {rows_needed(1.0, 1.0)} at least"
    sentence = f"{counted(rows, 'test row')} can show a gain of {_points(seen)} ({assumed})"
    small = [gain for gain in gains if 0 < gain < seen]
    wanted = min(small) if small else seen / 2
    why = " that the gate asks for" if small else ""
    need = rounded_up(rows_needed(wanted, unmeasured(wanted)))
    return f"{sentence}; for {_points(wanted)}{why} take {need:,}"


def undecidable(rules: Sequence[GateRule], rows: Callable[[GateRule], int], *, alpha: float) -> list[str]:
    """Return which rules their rows are too few to decide, with the number that could.

    Args:
        rules: Of the gate.
        rows: From a rule to the rows that its metric is of; 0 where they are not known [rows].
        alpha: Of the gate.
    """
    judged = ((rule, _undecidable(rule, have, alpha)) for rule in rules if (have := rows(rule)))
    return [f"{written(rule)}: {why}" for rule, why in judged if why]


def _undecidable(rule: GateRule, have: int, alpha: float) -> str | None:
    if rule.no_worse_than is not None and is_share(unit_of(rule.metric)):
        if not rule.within:
            return "no number of rows rules every loss out; give it a margin (within 0.02)"
        differ = _OF_CHOICES if rule.metric.partition(".")[0] == "multiple_choice" else _UNKNOWN
        need = rows_to_rule_out(rule.within, alpha=alpha, discordant=differ)
        why = f"with {percent(differ)} of them judged differently and nothing lost, at power {POWER:g}"
    elif rule.ci and rule.at_least is not None and is_share(unit_of(rule.metric), rule.at_least):
        if rule.at_least >= 1:
            return "no number of rows shows that nothing is ever wrong"
        need = math.ceil(_quantiles(alpha, POWER)[0] ** 2 * rule.at_least / (1 - rule.at_least))
        why = "even with every answer right"
    else:
        return None
    if have >= need:
        return None
    beside = f"{counted(have, 'row')} of {rule.on}" if rule.on else counted(have, "test row")
    return f"{beside} can hardly show it ({why}); take {rounded_up(need):,}"


def rows_to_rule_out(loss: float, *, alpha: float = SIGNIFICANT, discordant: float = _UNKNOWN) -> int:
    """Return the paired rows at which a loss is ruled out where there is none, with the usual power [rows].

    Args:
        loss: The non-inferiority margin, above 0.
        alpha: Two-sided level of the interval that must lie above it.
        discordant: Share of rows that the two models judge differently.

    Source:
        Chow, Shao & Wang (2008), Sample Size Calculations in Clinical Research, section 4.3.

    >>> rows_to_rule_out(0.05)
    314
    """
    level, chance = _quantiles(alpha, POWER)
    return math.ceil((level + chance) ** 2 * discordant / loss**2)


def after_baselines(rules: Sequence[GateRule], baselines: Mapping[str, Evaluation]) -> list[str]:
    """Return what the rows can show of each rule that asks for a significant gain over prompting, by the
    errors of the baseline that stands against it.

    Args:
        rules: Of the gate.
        baselines: Subject to its evaluation.
    """
    found = []
    for rule in rules:
        opponent = _opponent(rule, baselines)
        if opponent is None:
            continue
        metric = opponent.metrics[rule.metric]
        beside = f"{subject_name(opponent.subject)} is at {metric_value(metric)}"
        if metric.value >= 1:
            found.append(f"{beside}: nothing can gain over it, however many test rows there are")
            continue
        seen = detectable_gain(metric.n, partial(discordant_share, metric.value), most=1 - metric.value)
        if seen is None:
            found.append(f"{beside}: {counted(metric.n, 'test row')} are too few to show any gain over it")
        elif rule.by < seen:
            more = ""
            if rule.by:
                need = rounded_up(rows_needed(rule.by, discordant_share(metric.value, rule.by)))
                more = f"; {need:,} would show the {_points(rule.by)} that the gate asks for"
            found.append(
                f"{beside}: {counted(metric.n, 'test row')} show gains from {_points(seen)} on{more}"
            )
    return list(dict.fromkeys(found))


def _opponent(rule: GateRule, baselines: Mapping[str, Evaluation]) -> Evaluation | None:
    """Return the baseline that a rule is judged against, None where it asks for no shown gain in a share."""
    if not rule.significant or not higher_is_better(rule.metric):
        return None
    measured = {
        name: found
        for name, found in baselines.items()
        if rule.metric in found.metrics and is_rate(found.metrics[rule.metric])
    }
    if rule.gain_over not in (BEST, BEST_ARM):
        return measured.get(rule.gain_over or "")
    able = [e for name, e in measured.items() if rule.gain_over == BEST_ARM or is_prompting_name(name)]
    return best_of(able, rule.metric) if able else None


def _fewest_won(alpha: float) -> int:
    """Return the rows that the exact test must see won, and none lost, to show anything [rows]."""
    return math.floor(math.log2(2 / alpha)) + 1


def _quantiles(alpha: float, power: float) -> tuple[float, float]:
    normal = NormalDist()
    return normal.inv_cdf(1 - alpha / 2), normal.inv_cdf(power)


def _points(gain: float) -> str:
    return gap(gain, share=True)
