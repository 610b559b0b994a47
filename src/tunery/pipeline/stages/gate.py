"""Stage 6: do the rules that were written before training hold?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tunery.core.evaluation import Comparison, GateResult
from tunery.core.run import START, TUNED
from tunery.evaluate.config import GateRule, gate_rules
from tunery.evaluate.gate import GateEvidence, SuiteNumbers, check_rules, judge
from tunery.evaluate.prompting import Subject
from tunery.evaluate.run import EvaluationResult
from tunery.evaluate.task import Task
from tunery.pipeline.context import RunContext
from tunery.pipeline.stages.evaluate import CHAMPION


def rules_of(context: RunContext) -> tuple[GateRule, ...]:
    """Return the recipe's rules, or those that follow from its goal."""
    return gate_rules(context.recipe.goal, context.recipe.gate)


def check_gate(context: RunContext, task: Task, baselines: Sequence[Subject]) -> None:
    """Refuse rules that could only fail for want of a number, before anything is spent.

    Raises:
        ConfigError: Lists each rule's problem.
    """
    check_rules(
        rules_of(context),
        task,
        baselines=[subject.name for subject in baselines],
        suites=list(context.recipe.evaluate.suites),
        start=context.recipe.train.start_from is not None,
    )


def judge_gate(
    context: RunContext,
    results: Mapping[str, EvaluationResult],
    comparisons: Sequence[Comparison],
    suites: Mapping[str, SuiteNumbers],
) -> GateResult:
    """Judge the rules and store the verdict.

    Args:
        results: Subject to its result: ``tuned``, the baselines, ``champion`` and ``start`` if there is one.
        comparisons: Paired tests of every other subject with the tuned model as B.
        suites: Numbers on the named suites.
    """
    champion = results.get(CHAMPION)
    evidence = GateEvidence(
        tuned=results[TUNED].evaluation,
        baselines={n: r.evaluation for n, r in results.items() if n not in (TUNED, CHAMPION, START)},
        comparisons=comparisons,
        champion=champion.evaluation if champion else None,
        start=results[START].evaluation if START in results else None,
        suites=suites,
    )
    result = judge(rules_of(context), evidence, now=context.workspace.clock.now())
    context.workspace.gates.add(result)
    return result
