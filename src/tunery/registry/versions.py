"""Model versions: registered once with their evidence, found by ``name@3``, ``name@champion`` or ``name``."""

from __future__ import annotations

from tunery.core.dataset import DatasetVersion
from tunery.core.errors import ConfigError, ConflictError, NotFoundError
from tunery.core.evaluation import Evaluation, GateResult
from tunery.core.registry import ModelVersion, Override, parse_ref
from tunery.core.run import TUNED, Run
from tunery.core.training import Adapter
from tunery.store.workspace import Workspace

CHAMPION = "champion"
"""Alias of the version that answers under the bare name."""


def register(
    workspace: Workspace,
    *,
    run: Run,
    dataset: DatasetVersion,
    adapter: Adapter,
    evaluation: Evaluation,
    gate: GateResult,
) -> ModelVersion:
    """Give an evaluated adapter the next number of its run's name.

    The loop registers what its gate passed. A version registered in spite of a refusal keeps that on
    record, and :func:`~tunery.registry.aliases.promote` refuses it. Registering the same adapter of the same
    run again returns the version it has, so that a resumed run makes no second one. The run's recipe becomes
    the version's configuration; ``evaluation`` is that of the tuned model on the test split.

    Raises:
        ConflictError: The parts do not belong together; lists every one that does not.
    """
    problems = []
    if adapter.dataset_version != dataset.id:
        problems.append(f"{adapter.id} was trained on {adapter.dataset_version}, not on {dataset.id}")
    if evaluation.adapter != adapter.id:
        problems.append(
            f"{evaluation.id} is of {evaluation.adapter or 'the base alone'}, not of {adapter.id}"
        )
    if problems:
        raise ConflictError(f"{run.name} cannot be registered: {'; '.join(problems)}")
    version = ModelVersion(
        name=run.name,
        version=1,
        adapter_id=adapter.id,
        base=adapter.base.label,
        dataset_version=dataset.id,
        evaluation_id=evaluation.id,
        gate_id=gate.id,
        gate_passed=gate.passed,
        run_id=run.id,
        system_prompt=adapter.system_prompt,
        labels=dataset.labels,
        config=run.recipe,
        metrics={name: metric.value for name, metric in evaluation.metrics.items()},
        created_at=workspace.clock.now(),
    )
    return workspace.models.register(version, once=True)


def register_run(workspace: Workspace, run_id: str) -> ModelVersion:
    """Register what a run made although its gate refused it, to be looked at; it gets no alias.

    Only ``name@N`` reaches such a version, and it becomes champion or challenger only where the gate is
    overridden (:func:`override_gate`). A run whose gate passed has its version already, which is returned.

    Raises:
        NotFoundError: There is no such run.
        ConflictError: The run has no verdict yet.
    """
    run = workspace.runs.get(run_id)
    if run.model_version is not None:
        return resolve(workspace, run.model_version)
    tuned = run.evaluations.get(TUNED)
    if run.dataset_version is None or run.adapter_id is None or tuned is None or run.gate_id is None:
        raise ConflictError(f"{run_id} has no verdict yet ({run.status})", hint=f"tunery runs show {run_id}")
    return register(
        workspace,
        run=run,
        dataset=workspace.datasets.get(run.dataset_version),
        adapter=workspace.adapters.get(run.adapter_id),
        evaluation=workspace.evaluations.get(tuned),
        gate=workspace.gates.get(run.gate_id),
    )


def override_gate(workspace: Workspace, ref: str, *, by: str | None, reason: str | None) -> ModelVersion:
    """Write into a version that somebody answers for it although its gate refused it.

    Its card, its listing and the report of its run keep that; from then on it may be promoted.

    Args:
        workspace: Where it is registered.
        ref: ``name@N`` or ``name@alias``.
        by: Who does.
        reason: Why.

    Raises:
        ConfigError: The name or the reason is missing.
        NotFoundError: There is no such version.
        ConflictError: Its gate passed it.
    """
    name, why = who_and_why(by, reason)
    version = resolve(workspace, ref)
    if version.gate_passed:
        raise ConflictError(f"the gate passed {version.ref}: there is nothing to override")
    override = Override(by=name, reason=why, at=workspace.clock.now())
    return workspace.models.override(version.name, version.version, override)


def who_and_why(by: str | None, reason: str | None) -> tuple[str, str]:
    """Return who overrides a gate, and why.

    Raises:
        ConfigError: One of the two is missing.
    """
    name, why = (by or "").strip(), (reason or "").strip()
    missing = [option for option, value in (("--by NAME", name), ("--reason TEXT", why)) if not value]
    if missing:
        raise ConfigError(
            f"overriding the gate needs who does it and why; missing: {' and '.join(missing)}", param="by"
        )
    return name, why


def resolve(workspace: Workspace, ref: str) -> ModelVersion:
    """Return the version that a reference means.

    A bare name is its champion, else the highest version that its gate passed.

    Raises:
        ConfigError: The text is no reference.
        NotFoundError: No such name, version or alias; says what there is.
    """
    wanted = parse_ref(ref)
    if wanted.version is not None and (found := workspace.models.find(wanted.name, wanted.version)):
        return found
    aliases = workspace.models.aliases(wanted.name)
    if wanted.version is None and (points_at := aliases.get(wanted.alias or CHAMPION)) is not None:
        return workspace.models.get(wanted.name, points_at)
    versions = workspace.models.list(wanted.name)
    if not versions:
        raise NotFoundError.of("model", wanted.name, workspace.models.names(), hint="tunery registry ls")
    if wanted.version is None and wanted.alias is None:
        passed = [version for version in versions if version.gate_passed]
        if passed:
            return max(passed, key=lambda version: version.version)
        raise NotFoundError(
            f"no version of {wanted.name} passed its gate, so the name alone means none",
            hint=f"{wanted.name}@{versions[0].version}",
        )
    if wanted.version is not None:
        numbers = sorted(version.version for version in versions)
        there = ", ".join(f"{wanted.name}@{number}" for number in numbers[-10:])
        raise NotFoundError(f"no model version {ref} (there is: {there})", hint="tunery registry ls")
    known = [f"{wanted.name}@{alias}" for alias in aliases]
    raise NotFoundError.of("alias", ref, known, hint=f"tunery deploy promote {versions[0].ref}")
