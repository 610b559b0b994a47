"""Stage 8: what a run found, as one page."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunery.core.errors import ConfigError, did_you_mean
from tunery.core.evaluation import Comparison, Evaluation, Slice
from tunery.core.run import TUNED, Run
from tunery.core.training import Adapter
from tunery.gate.worth import Terms, worth
from tunery.pipeline.stages.evaluate import predictions_of
from tunery.pipeline.stages.planned import planned, took
from tunery.pipeline.stages.rewind import hard_rows_in
from tunery.store.workspace import Workspace
from tunery.train.section import method_named

if TYPE_CHECKING:
    from tunery.report import ReportInputs

_LIBRARIES = ("torch", "transformers", "peft", "accelerate", "tokenizers")
_DROPPED_SHOWN = 10
_RUNS = 1_000
"""Newest runs in which slices of an evaluation are looked for [count]."""


def make_report(workspace: Workspace, run: Run) -> Path:
    """Write the report of a run, however far it came."""
    from tunery.report import write_report

    path = workspace.root / "reports" / f"{run.id}.html"
    path.parent.mkdir(exist_ok=True)
    write_report(_report_inputs(workspace, run), path)
    return path


def report_of(workspace: Workspace, run: Run, format: str) -> str:
    """Return the report of a run, however far it came, as one of :data:`tunery.report.FORMATS`.

    Raises:
        ConfigError: There is no such format.
    """
    from tunery.report import FORMATS

    if format not in FORMATS:
        known = f"{did_you_mean(format, FORMATS)} (there is: {', '.join(FORMATS)})"
        raise ConfigError(f"--format {format}: no such format{known}", param="format")
    return FORMATS[format](_report_inputs(workspace, run))


def slices_of(workspace: Workspace, evaluation: Evaluation) -> tuple[Slice, ...]:
    """Return the slices that the newest run with a tuned model's evaluation looked at, if any did."""
    runs = (run for run in workspace.runs.list(_RUNS) if run.evaluations.get(TUNED) == evaluation.id)
    return next((run.slices for run in runs if run.slices), ())


def _report_inputs(workspace: Workspace, run: Run) -> ReportInputs:
    """Gather the records that a run left behind."""
    from tunery.report import ReportInputs
    from tunery.store.dataset_files import read_dropped, read_examples

    dataset = workspace.datasets.find(run.dataset_version) if run.dataset_version else None
    folder = workspace.artifacts.find("datasets", dataset.id) if dataset else None
    comparisons = {s: Comparison.model_validate(c) for s, c in run.comparisons.items()}
    named = {i for c in comparisons.values() for i in (*c.fixed_ids, *c.broken_ids)}
    examples = read_examples(folder, "test") if folder and named else []
    adapter = workspace.adapters.find(run.adapter_id) if run.adapter_id else None
    evaluations = {s: workspace.evaluations.get(i) for s, i in run.evaluations.items()}
    return ReportInputs(
        run=run,
        worth=worth(evaluations, comparisons, _terms(run, adapter)),
        dataset=dataset,
        adapter=adapter,
        training_method=_method(adapter) if adapter else None,
        training_took=took(adapter.seconds, planned(workspace, adapter.id)) if adapter else None,
        hard_rows=_hard_rows(workspace, adapter) if adapter else None,
        evaluations=evaluations,
        predictions={s: predictions_of(workspace, i) for s, i in run.evaluations.items()},
        comparisons=comparisons,
        gate=workspace.gates.find(run.gate_id) if run.gate_id else None,
        examples={e.id: e for e in examples if e.id in named},
        dropped_examples=read_dropped(folder, per_reason=_DROPPED_SHOWN) if folder else [],
        environment=_environment(),
        overrides=[
            override
            for version in workspace.models.list(run.name)
            if version.run_id == run.id
            for override in version.overrides
        ],
    )


def _terms(run: Run, adapter: Adapter | None) -> Terms:
    """Return by what the run's recipe has worth measured."""
    goal, settings, gate = (run.recipe.get(name) or {} for name in ("goal", "evaluate", "gate"))
    return Terms(
        target=goal.get("target"),
        price_per_hour=settings.get("price_per_hour"),
        training_s=adapter.seconds if adapter else None,
        alpha=gate.get("alpha", 0.05),
    )


def _hard_rows(workspace: Workspace, adapter: Adapter) -> int | None:
    there = workspace.artifacts.has("adapters", adapter.id)
    return hard_rows_in(workspace.artifacts.folder("adapters", adapter.id)) if there else None


def _method(adapter: Adapter) -> str | None:
    """Return what an adapter was trained by, and what by before; None where a method's file is gone."""
    method = method_named(adapter.config.get("method"))
    if method is None or adapter.start_adapter is None:
        return method.summary if method else None
    earlier = method_named(adapter.config["start_from"].get("method"))
    return f"{method.summary}; began with {adapter.start_adapter}" + (
        f" ({earlier.title})" if earlier else ""
    )


def _environment() -> dict[str, Any]:
    """Return library versions and hardware, for whoever wants to run it again."""
    import torch

    hardware = torch.cuda.get_device_name(0) if torch.cuda.is_available() else platform.processor()
    return {
        "tunery": version("tunery"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "hardware": hardware or platform.machine(),
        "cpu_cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        **{name: version(name) for name in _LIBRARIES},
    }
