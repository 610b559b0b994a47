"""Lineage: from a model version back to its raw files, and whether all of it is still as it was."""

from __future__ import annotations

from tunery.core.config import Record
from tunery.core.dataset import DatasetVersion, SourceFile
from tunery.core.errors import TuneryError
from tunery.core.evaluation import Evaluation, GateResult
from tunery.core.registry import ModelVersion
from tunery.core.run import Run
from tunery.core.training import ADAPTER_WEIGHTS, Adapter
from tunery.registry.versions import resolve
from tunery.store.artifacts import Kind
from tunery.store.checksums import checksum
from tunery.store.workspace import Workspace


class Lineage(Record):
    """The chain behind one model version; a link that is no longer stored is None."""

    model: ModelVersion
    run: Run | None
    gate: GateResult | None
    evaluation: Evaluation | None
    adapter: Adapter | None
    dataset: DatasetVersion | None
    """What it was trained on."""
    parents: tuple[DatasetVersion, ...]
    """Dataset versions that ``dataset`` grew from, nearest first."""
    sources: tuple[SourceFile, ...]
    """Raw files of all of them, each content once."""
    unresolved: tuple[str, ...]
    """Ids of parents that are no stored dataset version, such as feedback exports."""


class LineageCheck(Record):
    """One thing that was looked at again."""

    what: str
    """Such as ``files of adapter-0f…``."""
    ok: bool
    detail: str
    """What was found, in one sentence."""


def lineage(workspace: Workspace, ref: str) -> Lineage:
    """Follow a model version back to its raw files.

    Raises:
        NotFoundError: There is no such version.
    """
    model = resolve(workspace, ref)
    dataset = workspace.datasets.find(model.dataset_version)
    parents, unresolved = _ancestors(workspace, dataset)
    family = [*([dataset] if dataset else []), *parents]
    sources = {source.sha256: source for version in family for source in version.sources}
    return Lineage(
        model=model,
        run=workspace.runs.find(model.run_id),
        gate=workspace.gates.find(model.gate_id),
        evaluation=workspace.evaluations.find(model.evaluation_id),
        adapter=workspace.adapters.find(model.adapter_id),
        dataset=dataset,
        parents=tuple(parents),
        sources=tuple(sources.values()),
        unresolved=tuple(unresolved),
    )


def verify(workspace: Workspace, chain: Lineage) -> tuple[LineageCheck, ...]:
    """Compute the checksums of the adapter and of every dataset version again, and see that the links agree.

    Nothing is raised for what is wrong: every check is returned, so that a person sees all of it at once.
    """
    checks = [_links(chain), _artifact(workspace, "adapters", chain.model.adapter_id)]
    if chain.adapter is not None:
        checks.append(_weights(workspace, chain.adapter))
    for version in (chain.model.dataset_version, *(parent.id for parent in chain.parents)):
        checks.append(_artifact(workspace, "datasets", version))
    return tuple(checks)


def _ancestors(
    workspace: Workspace, dataset: DatasetVersion | None
) -> tuple[list[DatasetVersion], list[str]]:
    found: dict[str, DatasetVersion] = {}
    unresolved: list[str] = []
    waiting = list(dataset.parents) if dataset else []
    while waiting:
        id = waiting.pop(0)
        if id in found or id in unresolved or (dataset and id == dataset.id):
            continue
        parent = workspace.datasets.find(id)
        if parent is None:
            unresolved.append(id)
        else:
            found[id] = parent
            waiting += parent.parents
    return list(found.values()), unresolved


def _links(chain: Lineage) -> LineageCheck:
    model = chain.model
    problems = [
        f"{kind} {id} is no longer stored"
        for kind, id, record in (
            ("run", model.run_id, chain.run),
            ("gate result", model.gate_id, chain.gate),
            ("evaluation", model.evaluation_id, chain.evaluation),
            ("adapter", model.adapter_id, chain.adapter),
            ("dataset version", model.dataset_version, chain.dataset),
        )
        if record is None
    ]
    if chain.adapter and chain.adapter.dataset_version != model.dataset_version:
        problems.append(f"{chain.adapter.id} was trained on {chain.adapter.dataset_version}")
    if chain.adapter and chain.adapter.base.label != model.base:
        problems.append(f"{chain.adapter.id} was trained on base {chain.adapter.base.label}")
    if chain.evaluation and chain.evaluation.adapter != model.adapter_id:
        problems.append(f"{chain.evaluation.id} is of {chain.evaluation.adapter or 'the base alone'}")
    if chain.gate and chain.gate.passed != model.gate_passed:
        problems.append(f"{chain.gate.id} says {'passed' if chain.gate.passed else 'refused'}")
    return LineageCheck(
        what=f"links of {model.ref}",
        ok=not problems,
        detail="; ".join(problems) or "every record is stored and names the next",
    )


def _artifact(workspace: Workspace, kind: Kind, id: str) -> LineageCheck:
    what = f"files of {id}"
    try:
        problems = workspace.artifacts.damage(kind, id)
    except TuneryError as error:
        return LineageCheck(what=what, ok=False, detail=error.message)
    if problems:
        return LineageCheck(what=what, ok=False, detail="; ".join(problems))
    return LineageCheck(what=what, ok=True, detail="every file has the checksum it was stored with")


def _weights(workspace: Workspace, adapter: Adapter) -> LineageCheck:
    what = f"weights of {adapter.id}"
    folder = workspace.root / "adapters" / adapter.id
    if not (folder / ADAPTER_WEIGHTS).is_file():
        return LineageCheck(what=what, ok=False, detail=f"{ADAPTER_WEIGHTS} is not there")
    found = checksum(folder / ADAPTER_WEIGHTS)
    same = found == adapter.sha256
    detail = "as the training run recorded them" if same else f"sha256 {found}, recorded {adapter.sha256}"
    return LineageCheck(what=what, ok=same, detail=detail)
