"""What can be told of the gate's rules before anything is spent on training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tunery.core.errors import ConfigError, did_you_mean
from tunery.core.figures import is_prompting_name
from tunery.core.run import BASE, BEST, BEST_ARM, CHAMPION, START, TRAINER
from tunery.evaluate.task import Task
from tunery.gate.rules import HUMAN, GateRule


def check_rules(
    rules: Sequence[GateRule],
    task: Task,
    *,
    baselines: Sequence[str],
    suites: Mapping[str, Task],
    start: bool = False,
    others: Sequence[str] = (),
) -> None:
    """Refuse rules that could only fail for want of a number, before anything is spent on training.

    Args:
        rules: The gate's.
        task: What is measured on the test split.
        baselines: Names of those that will be measured.
        suites: Name to what is measured on it.
        start: Whether the model that training goes on from will be measured.
        others: Names of what else will be measured as suites are, such as published benchmarks.

    Raises:
        ConfigError: There are no rules, or lists each rule's problem.
    """
    refuse_no_rules(rules)
    problems = _missing_opponents(rules, baselines, (*suites, *others), start=start)
    for number, rule in enumerate(rules):
        where = task if rule.suite is None else suites.get(rule.suite)
        if where is not None and rule.on != HUMAN:
            try:
                where.check_metric(rule.metric, what=f"gate.rules[{number}].metric")
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


def refuse_no_rules(rules: Sequence[GateRule]) -> None:
    """Refuse a gate that would let anything pass.

    Raises:
        ConfigError: There are no rules.
    """
    if not rules:
        raise ConfigError("the gate has no rules and would let anything pass", hint="set goal.metric")


def _missing_opponents(
    rules: Sequence[GateRule], baselines: Sequence[str], suites: Sequence[str], *, start: bool
) -> list[str]:
    problems = []
    for number, rule in enumerate(rules):
        where = f"gate.rules[{number}]"
        if rule.suite is not None and rule.suite not in suites:
            shown = ", ".join(suites) or "none"
            near = did_you_mean(rule.suite, suites)
            problems.append(f"{where}: suite {rule.suite!r} is not measured{near} (measured: {shown})")
        for demand in ("gain_over", "no_worse_than"):
            arm = getattr(rule, demand)
            if arm is not None and (problem := _missing(rule, arm, baselines, start=start)):
                problems.append(f"{where}: {demand} {arm}, and {problem}")
    return problems


def _missing(rule: GateRule, arm: str, baselines: Sequence[str], *, start: bool) -> str | None:
    """Return why an arm will not be there to compare with, None where it will."""
    if rule.suite is not None:
        return None if arm == BASE else "on a suite only the base is measured beside the tuned model"
    if arm == BASE:
        return None if "zero_shot" in baselines else "the zero_shot baseline is switched off"
    if arm == START:
        return None if start else "train.start_from names no training before"
    if arm == BEST:
        return None if any(map(is_prompting_name, baselines)) else "all baselines are switched off"
    if arm == BEST_ARM:
        return None if baselines else "no arm is measured"
    if arm in (CHAMPION, TRAINER) or arm in baselines:
        return None
    if arm in ("zero_shot", "few_shot"):
        return "that baseline is switched off"
    shown = ", ".join([*baselines, CHAMPION, TRAINER])
    return f"no such arm is measured{did_you_mean(arm, baselines)} (measured: {shown})"
