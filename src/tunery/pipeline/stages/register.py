"""Stage 7: a version that passed its gate enters the registry, or one that somebody answers for."""

from __future__ import annotations

from tunery.core.dataset import DatasetVersion
from tunery.core.evaluation import Evaluation, GateResult
from tunery.core.registry import ModelVersion
from tunery.core.run import CHAMPION, Run
from tunery.core.training import Adapter
from tunery.pipeline.context import RunContext
from tunery.pipeline.stages.report import make_report
from tunery.registry.versions import override_gate, register_run, who_and_why
from tunery.registry.versions import register as register_version
from tunery.store.workspace import Workspace


def register(
    context: RunContext,
    run: Run,
    dataset: DatasetVersion,
    adapter: Adapter,
    tuned: Evaluation,
    gate: GateResult,
) -> ModelVersion:
    """Give the adapter a version and an alias; doing it again for the same run changes nothing.

    The first version of a name becomes ``champion``, because there is nothing it could harm; a later one
    becomes ``challenger`` and meets traffic by canary or by hand.
    """
    models = context.workspace.models
    version = register_version(
        context.workspace, run=run, dataset=dataset, adapter=adapter, evaluation=tuned, gate=gate
    )
    aliases = models.aliases(version.name)
    if version.version not in aliases.values():
        first = CHAMPION not in aliases
        alias, reason = (CHAMPION, "first version") if first else ("challenger", "new version")
        reason += f"; gate {gate.id} passed"
        models.set_alias(version.name, alias, version.version, actor="run", reason=reason)
        note_registered(context.workspace, version)
    return version


def note_registered(workspace: Workspace, version: ModelVersion) -> None:
    """Write into the audit log that a run has made a version."""
    project = workspace.model_names.project_of(version.name)
    workspace.audit.note("model.register", object=version.ref, actor="run", project=project)


def register_overridden(
    workspace: Workspace, run_id: str, *, by: str | None, reason: str | None
) -> ModelVersion:
    """Register what a run made although its gate refused it, with who answers for it and why.

    Raises:
        ConfigError: The name or the reason is missing; nothing is registered then.
        NotFoundError: There is no such run.
        ConflictError: The run has no verdict yet, or its gate passed.
    """
    who_and_why(by, reason)
    return override_refusal(workspace, register_run(workspace, run_id).ref, by=by, reason=reason)


def override_refusal(workspace: Workspace, ref: str, *, by: str | None, reason: str | None) -> ModelVersion:
    """Write into a version, and into its run's report, that somebody answers for it.

    Raises:
        ConfigError: The name or the reason is missing.
        NotFoundError: There is no such version.
        ConflictError: Its gate passed it.
    """
    version = override_gate(workspace, ref, by=by, reason=reason)
    run = workspace.runs.find(version.run_id)
    if run is not None:
        make_report(workspace, run)
    return version
