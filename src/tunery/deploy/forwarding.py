"""A name moves from its old endpoint to a version of ours, a step at a time, and back.

A canary of it is a rollout like any other, whose champion is the old model: it is judged and rolled back by
the same rule, and says by its status who answers from then on.
"""

from __future__ import annotations

from typing import Any

from tunery.core.access import DEFAULT_PROJECT
from tunery.core.errors import ConfigError, ConflictError, GateFailed, NotFoundError
from tunery.core.forwarding import ForwardedName, ForwardMove, Shutdown, Stage
from tunery.core.registry import ModelVersion, parse_ref
from tunery.core.rollout import FORWARDED
from tunery.core.training import BaseModelInfo
from tunery.deploy import canary
from tunery.deploy.config import CanaryConfig
from tunery.store.workspace import Workspace


def named(workspace: Workspace, name: str) -> ForwardedName | None:
    """Return a forwarded name of the workspace's project, None where there is none."""
    return workspace.forwarded_names.find(f"{workspace.project or DEFAULT_PROJECT}/{name}")


def of_model(workspace: Workspace, model: str) -> ForwardedName | None:
    """Return the name under which an old model is answered here: its own, else one that was given to it."""
    others = (each for each in workspace.forwarded_names.every() if each.is_of(model))
    return named(workspace, model) or next(others, None)


def stage_now(workspace: Workspace, forwarded: ForwardedName) -> Stage:
    """Return who answers a name: after a canary that was promoted ours, after any other the old model."""
    if forwarded.stage != "canary":
        return forwarded.stage
    rollout = workspace.rollouts.find(forwarded.rollout_id) if forwarded.rollout_id else None
    if rollout is not None and rollout.status == "running":
        return "canary"
    return "ours" if rollout is not None and rollout.status == "promoted" else "forward"


def move(  # noqa: PLR0913 - each is one thing that a move says
    workspace: Workspace,
    name: str,
    stage: Stage,
    *,
    old: BaseModelInfo | None = None,
    listed_as: str | None = None,
    shutdown: Shutdown | None = None,
    version: str | None = None,
    rule: CanaryConfig | None = None,
    actor: str,
    reason: str = "",
) -> ForwardedName:
    """Take a step with a name, in either direction.

    Args:
        workspace: Of one project, or of all, which means the default one.
        name: As clients write it.
        stage: Who is to answer.
        old: The old model; needed for a name that is not forwarded yet.
        listed_as: What its source calls it, where that is not what its endpoint is asked for; read where
            ``old`` is given.
        shutdown: When that ends, where it is known; read where ``old`` is given.
        version: Ours, ``name@N``; left out, the one of the step before.
        rule: Of a canary.
        actor: Who moves it.
        reason: Why.

    Raises:
        NotFoundError: The name is not forwarded and no old model is given, or there is no such version.
        ConfigError: No version of ours is named where one is to answer, or its number is left out.
        GateFailed: Its gate refused it, and nobody overrode that.
        ConflictError: Another canary of its name runs, or a model here has that very name.
    """
    there = named(workspace, name)
    if there is None and old is None:
        raise NotFoundError(f"{name} is not forwarded yet", hint=f"tunery rescue serve {name} --to forward")
    ours = version or (there.version if there else None)
    found = _answering(workspace, ours, stage) if stage != "forward" else None
    if _is_ours(workspace, name):
        raise ConflictError(f"{name} names a model here itself", hint="--as NAME serves it under another")
    _end_canary(workspace, there, stage, actor)
    rollout_id = there.rollout_id if there else None
    if stage == "canary" and found is not None:
        _end_orphan(workspace, found.name, actor)
        rollout_id = canary.begin(workspace, found, FORWARDED, rule or CanaryConfig(), actor=actor).id
    now = workspace.clock.now()
    step = ForwardMove(stage=stage, at=now, actor=actor, reason=reason, version=found.ref if found else ours)
    changes: dict[str, Any] = {"stage": stage, "version": step.version, "rollout_id": rollout_id}
    if old is not None:
        changes |= {"old": old, "listed_as": listed_as, "shutdown": shutdown, "gone_at": None}
    if there is None and old is not None:
        project = workspace.project or DEFAULT_PROJECT
        return workspace.forwarded_names.add(
            ForwardedName(name=name, project=project, created_at=now, moves=(step,), **changes)
        )
    return workspace.forwarded_names.change(
        f"{workspace.project or DEFAULT_PROJECT}/{name}",
        lambda each: each.with_(**changes, moves=(*each.moves, step)),
    )


def note_gone(workspace: Workspace, name: str) -> None:
    """Write down that the old model's endpoint knows it no more, where that is not known yet."""
    there = named(workspace, name)
    if there is not None and there.gone_at is None:
        now = workspace.clock.now()
        workspace.forwarded_names.change(there.id, lambda each: each.with_(gone_at=each.gone_at or now))


def heir(workspace: Workspace, forwarded: ForwardedName) -> ModelVersion | None:
    """Return the version of ours that answers a forwarded name once its old model is gone.

    None where its files are gone, where its gate refused it and nobody answers for it, or where a canary of
    it did worse: then an error is better than its answers.
    """
    if forwarded.version is None:
        return None
    ref = parse_ref(forwarded.version)
    version = workspace.models.find(ref.name, ref.version) if ref.version else None
    rollout = workspace.rollouts.find(forwarded.rollout_id) if forwarded.rollout_id else None
    if version is None or (rollout is not None and rollout.status == "rolled_back"):
        return None
    if not workspace.artifacts.has("adapters", version.adapter_id):
        return None
    return version if version.gate_passed or version.overrides else None


def _answering(workspace: Workspace, ref: str | None, stage: Stage) -> ModelVersion:
    """Return the version of ours that is to answer."""
    if ref is None:
        raise ConfigError(f"which version of ours is to answer in stage {stage}?", hint="--with NAME@N")
    parsed = parse_ref(ref)
    if parsed.version is None:
        raise ConfigError(f"{ref} has no number; a forwarded name is pinned", hint=f"--with {parsed.name}@1")
    version = workspace.models.get(parsed.name, parsed.version)
    if not (version.gate_passed or version.overrides):
        raise GateFailed(
            f"the gate refused {version.ref}, so it gets no traffic",
            hint=f"tunery registry promote {version.ref} --override-gate --by NAME --reason TEXT",
        )
    return version


def _is_ours(workspace: Workspace, name: str) -> bool:
    """Tell whether a name means a model of this home already: a version's, or that of a job."""
    if name.partition("@")[0] in workspace.models.names():
        return True
    job = f"ftjob-{name.split(':')[4]}" if name.startswith("ft:") and name.count(":") >= 4 else ""
    return bool(job) and workspace.jobs.find(job) is not None


def _end_orphan(workspace: Workspace, name: str, actor: str) -> None:
    """End a canary that no forwarded name knows of: whoever began it was killed before writing it down."""
    running = workspace.rollouts.running(name)
    if running is None or running.champion != FORWARDED:
        return
    if all(each.rollout_id != running.id for each in workspace.forwarded_names.every()):
        reason = "the step that began it was killed"
        workspace.rollouts.finish(running.id, "cancelled", reason=reason, actor=actor)


def _end_canary(workspace: Workspace, there: ForwardedName | None, stage: Stage, actor: str) -> None:
    """End the canary that runs, as the step says: for ours, or for the old model."""
    if there is None or there.rollout_id is None:
        return
    for_ours = stage in ("ours", "alone")
    workspace.rollouts.finish(
        there.rollout_id,
        "promoted" if for_ours else "cancelled",
        reason=f"moved to stage {stage} by hand",
        actor=actor,
    )
