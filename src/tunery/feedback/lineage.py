"""Which dataset versions a served answer descends from, and whether its prompt is held out in one of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from tunery.core.errors import ConfigError, TuneryError
from tunery.core.figures import percent
from tunery.core.registry import ModelRef, parse_ref
from tunery.core.rollout import RequestRecord
from tunery.feedback.heldout import HeldOutIndex, HeldOutPrompt
from tunery.store.workspace import Workspace

_DATASET_PREFIX = "ds-"
EVERYTHING = 2**31 - 1
"""More records than any list has."""


class Objection(NamedTuple):
    """Why feedback gives no training row."""

    reason: str
    """Short stable word; here ``held_out_exact``, ``held_out_near`` or ``held_out_not_checkable``."""
    detail: str


class _Lineage(NamedTuple):
    datasets: frozenset[str]
    """Dataset versions, parents included."""
    lost: tuple[str, ...]
    """What is named somewhere in the lineage and is no longer there."""


class HeldOutGuard:
    """Looks served prompts up among the held-out splits of their lineage; reads each dataset version once.

    The lineage of a model's answer is every dataset version that any version of its name was trained on,
    every one that bears its name, and all their parents: versions of one name are compared with each other,
    so a prompt held out for one must not teach another. The base, which has no lineage, may have answered
    for any of them, so all dataset versions count.

    Args:
        similarity: Least Jaccard similarity of a near match, in (0, 1].
    """

    def __init__(self, workspace: Workspace, *, similarity: float) -> None:
        self._workspace = workspace
        self._similarity = similarity
        self._lineages: dict[str, _Lineage] = {}
        self._prompts: dict[str, list[HeldOutPrompt]] = {}
        self._indexes: dict[frozenset[str], HeldOutIndex | Objection] = {}

    def objection(self, request: RequestRecord) -> Objection | None:
        """Return why a request's prompt must stay out of training, None where nothing speaks against it."""
        if request.model not in self._lineages:
            self._lineages[request.model] = self._trace(request.model)
        lineage = self._lineages[request.model]
        if lineage.lost:
            missing = ", ".join(lineage.lost)
            return Objection(
                "held_out_not_checkable", f"{request.model} descends from {missing}, no longer stored"
            )
        if lineage.datasets not in self._indexes:
            self._indexes[lineage.datasets] = self._build(lineage.datasets)
        index = self._indexes[lineage.datasets]
        if isinstance(index, Objection):
            return index
        match = index.match(request.messages)
        if match is None:
            return None
        held = match.prompt
        where = f"{held.example_id} in the {held.split} split of {held.dataset_version}"
        if match.kind == "exact":
            return Objection("held_out_exact", f"the prompt is that of {where}")
        return Objection("held_out_near", f"the prompt is {percent(match.similarity)} like that of {where}")

    def _trace(self, model: str) -> _Lineage:
        stored = self._workspace.datasets.list(limit=EVERYTHING)
        ref = _version_ref(model)
        if ref is None:
            return self._with_parents({d.id for d in stored}, ())
        versions = self._workspace.models.list(ref.name, limit=EVERYTHING)
        # What a version that has since been deleted was trained on is not known any more.
        gone = () if any(v.version == ref.version for v in versions) else (model,)
        named = {d.id for d in stored if d.name == ref.name}
        return self._with_parents(named | {v.dataset_version for v in versions}, gone)

    def _with_parents(self, ids: Iterable[str], lost: tuple[str, ...]) -> _Lineage:
        waiting, found, missing = list(ids), set[str](), set(lost)
        while waiting:
            id = waiting.pop()
            if id in found or id in missing:
                continue
            version = self._workspace.datasets.find(id)
            if version is None:
                missing.add(id)
                continue
            found.add(id)
            # Other parents are feedback exports: training rows only, by their making.
            waiting.extend(p for p in version.parents if p.startswith(_DATASET_PREFIX))
        return _Lineage(frozenset(found), tuple(sorted(missing)))

    def _build(self, datasets: frozenset[str]) -> HeldOutIndex | Objection:
        from tunery.store.dataset_files import read_held_out  # a server without datasets never loads Arrow

        prompts: list[HeldOutPrompt] = []
        for id in sorted(datasets):
            try:
                if id not in self._prompts:
                    rows = read_held_out(self._workspace.artifacts.path("datasets", id))
                    self._prompts[id] = [HeldOutPrompt(id, r.split, r.example_id, r.prompt) for r in rows]
            except TuneryError as error:
                return Objection(
                    "held_out_not_checkable", f"dataset version {id} cannot be read: {error.message}"
                )
            prompts += self._prompts[id]
        return HeldOutIndex(prompts, similarity=self._similarity)


def _version_ref(model: str) -> ModelRef | None:
    """Return what a served model's name refers to where it is ``name@N``, None where it is a base's name.

    A base from the hub is called ``org/model@revision``, which is no reference to a model version.
    """
    try:
        ref = parse_ref(model)
    except ConfigError:
        return None
    return ref if ref.version is not None else None
