"""Stage 6: do the rules that were written before training hold?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tunery.benchmarks.tasks import main_metric
from tunery.core.access import DEFAULT_PROJECT
from tunery.core.canaries import EXPOSURE
from tunery.core.canaries import SUITE as CANARIES
from tunery.core.errors import ConfigError
from tunery.core.evaluation import Comparison, Evaluation, GateResult, Metric
from tunery.core.figures import is_share
from tunery.core.run import CHAMPION, OWN, START, TRAINER, TUNED
from tunery.evaluate.metrics import COST, declaration_of, higher_is_better, unit_of
from tunery.evaluate.prompting import Subject
from tunery.evaluate.run import EvaluationResult
from tunery.evaluate.scorers import DetailedScorer, applies, make_scorer
from tunery.evaluate.task import Task
from tunery.gate.check import check_rules
from tunery.gate.gate import GateEvidence, SuiteResult, judge
from tunery.gate.power import before_anything, undecidable
from tunery.gate.rules import MARGIN, GateRule, gate_rules
from tunery.pipeline.context import RunContext
from tunery.pipeline.recipe import Recipe
from tunery.pipeline.stages.canaries import planted_by
from tunery.pipeline.stages.judge import unchecked_judges
from tunery.pipeline.stages.review import ratings_of


def rules_of(context: RunContext) -> tuple[GateRule, ...]:
    """Return the recipe's rules, or those that follow from its goal."""
    return rules_of_recipe(context.recipe)


def rules_of_recipe(recipe: Recipe) -> tuple[GateRule, ...]:
    """Return a recipe's rules, or those that follow from its goal."""
    suites = {name: suite.margins for name, suite in recipe.evaluate.suites.items()}
    benchmarks = recipe.evaluate.benchmarks
    suites |= {name: {main_metric(found.task): MARGIN} for name, found in benchmarks.items()}
    if (canaries := planted_by(recipe)) is not None:
        suites |= {CANARIES: {EXPOSURE: canaries.within}}
    return gate_rules(recipe.goal, recipe.gate, suites)


def unmeasured(recipe: Recipe) -> str | None:
    """Return what stays unknown of a model whose recipe has no suite; None where it has one."""
    if recipe.evaluate.suites:
        return None
    reason = recipe.evaluate.suites_off
    return f"what it forgot and whether it is safe was not measured{f': {reason}' if reason else ''}"


def holds_to_trainer(context: RunContext) -> bool:
    """Return whether a rule holds what is served against what training computed."""
    return any(TRAINER in (rule.gain_over, rule.no_worse_than) for rule in rules_of(context))


def check_gate(
    context: RunContext,
    task: Task,
    baselines: Sequence[Subject],
    suites: Mapping[str, Task],
    others: Sequence[str] = (),
) -> None:
    """Refuse rules that could only fail for want of a number, before anything is spent.

    Args:
        context: Of the run.
        task: What is measured on the test split.
        baselines: Who else answers it.
        suites: Name to what is measured on it.
        others: What is measured as a suite is: benchmarks, canaries, begun answers.

    Raises:
        ConfigError: Lists each rule's problem.
    """
    rules = rules_of(context)
    if unchecked := unchecked_judges(context.workspace, context.recipe.evaluate, rules):
        raise ConfigError.of_problems("gate", unchecked)
    costs = any(rule.metric == COST for rule in rules)
    if costs and context.recipe.evaluate.price_per_hour is None:
        raise ConfigError(
            f"gate: {COST} needs what an hour of the hardware costs", hint="evaluate.price_per_hour=0.5"
        )
    of_answers = [rule for rule in rules if rule.metric != COST]
    if not of_answers:
        return
    check_rules(
        of_answers,
        task,
        baselines=[subject.name for subject in baselines],
        suites=suites,
        start=context.recipe.train.start_from is not None,
        others=others,
    )


def what_rows_can_show(context: RunContext, task: Task) -> str | None:
    """Return the smallest gain that the test split can show, and the rows that the gate's would take.

    None where the metric that decides is no share, so that nothing is known of its spread beforehand.
    """
    metric = task.main_metric
    if not (higher_is_better(metric) and is_share(unit_of(metric))):
        return None
    gains = [rule.by for rule in rules_of(context) if rule.significant and rule.metric == metric]
    return before_anything(len(task.examples), gains)


def undecidable_rules(context: RunContext, task: Task, suites: Mapping[str, Task]) -> list[str]:
    """Return the gate's rules that their rows are too few to decide, with the number that could."""

    def rows(rule: GateRule) -> int:
        where = task if rule.suite is None else suites.get(rule.suite)
        return 0 if where is None else rows_judged(where, rule.metric)

    return undecidable(rules_of(context), rows, alpha=context.recipe.gate.alpha)


def rows_judged(task: Task, metric: str) -> int:
    """Return the rows of a task that a metric is of: a suite's scorers judge some of its rows each [rows]."""
    name, _, part = metric.partition(".")
    if name not in task.scorers:
        return len(task.examples)
    scorer = make_scorer(name, task.scorer_options)
    judged = [e for e in task.examples if applies(scorer, e)]
    if not part or not isinstance(scorer, DetailedScorer):
        return len(judged)
    return sum(part in scorer.parts(e.reference, e) for e in judged)


def judge_gate(
    context: RunContext,
    results: Mapping[str, EvaluationResult],
    comparisons: Sequence[Comparison],
    suites: Mapping[str, SuiteResult],
) -> GateResult:
    """Judge the rules and store the verdict.

    Args:
        results: Subject to its result: ``tuned``, the baselines, ``champion`` and ``start`` if there is one.
        comparisons: Paired tests of every other subject with the tuned model as B.
        suites: Numbers on the named suites.
    """
    champion = results.get(CHAMPION)
    evidence = GateEvidence(
        tuned=_with_cost(context, results[TUNED].evaluation),
        baselines={n: r.evaluation for n, r in results.items() if n not in OWN},
        comparisons=comparisons,
        champion=champion.evaluation if champion else None,
        start=results[START].evaluation if START in results else None,
        trainer=results[TRAINER].evaluation if TRAINER in results else None,
        suites=suites,
        ratings=ratings_of(context.workspace, results[TUNED].evaluation.id),
        unmeasured=unmeasured(context.recipe) or "",
    )
    now, alpha = context.workspace.clock.now(), context.recipe.gate.alpha
    result = judge(rules_of(context), evidence, now=now, alpha=alpha)
    context.workspace.gates.add(result)
    if not result.passed:
        project = context.workspace.project or DEFAULT_PROJECT
        context.workspace.outbox.tell("gate.refused", project, id=result.id, recipe=context.recipe.name)
    return result


def _with_cost(context: RunContext, tuned: Evaluation) -> Evaluation:
    """Return the tuned model's evaluation with what it costs, where a price is known."""
    cost = tuned.usd_per_1k(context.recipe.evaluate.price_per_hour)
    if cost is None:
        return tuned
    about = declaration_of(COST)
    metric = Metric(
        name=COST,
        value=cost,
        n=tuned.main.n,
        ci95=(cost, cost),
        method="measured once",
        higher_is_better=about.higher_is_better,
        title=about.title,
        unit=about.unit,
    )
    return tuned.with_(metrics={**tuned.metrics, COST: metric})
