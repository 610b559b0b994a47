"""A run: one execution of a recipe, stage by stage."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from tunery.core.config import Record
from tunery.core.evaluation import CheckpointScore, Contamination, Slice
from tunery.core.evidence import Evidence

TUNED = "tuned"
"""The tuned model, among the subjects that a run evaluates."""
START = "start"
"""The model that the last training of a chain went on from, such as the supervised one before preferences."""
CHAMPION = "champion"
"""The version that its name points at when the run begins."""
TRAINER = "trainer"
"""The tuned model as training computed it, by transformers and PEFT; measured where a rule names it."""
BASE, BEST, BEST_ARM = "base", "best_baseline", "best_arm"
"""What rules call the base by itself, the best prompting, and the best of everything that is no champion."""
OWN = (TUNED, CHAMPION, START, TRAINER)
"""Subjects that are no baselines."""
RunStatus = Literal["running", "succeeded", "refused", "failed", "cancelled"]


class Run(Record):
    """What a recipe's execution has produced so far; every stage fills in its ids."""

    id: str
    """``run-`` and 16 hex digits: hash of the recipe and its input files; starting it again resumes it."""
    name: str
    recipe: Mapping[str, Any]
    """As validated, gate rules included: written before training begins."""
    status: RunStatus
    """``refused`` when every stage ran and the gate said no."""
    created_at: datetime
    finished_at: datetime | None = None
    dataset_version: str | None = None
    trains: str | None = None
    """Adapter that its training makes, known before it is there; None in runs of earlier versions."""
    adapter_id: str | None = None
    evaluations: Mapping[str, str] = {}
    """Subject (``zero_shot``, ``few_shot``, ``tuned``, …) to evaluation id."""
    comparisons: Mapping[str, Mapping[str, Any]] = {}
    """Subject to the dumped :class:`~tunery.core.evaluation.Comparison` of it (A) with ``tuned`` (B)."""
    judged: Mapping[str, Any] | None = None
    """The tuned model against the best baseline as a judge sees them, where the recipe asks for it; see
    :class:`~tunery.review.pairwise.JudgedComparison`, and ``sentence``, which says it in words."""
    contaminated: tuple[Contamination, ...] = ()
    """Rows that what was measured had seen before, by subject and place."""
    slices: tuple[Slice, ...] = ()
    """The tuned model against the best baseline on parts of the rows, as ``evaluate.slices`` says."""
    checkpoints: tuple[CheckpointScore, ...] = ()
    """What the kept checkpoints answer on the validation split, as ``train.keep_checkpoints`` says."""
    gate_id: str | None = None
    rules_sha256: str | None = None
    """Of the gate's rules as they were when the run began; None in runs of earlier versions."""
    evidence: Evidence | None = None
    """What the verdict stands on, stamped when it was given."""
    model_version: str | None = None
    """``name@N`` once registered."""
    report: str | None = None
    """Path of the HTML report."""
    seconds: Mapping[str, float] = {}
    """Stage to wall time [s]."""
    error: str | None = None
