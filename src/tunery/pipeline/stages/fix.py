"""Fix: the next dataset version from the edits of findings or the decisions of a reviewer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tunery.core.columns import Columns
from tunery.core.dataset import DatasetVersion
from tunery.core.errors import ConfigError, NotFoundError
from tunery.core.finding import Changed, Edit, Finding
from tunery.pipeline.context import RunContext
from tunery.pipeline.stages.data import make_dataset

if TYPE_CHECKING:
    from tunery.data.edits.review import Review


class Fixed(NamedTuple):
    """The next dataset version, and what changed it."""

    edits: str
    """Id of the edits."""
    before: DatasetVersion
    after: DatasetVersion
    requested: Mapping[str, int]
    """Reason to edits [count]."""
    overruled: tuple[Edit, ...]
    """Changes to rows that another edit takes out."""
    changed: Sequence[Changed]
    """Every text that was replaced."""
    override: str
    """What a recipe must be given to train on the new version: ``data.edits=[…]``."""


def apply_findings(context: RunContext, findings: Sequence[Finding], kinds: Sequence[str]) -> Fixed:
    """Make the next dataset version from the edits of some kinds of findings.

    Args:
        findings: What was found in it.
        kinds: Kinds to apply, in this order.

    Raises:
        NotFoundError: Nothing of a kind was found; names those that were.
        ConfigError: A kind has no edits of its own: only a person can tell. Two kinds contradict each other.
    """
    by_kind = {f.kind: f for f in findings}
    for kind in kinds:
        if kind not in by_kind:
            raise NotFoundError.of("kind of finding", kind, by_kind, hint="tunery data inspect RECIPE")
    silent = [kind for kind in kinds if not by_kind[kind].edits]
    if silent:
        raise ConfigError.of_problems(
            "nothing to apply",
            [f"{kind}: {by_kind[kind].fix}" for kind in silent],
            hint="--export-review FILE.csv lets a person decide",
        )
    return build_next(context, [e for kind in dict.fromkeys(kinds) for e in by_kind[kind].edits])


def build_next(context: RunContext, requested: Sequence[Edit]) -> Fixed:
    """Store edits and build the dataset version that they make of the recipe's.

    Raises:
        ConfigError: There is nothing to change, or edits contradict each other or name no row.
    """
    from tunery.data.edits.sets import read_changed, settle, store_edits

    before = make_dataset(context)
    settled = settle(requested)
    stored = store_edits(context.workspace, settled.edits, before.id)
    references = (*context.recipe.data.edits, stored.name)
    data = context.recipe.data.model_copy(update={"edits": references})
    after = make_dataset(replace(context, recipe=context.recipe.model_copy(update={"data": data})))
    return Fixed(
        edits=stored.name,
        before=before,
        after=after,
        requested=dict(sorted(Counter(e.reason for e in settled.edits).items())),
        overruled=settled.overruled,
        changed=read_changed(context.workspace.artifacts.path("datasets", after.id)),
        override=f"data.edits=[{', '.join(references)}]",
    )


def read_review(context: RunContext, path: Path, reviewer: str) -> Review:
    """Read a reviewer's sheet against the recipe's dataset version.

    Raises:
        ConfigError: The sheet is not one of ours, or decisions are unknown; every row concerned is named.
    """
    from tunery.data.edits.review import import_review

    dataset = make_dataset(context)
    return import_review(path, _columns(context, dataset), reviewer=reviewer, labels=dataset.labels)


def write_review(
    context: RunContext,
    path: Path,
    findings: Callable[[], Sequence[Finding]],
    kinds: Sequence[str],
    *,
    replace: bool,
) -> int:
    """Write the rows that findings name as a sheet to fill in; return their number.

    Args:
        path: The sheet.
        findings: Looks for them; called once the place is known to be free, for it takes time.
        kinds: Only findings of these kinds; all where empty.
        replace: Whether what lies at ``path`` may go.

    Raises:
        ConflictError: There is something at ``path``, and it is not to be replaced.
        ConfigError: No finding names a row.
    """
    from tunery.data.edits.review import check_free, export_review

    check_free(path, replace=replace)
    return export_review(path, _columns(context, make_dataset(context)), findings(), kinds=kinds)


def _columns(context: RunContext, dataset: DatasetVersion) -> Columns:
    from tunery.store.dataset_files import read_columns

    return read_columns(context.workspace.artifacts.path("datasets", dataset.id))
