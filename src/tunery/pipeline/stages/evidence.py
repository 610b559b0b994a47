"""What a verdict stands on: stamped with hashes when it is given, and looked at again later."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from tunery.core.errors import NotFoundError, TuneryError
from tunery.core.evaluation import Evaluation, GateResult, Prediction
from tunery.core.evidence import Evidence
from tunery.core.figures import is_rate, quantity_beside, subject_phrase
from tunery.core.ids import canonical_json, sha256_file, sha256_text
from tunery.core.run import Run
from tunery.core.training import Adapter
from tunery.gate.gate import SuiteResult
from tunery.pipeline.context import RunContext
from tunery.pipeline.recipe import Recipe, load_recipe, stored_recipe
from tunery.pipeline.stages.evaluate import PREDICTIONS, predictions_of
from tunery.pipeline.stages.gate import rules_of_recipe
from tunery.registry.lineage import LineageCheck, check_artifact, check_base_of, check_weights
from tunery.store.workspace import Workspace

_AGAIN = "run its recipe again: tunery run RECIPE"
_RESTORE = "restore the database from a backup"


def rules_sha256(recipe: Recipe) -> str:
    """Return the hash of a recipe's gate rules, those that follow from its goal written out."""
    rules = [rule.model_dump(mode="json", exclude_defaults=True) for rule in rules_of_recipe(recipe)]
    return sha256_text(canonical_json({"rules": rules, "alpha": recipe.gate.alpha}))


def recipe_sha256(recipe: Mapping[str, object]) -> str:
    """Return the hash of a recipe as a run stores it."""
    return sha256_text(canonical_json(recipe))


def gate_sha256(gate: GateResult) -> str:
    """Return the hash of a verdict with every rule's sentence; when it was given does not count."""
    return sha256_text(canonical_json(gate.model_dump(mode="json", exclude={"created_at"})))


def stamp(
    context: RunContext, run: Run, adapter: Adapter, gate: GateResult, suites: Mapping[str, SuiteResult]
) -> Evidence:
    """Return the hashes of what a verdict that was just given stands on."""
    workspace, dataset = context.workspace, context.workspace.datasets.get(adapter.dataset_version)
    of_suites = [evaluation for suite in suites.values() for evaluation in (suite.base, suite.tuned)]
    evaluations = {**run.evaluations, **{evaluation.subject: evaluation.id for evaluation in of_suites}}
    return Evidence(
        tunery=version("tunery"),
        recipe_sha256=recipe_sha256(run.recipe),
        rules_sha256=rules_sha256(context.recipe),
        rules_sha256_before=run.rules_sha256,
        dataset=dataset.id,
        dataset_sha256=dataset.content_sha256,
        base=adapter.base.name,
        base_sha256=adapter.base.sha256,
        adapter=adapter.id,
        adapter_sha256=adapter.sha256,
        gate=gate.id,
        gate_sha256=gate_sha256(gate),
        evaluations=evaluations,
        answers_sha256={subject: _answers_sha256(workspace, id) for subject, id in evaluations.items()},
    )


def verify_run(workspace: Workspace, run: Run, recipe: Path | None = None) -> tuple[LineageCheck, ...]:
    """Compute again what a verdict stands on, and say what no longer matches.

    Args:
        workspace: Where the run is.
        run: One with a verdict.
        recipe: The recipe's file, to see that it is still what was run.

    Raises:
        NotFoundError: The run has no evidence: it never came to a verdict, or did under an earlier version.
    """
    evidence = run.evidence
    if evidence is None:
        raise NotFoundError(
            f"{run.id} has no evidence to verify ({run.status})", hint=f"tunery runs show {run.id}"
        )
    checks = [*_recipe_checks(run, evidence, recipe), *_artifact_checks(workspace, evidence)]
    for subject, identity in evidence.evaluations.items():
        checks += _evaluation_checks(workspace, subject, identity, evidence.answers_sha256[subject])
    return (*checks, *_gate_checks(workspace, run, evidence))


def _gate_checks(workspace: Workspace, run: Run, evidence: Evidence) -> list[LineageCheck]:
    gate = workspace.gates.find(evidence.gate)
    found = gate_sha256(gate) if gate and run.gate_id == gate.id else "no record"
    checks = [_same(f"gate result {evidence.gate}", evidence.gate_sha256, found)]
    if gate is not None and run.status in ("succeeded", "refused"):
        checks.append(_same("status of the run", "succeeded" if gate.passed else "refused", run.status))
    return checks


def _recipe_checks(run: Run, evidence: Evidence, file: Path | None) -> list[LineageCheck]:
    stored = stored_recipe(run.recipe, where=run.id)
    checks = [
        _same("recipe of the run", evidence.recipe_sha256, recipe_sha256(run.recipe)),
        _same("rules judged", evidence.rules_sha256, rules_sha256(stored)),
    ]
    if evidence.rules_sha256_before is not None:
        checks.append(_same("rules before training", evidence.rules_sha256_before, evidence.rules_sha256))
    if file is not None:
        now = recipe_sha256(load_recipe(file).model_dump(mode="json"))
        checks.append(_same(f"recipe {file}", recipe_sha256(stored.model_dump(mode="json")), now, _AGAIN))
    return checks


def _artifact_checks(workspace: Workspace, evidence: Evidence) -> list[LineageCheck]:
    checks = [check_artifact(workspace, "datasets", evidence.dataset)]
    dataset = workspace.datasets.find(evidence.dataset)
    found = dataset.content_sha256 if dataset else "no record"
    checks.append(_same(f"dataset version {evidence.dataset}", evidence.dataset_sha256, found))
    adapter = workspace.adapters.find(evidence.adapter)
    checks.append(
        _same(
            f"adapter {evidence.adapter}", evidence.adapter_sha256, adapter.sha256 if adapter else "no record"
        )
    )
    checks.append(check_artifact(workspace, "adapters", evidence.adapter))
    if adapter is not None:
        checks += [check_weights(workspace, adapter), check_base_of(workspace, adapter.base)]
        checks.append(_same(f"base {evidence.base}", evidence.base_sha256, adapter.base.sha256))
    return checks


def _evaluation_checks(workspace: Workspace, subject: str, identity: str, stamped: str) -> list[LineageCheck]:
    """Look at the answers of one subject, and at whether its figures are those of the answers."""
    what = f"answers of {subject_phrase(subject)} ({identity})"
    try:
        found = _answers_sha256(workspace, identity)
        checks = [_same(what, stamped, found, _AGAIN)]
        evaluation = workspace.evaluations.find(identity)
        problems = (
            ["its record is gone"]
            if evaluation is None
            else _figures_off(evaluation, predictions_of(workspace, identity))
        )
    except (TuneryError, OSError) as error:
        return [_check(what, error.message if isinstance(error, TuneryError) else str(error), "", _AGAIN)]
    return [
        *checks,
        _check(
            f"figures of {subject_phrase(subject)}", "; ".join(problems), "are those of its answers", _RESTORE
        ),
    ]


def _figures_off(evaluation: Evaluation, answers: Sequence[Prediction]) -> list[str]:
    """Return the means of scores that a record states otherwise than its answers have them."""
    problems = []
    for metric in evaluation.metrics.values():
        values = [answer.scores[metric.name] for answer in answers if metric.name in answer.scores]
        if len(values) != metric.n:  # an aggregate, which is no mean of scores
            continue
        mean = math.fsum(values) / len(values)
        if not math.isclose(mean, metric.value, abs_tol=1e-9):
            recorded, found = (
                quantity_beside(one, other, share=is_rate(metric))
                for one, other in ((metric.value, mean), (mean, metric.value))
            )
            problems.append(f"{metric.title} is recorded as {recorded}, and its answers give {found}")
    return problems


def _answers_sha256(workspace: Workspace, identity: str) -> str:
    return sha256_file(workspace.artifacts.folder("evaluations", identity) / PREDICTIONS)


def _same(what: str, stamped: str, found: str, mend: str = _RESTORE) -> LineageCheck:
    return _check(what, "" if stamped == found else f"was {stamped}, is {found}", "as it was stamped", mend)


def _check(what: str, problem: str, fine: str, mend: str) -> LineageCheck:
    return LineageCheck(what=what, ok=not problem, detail=problem or fine, mend=mend if problem else None)
