"""The report of a run for programs: all of its evidence as one JSON object."""

from __future__ import annotations

import json
from typing import Any

from tunery.report.inputs import ReportInputs
from tunery.report.settings import plain_settings
from tunery.report.text import visible
from tunery.report.verdict import verdict_of


def render_json(inputs: ReportInputs) -> str:
    """Return the report as JSON; numbers that are none are null, and secrets in settings are blotted out."""
    return visible(json.dumps(report_object(inputs), ensure_ascii=False, indent=2, allow_nan=False)) + "\n"


def report_object(inputs: ReportInputs) -> dict[str, Any]:
    """Return what :func:`render_json` writes, as plain values."""
    run, dataset, adapter = inputs.run, inputs.dataset, inputs.adapter
    records = {"evaluations": inputs.evaluations, "comparisons": inputs.comparisons}
    return {
        "verdict": verdict_of(inputs)._asdict(),
        "warnings": inputs.warnings,
        "overrides": [override.model_dump(mode="json") for override in inputs.overrides],
        "evidence": run.evidence.model_dump(mode="json") if run.evidence else None,
        "worth": list(inputs.worth),
        "gate": inputs.gate.model_dump(mode="json") if inputs.gate else None,
        **{name: {s: r.model_dump(mode="json") for s, r in found.items()} for name, found in records.items()},
        "dataset": dataset.model_dump(mode="json") if dataset else None,
        "adapter": adapter.model_dump(mode="json", exclude={"history"}) if adapter else None,
        "run": run.model_dump(mode="json", exclude={"recipe", "comparisons", "evidence"}),
        "recipe": plain_settings(run.recipe),
        "environment": plain_settings(inputs.environment),
    }
