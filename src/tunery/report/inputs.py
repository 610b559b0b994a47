"""What a report is written from: records, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tunery.core.dataset import DatasetVersion
from tunery.core.evaluation import Comparison, Evaluation, GateResult, Metric, Prediction
from tunery.core.example import Dropped, Example
from tunery.core.figures import (
    at_least_as_good,
    contamination_sentence,
    is_prompting,
    slice_sentence,
    subject_name,
)
from tunery.core.registry import Override
from tunery.core.run import Run
from tunery.core.training import Adapter


@dataclass(frozen=True)
class ReportInputs:
    """Everything one run left behind; whatever a stage did not get to stays empty.

    Subjects are the keys of ``evaluations``, ``predictions`` and ``comparisons``: ``zero_shot``,
    ``few_shot``, ``zero_shot_constrained``, ``name@3`` or ``champion``, and ``tuned``.
    """

    run: Run
    """The run itself; the one part that is always there."""
    dataset: DatasetVersion | None = None
    adapter: Adapter | None = None
    training_took: str | None = None
    """In words, beside what was planned; where None the adapter's own seconds."""
    training_method: str | None = None
    """What the adapter was trained by and what its losses mean."""
    hard_rows: int | None = None
    """Train rows whose loss stayed high; None where rows were not recorded [rows]."""
    evaluations: Mapping[str, Evaluation] = field(default_factory=dict)
    """Subject to its evaluation on the test split."""
    predictions: Mapping[str, Sequence[Prediction]] = field(default_factory=dict)
    """Subject to its predictions; any order, may be a part."""
    comparisons: Mapping[str, Comparison] = field(default_factory=dict)
    """Subject compared against to the comparison with the tuned model as B."""
    gate: GateResult | None = None
    examples: Mapping[str, Example] = field(default_factory=dict)
    """Example id to example, at least for those a comparison names."""
    dropped_examples: Sequence[Dropped] = ()
    """Rows that curation removed; a few of each reason are enough."""
    overrides: Sequence[Override] = ()
    """Who answered for what the run made although its gate refused it."""
    worth: Sequence[str] = ()
    """Whether fine-tuning was worth it, in sentences."""
    environment: Mapping[str, Any] = field(default_factory=dict)
    """Library versions, hardware and the like; may be nested."""

    @property
    def warnings_of_figures(self) -> list[str]:
        """What a reader should know beside the verdict: of the gate, and of each evaluation."""
        # The verdict of a gate that passed holds its caveats already.
        caveats = () if self.gate is None or self.gate.passed else self.gate.caveats
        found = [f"{caveat[:1].upper()}{caveat[1:]}." for caveat in caveats]
        found += [override.sentence for override in self.overrides]
        if self.run.evidence and not self.run.evidence.are_rules_unchanged:
            found.append("The gate's rules are not those that were fixed before training.")
        found += [f"{contamination_sentence(seen)}." for seen in self.run.contaminated]
        found += [f"{slice_sentence(part)}." for part in self.run.slices if part.verdict == "worse"]
        for subject, evaluation in self.evaluations.items():
            found += [f"{subject_name(subject)}: {warning}" for warning in evaluation.warnings]
        return found

    @property
    def warnings(self) -> list[str]:
        """All of that, and what curation warned of."""
        data = self.dataset.warnings if self.dataset else ()
        return [*self.warnings_of_figures, *(f"Data: {warning}" for warning in data)]

    @property
    def tuned(self) -> Evaluation | None:
        """The tuned model's evaluation."""
        return self.evaluations.get("tuned")

    @cached_property
    def main_metric(self) -> str | None:
        """Name of the metric that the goal names."""
        for evaluation in (self.tuned, *self.evaluations.values()):
            if evaluation is not None and evaluation.main_metric in evaluation.metrics:
                return evaluation.main_metric
        return None

    def main_of(self, evaluation: Evaluation | None) -> Metric | None:
        """Return an evaluation's value of the goal's metric, None where it was not measured."""
        if evaluation is None or self.main_metric is None:
            return None
        return evaluation.metrics.get(self.main_metric)

    @cached_property
    def best_prompting(self) -> str | None:
        """Subject of the best prompting of the bare base; the first of equals."""
        best: tuple[str, Metric] | None = None
        for subject, evaluation in self.evaluations.items():
            metric = self.main_of(evaluation) if is_prompting(evaluation) else None
            # What is no number is neither better nor worse than anything, so it cannot be the best.
            if metric is None or not math.isfinite(metric.value):
                continue
            if best is None or not at_least_as_good(best[1], metric):
                best = (subject, metric)
        return best[0] if best else None

    @property
    def prompting(self) -> Metric | None:
        """What the best prompting reaches by the goal's metric."""
        return self.main_of(self.evaluations.get(self.best_prompting or ""))

    @cached_property
    def main_comparison(self) -> str | None:
        """Subject of the comparison a reader asks for first: the best prompting, else whichever there is."""
        if self.best_prompting in self.comparisons:
            return self.best_prompting
        return next(iter(self.comparisons), None)
