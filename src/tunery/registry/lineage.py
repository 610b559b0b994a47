"""Lineage: from a model version back to its raw files, and whether all of it is still as it was."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import get_args

from tunery.core.config import Record
from tunery.core.dataset import DatasetVersion, SourceFile
from tunery.core.errors import NotFoundError, TuneryError
from tunery.core.evaluation import Evaluation, GateResult
from tunery.core.registry import ModelVersion
from tunery.core.run import Run
from tunery.core.training import ADAPTER_WEIGHTS, WHOLE_MODEL, Adapter, BaseModelInfo
from tunery.model.bases import check_base
from tunery.registry.versions import resolve
from tunery.store.adapters import base_here
from tunery.store.artifacts import Kind
from tunery.store.checksums import checksum
from tunery.store.workspace import Workspace

_RECENT = 20
"""Adapters that a base is compared with [count]."""
_AGAIN = "run its recipe again, which makes it again: tunery run RECIPE"
_MENDS: Mapping[Kind, str] = {"adapters": _AGAIN, "evaluations": _AGAIN, "datasets": _AGAIN}
"""What mends artifacts that can be made again, by kind."""


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
    mend: str | None = None
    """What mends it, where it is not ok."""


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
    """Compute the checksums of everything behind a version again, and see that the links agree.

    That is its adapter, every evaluation of its run, its dataset version with its parents and edits, and its
    base. Nothing is raised for what is wrong: every check is returned, so that a person sees all of it.
    """
    checks = [_links(chain), check_artifact(workspace, "adapters", chain.model.adapter_id)]
    if chain.adapter is not None:
        checks += [check_weights(workspace, chain.adapter), check_base_of(workspace, chain.adapter.base)]
    return (*checks, *(check_artifact(workspace, kind, id) for kind, id in needed_by(chain)[1:]))


def needed_by(chain: Lineage) -> list[tuple[Kind, str]]:
    """Return the kinds and ids of the artifacts behind a version, its adapter first."""
    family = (chain.model.dataset_version, *(parent.id for parent in chain.parents))
    of_run = chain.run.evaluations.values() if chain.run else ()
    evaluations = dict.fromkeys((chain.model.evaluation_id, *of_run))
    versions = (*([chain.dataset] if chain.dataset else []), *chain.parents)
    edits = dict.fromkeys(
        str(reference)
        for version in versions
        for reference in version.config.get("edits", ())
        if str(reference).startswith("edits-")
    )
    return [
        ("adapters", chain.model.adapter_id),
        *(("evaluations", id) for id in evaluations),
        *(("datasets", id) for id in family),
        *(("edits", id) for id in edits),
    ]


def verify_all(workspace: Workspace) -> tuple[LineageCheck, ...]:
    """Verify every version, and every artifact that no version stands on."""
    versions = [version for name in workspace.models.names() for version in workspace.models.list(name)]
    found: dict[str, LineageCheck] = {}
    for version in versions:
        found.update((check.what, check) for check in verify(workspace, lineage(workspace, version.ref)))
    for kind in get_args(Kind):
        for folder in _folders(workspace.root / kind):
            check = check_artifact(workspace, kind, folder.name)
            found.setdefault(check.what, check)
    return tuple(found.values())


def verify_artifact(workspace: Workspace, id: str) -> tuple[LineageCheck, ...]:
    """Verify one artifact by its id, whatever its kind.

    Raises:
        NotFoundError: There is none.
    """
    kinds = [kind for kind in get_args(Kind) if id in {f.name for f in _folders(workspace.root / kind)}]
    if not kinds:
        known = [folder.name for kind in get_args(Kind) for folder in _folders(workspace.root / kind)]
        raise NotFoundError.of("artifact", id, known, hint="tunery verify all")
    return tuple(check_artifact(workspace, kind, id) for kind in kinds)


def _folders(parent: Path) -> list[Path]:
    if not parent.is_dir():
        return []
    return sorted(f for f in parent.iterdir() if f.is_dir() and "." not in f.name)


def base_changed_since(workspace: Workspace, base: BaseModelInfo) -> str | None:
    """Return a sentence where a base is not what the newest adapters on it were trained on, else None.

    A base that somebody changed is another base: nothing is made of the two together, but whoever did not
    mean to change it must hear of it.
    """
    trained = [a for a in workspace.adapters.list(_RECENT) if a.base.path == base.path]
    if not trained or any(adapter.base.sha256 == base.sha256 for adapter in trained):
        return None
    then = trained[0].base
    names = [
        n for n in sorted(then.files.keys() | base.files.keys()) if then.files.get(n) != base.files.get(n)
    ]
    changed = f" ({', '.join(names)})" if then.files and names else ""
    return (
        f"base {base.name} in {base.path} changed since {trained[0].id} was trained on it{changed}: "
        f"sha256 {then.sha256[:12]} then, {base.sha256[:12]} now; nothing made on it is used with this one"
    )


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
        mend="restore the database from a backup" if problems else None,
    )


def check_artifact(workspace: Workspace, kind: Kind, id: str) -> LineageCheck:
    """Compute the checksums of one artifact again."""
    what, mend = (
        f"files of {id}",
        _MENDS.get(kind, f"restore {workspace.artifacts.place(kind, id)} from a backup"),
    )
    try:
        problems = workspace.artifacts.damage(kind, id)
    except NotFoundError:
        problems = [f"{workspace.artifacts.place(kind, id)} is gone or was never finished"]
    except TuneryError as error:
        problems = [error.message]
    if problems:
        return LineageCheck(what=what, ok=False, detail="; ".join(problems), mend=mend)
    return LineageCheck(what=what, ok=True, detail="every file has the checksum it was stored with")


def check_base_of(workspace: Workspace, base: BaseModelInfo) -> LineageCheck:
    """Compute the checksums of a base again."""
    what = f"base {base.label}"
    try:
        check_base(base_here(workspace, base))
    except (TuneryError, OSError) as error:
        told = error if isinstance(error, TuneryError) else TuneryError(str(error))
        return LineageCheck(what=what, ok=False, detail=told.message, mend=told.hint)
    return LineageCheck(what=what, ok=True, detail="every file is what the adapter was trained on")


def check_weights(workspace: Workspace, adapter: Adapter) -> LineageCheck:
    """Compute the checksum of an adapter's weights again, and hold it against its record."""
    what = f"weights of {adapter.id}"
    try:
        folder = workspace.artifacts.folder("adapters", adapter.id)
    except TuneryError as error:
        return LineageCheck(what=what, ok=False, detail=error.message, mend=_MENDS["adapters"])
    if adapter.model is not None:
        found = check_base_of(workspace, adapter.model.with_(path=str(folder / WHOLE_MODEL)))
        told = "as the training run recorded them" if found.ok else found.detail
        return found.with_(what=what, detail=told, mend=None if found.ok else _MENDS["adapters"])
    if not (folder / ADAPTER_WEIGHTS).is_file():
        return LineageCheck(
            what=what, ok=False, detail=f"{ADAPTER_WEIGHTS} is not there", mend=_MENDS["adapters"]
        )
    sha256 = checksum(folder / ADAPTER_WEIGHTS)
    same = sha256 == adapter.sha256
    detail = "as the training run recorded them" if same else f"sha256 {sha256}, recorded {adapter.sha256}"
    return LineageCheck(what=what, ok=same, detail=detail, mend=None if same else _MENDS["adapters"])
