"""Stage 7: a version that passed its gate enters the registry."""

from __future__ import annotations

from tunery.core.dataset import DatasetVersion
from tunery.core.evaluation import Evaluation, GateResult
from tunery.core.registry import ModelVersion
from tunery.core.run import CHAMPION, Run
from tunery.core.training import Adapter
from tunery.pipeline.context import RunContext
from tunery.registry.versions import register as register_version


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
    return version
