"""Stage 7: a version that passed its gate enters the registry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tunery.core.dataset import DatasetVersion
from tunery.core.evaluation import GateResult
from tunery.core.registry import ModelVersion
from tunery.core.run import Run
from tunery.core.training import Adapter
from tunery.pipeline.context import RunContext
from tunery.pipeline.stages.evaluate import CHAMPION, TUNED

if TYPE_CHECKING:
    from tunery.evaluate.run import EvaluationResult

CHALLENGER = "challenger"


def register(
    context: RunContext,
    run: Run,
    dataset: DatasetVersion,
    adapter: Adapter,
    results: Mapping[str, EvaluationResult],
    gate: GateResult,
) -> ModelVersion:
    """Give the adapter a version, its card, and an alias.

    The first version of a name becomes ``champion``, because there is nothing it could harm; a later one
    becomes ``challenger`` and meets traffic by canary or by hand.
    """
    from tunery.registry.card import render_card

    models, name = context.workspace.models, context.recipe.name
    tuned = results[TUNED].evaluation
    version = models.register(
        ModelVersion(
            name=name,
            version=1,  # the registry gives the next free number
            adapter_id=adapter.id,
            base=context.base.label,
            dataset_version=dataset.id,
            evaluation_id=tuned.id,
            gate_id=gate.id,
            gate_passed=gate.passed,
            run_id=run.id,
            system_prompt=dataset.system_prompt,
            labels=dataset.labels,
            config=context.recipe.model_dump(mode="json"),
            metrics={metric.name: metric.value for metric in tuned.metrics.values()},
            created_at=context.workspace.clock.now(),
        )
    )
    baselines = {n: r.evaluation for n, r in results.items() if n not in (TUNED, CHAMPION)}
    card = render_card(version, dataset, adapter, tuned, baselines, gate)
    folder = context.workspace.root / "cards" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{version.version}.md").write_text(card, encoding="utf-8")
    first = CHAMPION not in models.aliases(name)
    models.set_alias(
        name,
        CHAMPION if first else CHALLENGER,
        version.version,
        actor="run",
        reason=f"{'first version' if first else 'new version'}; gate {gate.id} passed",
    )
    return version
