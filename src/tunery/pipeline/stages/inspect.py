"""Inspect: what is wrong with a recipe's rows, kept as an artifact and shown as a page."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tunery.core.columns import Columns
from tunery.core.dataset import DatasetVersion
from tunery.core.errors import ConfigError, NotFoundError
from tunery.core.finding import Finding, FindingKind
from tunery.core.ids import artifact_id
from tunery.core.progress import Silent
from tunery.core.quality import RowQuality
from tunery.data.config import CleanConfig, SourceConfig
from tunery.data.filters.tokens import token_length
from tunery.pipeline.context import RunContext
from tunery.pipeline.stages.data import make_dataset, sentence_encoder, split_of, tokenizer_of
from tunery.pipeline.stages.preflight import training_limit
from tunery.pipeline.stages.rewind import newest_row_losses
from tunery.store.workspace import Workspace
from tunery.text.pii.types import DEFAULT_PII, PiiType

STAGE_VERSION = 1
"""Raise it when equal findings would be written otherwise than before."""

FINDINGS_FILE = "findings.json"


class Inspection(NamedTuple):
    """What a look at a dataset version found."""

    id: str
    """``inspection-`` and 16 hex digits: hash of the version and the findings."""
    dataset: DatasetVersion
    columns: Columns
    findings: tuple[Finding, ...]
    """The most serious kind first, then the one with most rows."""
    kinds: Mapping[str, FindingKind]
    """What detectors declare of the kinds that they report, by name."""
    page: Path
    """The findings as one HTML file."""


def inspect_data(context: RunContext, *, thorough: bool = False) -> Inspection:
    """Build or find the recipe's dataset version, look for what hurts, keep and show what is found.

    Args:
        thorough: Compare what rows mean, by sentence embeddings: finds more wrong labels, and rows that say
            the same in other words. Takes minutes for ten thousand rows on a laptop.

    Returns:
        The findings; they lie at ``workspace.artifacts.path("inspections", id)``.

    Raises:
        ConfigError: A file or a row is wrong.
        NotFoundError: ``thorough``, and the encoder is not installed.
        ResourceError: The disk is full.
    """
    from tunery.inspect.inspect import Given, inspect_columns
    from tunery.store.dataset_files import read_columns, read_inputs

    dataset = make_dataset(context)
    folder = context.workspace.artifacts.path("datasets", dataset.id)
    columns = read_columns(folder)
    with context.progress.task("Inspecting rows", None):
        findings = inspect_columns(
            columns,
            context.recipe.inspect,
            Given(
                inputs=read_inputs(folder),
                pii_types=_sought(context.recipe.data.clean),
                encoder=sentence_encoder() if thorough else None,
                references=_references(context),
                lengths=_lengths(context, dataset, columns),
                max_tokens=training_limit(context),
                scores=_scores(context),
                row_losses=newest_row_losses(context.workspace, dataset),
            ),
        )
    return keep_inspection(context.workspace, dataset, columns, findings)


def _sought(clean: CleanConfig) -> tuple[PiiType, ...]:
    """Return the kinds of personal data to look for: not those that the recipe keeps or gave surrogates."""
    meant = ("keep", "surrogate") if clean.mask_pii else ()
    return tuple(t for t in DEFAULT_PII if clean.pii_policy.get(t) not in meant)


def _scores(context: RunContext) -> list[RowQuality] | None:
    """Return the scores that the recipe names; None where it names none.

    Raises:
        NotFoundError: There are none of that id.
    """
    from tunery.data.select.scores import read_quality

    named = context.recipe.inspect.scores
    return read_quality(context.workspace.artifacts.path("quality", named)) if named else None


def _references(context: RunContext) -> list[tuple[str, list[str]]]:
    """Return the texts that training must not have seen: those of the suites and of the files named.

    Raises:
        ConfigError: A file is missing or unreadable.
    """
    from tunery.data.read_file import read_texts

    suites = {name: s.source for name, s in context.recipe.evaluate.suites.items() if s.source is not None}
    named = {path: SourceConfig(path=path) for path in context.recipe.inspect.references}
    return [(name, read_texts(source, context.base_dir)) for name, source in {**suites, **named}.items()]


def _lengths(context: RunContext, dataset: DatasetVersion, columns: Columns) -> list[int]:
    """Return the tokens of each row under the recipe's base, 0 where its template refuses a row."""
    lengths: dict[str, int] = {}
    for split in dataset.splits:
        for example in split_of(context, dataset, split):
            try:
                lengths[example.id] = token_length(example, tokenizer_of(context, dataset))
            except ConfigError:
                lengths[example.id] = 0  # preflight says so, and which
    return [lengths[id] for id in columns.ids]


def keep_inspection(
    workspace: Workspace, dataset: DatasetVersion, columns: Columns, found: tuple[Finding, ...]
) -> Inspection:
    """Store findings under their own hash and write their page."""
    from tunery.inspect.detectors import finding_kinds
    from tunery.inspect.inspect import worst_first
    from tunery.report.inspection import InspectionInputs, write_inspection
    from tunery.store.dataset_files import read_dropped

    findings = worst_first(found)
    rows = [f.model_dump(mode="json") for f in findings]
    identity = artifact_id(
        "inspection",
        stage="inspect",
        version=STAGE_VERSION,
        config={"findings": rows},
        inputs={"dataset": dataset.id},
    )
    if workspace.artifacts.whole("inspections", identity, Silent()) is None:
        about = {
            "dataset": dataset.id,
            "kinds": {f.kind: len(f.rows) for f in findings},
            "severities": dict(Counter(f.severity for f in findings)),
        }
        with workspace.artifacts.create("inspections", identity, about) as folder:
            (folder / FINDINGS_FILE).write_text(
                json.dumps(rows, ensure_ascii=False, indent=1), encoding="utf-8"
            )
    folder = workspace.artifacts.path("datasets", dataset.id)
    page = workspace.root / "reports" / f"{identity}.html"
    dropped = read_dropped(folder, per_reason=3)
    kinds = finding_kinds()
    write_inspection(InspectionInputs(identity, dataset, columns, findings, kinds, dropped), page)
    return Inspection(identity, dataset, columns, findings, kinds, page)


def stored_findings(workspace: Workspace, inspection: str, dataset: DatasetVersion) -> tuple[Finding, ...]:
    """Return the findings of an earlier inspection.

    Raises:
        NotFoundError: There is none of that id; names the nearest.
        ConfigError: It looked at another dataset version than this one.
    """
    if not workspace.artifacts.has("inspections", inspection):
        raise NotFoundError.of("inspection", inspection, workspace.artifacts.ids("inspections"))
    looked_at = workspace.artifacts.about("inspections", inspection)["dataset"]
    if looked_at != dataset.id:
        raise ConfigError(
            f"{inspection} looked at {looked_at}; the recipe's dataset version is {dataset.id}",
            hint="tunery data inspect RECIPE",
        )
    text = (workspace.artifacts.path("inspections", inspection) / FINDINGS_FILE).read_text(encoding="utf-8")
    return tuple(Finding.model_validate(row) for row in json.loads(text))
