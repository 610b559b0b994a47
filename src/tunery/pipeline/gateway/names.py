"""From the model name that a client writes to the base and adapter that answer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date, datetime
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from tunery.core.errors import ConfigError, DamagedError, NotFoundError
from tunery.core.forwarding import ForwardedName, Shutdown
from tunery.core.job import Job
from tunery.core.registry import ModelVersion, parse_ref
from tunery.core.rollout import FORWARDED, Arm, Rollout
from tunery.core.training import BaseModelInfo, kept_steps, step_folder
from tunery.deploy import forwarding
from tunery.deploy.routing import assign
from tunery.registry import versions
from tunery.store.adapters import serving_base
from tunery.store.workspace import Workspace

ORGANIZATION = "tunery"
"""The organisation segment of ``ft:`` names; there is one per workspace."""

_FT = re.compile(r"^ft:(?P<base>[^:]+):(?P<org>[^:]*):(?P<suffix>[^:]*):(?P<id>[0-9a-z]+)$")


_CHECKPOINT = re.compile(r"^(?P<model>ft:.+):ckpt-step-(?P<step>[0-9]{1,9})$")


class UnknownModel(NotFoundError):  # noqa: N818 - named after what the client is told
    """No model of that name; OpenAI's clients look for this code."""

    code = "model_not_found"


class Target(NamedTuple):
    """What answers one request; resolved once, so that an alias may move meanwhile."""

    base: BaseModelInfo
    version: ModelVersion | None
    """None for the base alone."""
    adapter_folder: Path | None
    """None where the base answers, which may be a version's own weights."""
    arm: Arm | None = None
    rollout_id: str | None = None
    damage: str | None = None
    """Why it cannot answer although it is registered: its files are gone; None where it can."""
    day: date | None = None
    """Day that a chat template which writes one is given: the adapter's; None for the day of the request."""
    step: int | None = None
    """Step of a kept checkpoint that answers in place of the version's own weights; None for these."""
    beside: Target | None = None
    """Who else answers a forwarded name, and does where this fails: for ours the old model, for the old one
    ours once a canary of it runs; None where nobody does."""
    heir: Target | None = None
    """Ours, which answers a name that is only forwarded once the old model is gone; None for nobody."""

    def check(self) -> None:
        """Raise where it cannot answer.

        Raises:
            DamagedError: Its files are gone.
        """
        if self.damage is not None:
            raise DamagedError(
                self.damage,
                hint="run its recipe again, which makes them again, or restore them from a backup",
            )

    @property
    def name(self) -> str:
        """Name of what answers: ``name@N`` or the base's."""
        return self.version.ref if self.version else self.base.name

    @property
    def adapter(self) -> str | None:
        """Name of the adapter in the base's engine; None where the base answers."""
        if self.version is None or self.adapter_folder is None:
            return None
        own = self.version.adapter_id
        return own if self.step is None else f"{own}-step-{self.step}"


class Route(NamedTuple):
    """What a name means now, for everybody."""

    target: Target
    """The champion where a rollout runs."""
    rollout: Rollout | None = None
    challenger: Target | None = None
    """The one of the rollout."""

    def of(self, subject: str) -> Target:
        """Return what answers a subject."""
        if self.rollout is None or self.challenger is None:
            return self.target
        arm = assign(self.rollout, subject)
        target = self.challenger if arm == "challenger" else self.target
        return target._replace(arm=arm, rollout_id=self.rollout.id)


ROUTED_BY = (
    "model_versions",
    "aliases",
    "model_names",
    "model_shares",
    "rollouts",
    "jobs",
    "adapters",
    "forwarded_names",
    "checkpoint_permissions",
)
"""Tables that a name's meaning is read from."""


class ServedModel(NamedTuple):
    """One name that requests may ask for."""

    id: str
    created: int
    """Unix seconds."""
    owned_by: str
    overridden: bool = False
    """Whether what answers was refused by its gate, and somebody answers for it."""
    root: str | None = None
    """The version behind a name that means one now; None for a name that several may answer."""
    shutdown: Shutdown | None = None
    """When what answers ends, where somebody else said so; None while nothing is known."""


def ft_name(base: str, suffix: str | None, job_id: str) -> str:
    """Return ``ft:{base}:{org}:{suffix}:{id}``, the name that a job's model is served under.

    >>> ft_name("smollm2-135m-instruct", None, "ftjob-abc")
    'ft:smollm2-135m-instruct:tunery::abc'
    """
    return f"ft:{base}:{ORGANIZATION}:{suffix or ''}:{job_id.removeprefix('ftjob-')}"


def ft_name_of(job: Job) -> str:
    """Return the name of a job's model, whether or not it exists yet."""
    base = job.request.get("model") or str(job.recipe.get("base", "")).rpartition("/")[2]
    return ft_name(str(base), job.request.get("suffix"), job.id)


def job_of_ft_name(name: str) -> str | None:
    """Return the job id that an ``ft:`` name carries, None for any other name."""
    match = _FT.match(name)
    return f"ftjob-{match['id']}" if match else None


def route_of(workspace: Workspace, default: BaseModelInfo, name: str) -> Route:
    """Look up what a name means.

    A bare name follows its running rollout, else its champion, else the highest version that its gate passed.
    Everything else is pinned: ``name@3``, ``name@alias``, ``ft:…``, ``ft:…:ckpt-step-7`` and the base.

    Args:
        default: The base served by its own name.
        name: As the client wrote it.

    Raises:
        NotFoundError: No such model; names the nearest.
    """
    if name == default.name:
        return Route(Target(default, None, None))
    if forwarded := forwarding.named(workspace, name):
        return _forwarded(workspace, forwarded)
    if name.startswith("ft:") and (owner := _granting(workspace, name)) is not None:
        return Route(_of_job(owner, name))
    if _CHECKPOINT.fullmatch(name):
        return Route(_of_job(workspace, name))
    version = _version_of_job(workspace, name)
    if version is None and "@" not in name and (rollout := _of_versions(workspace, name)):
        numbers = (rollout.champion, rollout.challenger)
        champion, challenger = (_target(workspace, workspace.models.get(name, n)) for n in numbers)
        return Route(champion, rollout, challenger)
    return Route(_target(workspace, version or _registered(workspace, name, default)))


def _of_versions(workspace: Workspace, name: str) -> Rollout | None:
    """Return the rollout that moves traffic of a name from one version of it to another."""
    rollout = workspace.rollouts.running(name)
    return rollout if rollout is not None and rollout.champion != FORWARDED else None


def _forwarded(workspace: Workspace, forwarded: ForwardedName) -> Route:
    """Return what a name means that another endpoint answered before."""
    old = Target(forwarded.old, None, None)
    stage = forwarding.stage_now(workspace, forwarded)
    if stage == "forward" or forwarded.version is None:
        return Route(old._replace(heir=_heir(workspace, forwarded)))
    ours = _target(workspace, _registered(workspace, forwarded.version))
    both = ours._replace(beside=old)
    if stage != "canary" or forwarded.rollout_id is None:
        return Route(ours if stage == "alone" else both)
    return Route(old._replace(beside=ours), workspace.rollouts.get(forwarded.rollout_id), both)


def _heir(workspace: Workspace, forwarded: ForwardedName) -> Target | None:
    """Return ours where it may answer; what is wrong with it is no reason not to forward."""
    version = forwarding.heir(workspace, forwarded)
    try:
        return _target(workspace, version) if version else None
    except (NotFoundError, ConfigError, DamagedError):
        return None


def _of_job(workspace: Workspace, name: str) -> Target:
    """Return what answers under a name of a job's model or of its checkpoint."""
    if checkpoint := _CHECKPOINT.fullmatch(name):
        return _target_at(workspace, checkpoint["model"], int(checkpoint["step"]))
    version = _version_of_job(workspace, name)
    if version is None:
        raise UnknownModel(f"no model named {name!r}", hint="GET /v1/models lists every name", param="model")
    return _target(workspace, version)


def _granting(workspace: Workspace, name: str) -> Workspace | None:
    """Return the view of the project that lets the workspace's own ask for a name; None where none does."""
    if workspace.project is None:
        return None
    granted = workspace.whole.checkpoint_permissions.list(1, checkpoint=name, granted_to=workspace.project)
    return workspace.whole.of(granted[0].project) if granted else None


def require_own_checkpoint(workspace: Workspace, name: str) -> None:
    """Refuse a name that is not that of a job's model, or of a checkpoint of it, of the workspace's project.

    Raises:
        NotFoundError: There is none.
    """
    _of_job(workspace, name)


def resolve(workspace: Workspace, default: BaseModelInfo, name: str, subject: str) -> Target:
    """Decide what answers a request, as :func:`route_of` finds it.

    Args:
        subject: Hash that requests of one user stick by.
    """
    return route_of(workspace, default, name).of(subject)


def version_of(workspace: Workspace, name: str) -> ModelVersion:
    """Return the version that a pinned name means: ``name@3``, ``name@alias`` or ``ft:…``.

    Raises:
        NotFoundError: No such version.
        ConfigError: The name is not pinned.
    """
    if version := _version_of_job(workspace, name):
        return version
    ref = parse_ref(name)
    if ref.version is None and ref.alias is None:
        raise ConfigError(
            f"{name!r} is a name with versions; say which one",
            hint=f"write {name}@1, or tunery registry ls",
            param="model",
        )
    return _registered(workspace, name)


def served_models(workspace: Workspace, default: BaseModelInfo) -> Iterator[ServedModel]:
    """List every name that :func:`resolve` knows: the base, names, versions, aliases, jobs' models."""
    yield ServedModel(default.name, 0, "base")
    for forwarded in workspace.forwarded_names.every():
        yield _served_forwarded(workspace, forwarded)
    heads = list(workspace.models.heads())
    for name, group in groupby(heads, key=lambda head: head.name):
        listed = list(group)
        if any(v.gate_passed or v.aliases for v in listed):
            champion = any(v.overridden for v in listed if versions.CHAMPION in v.aliases)
            yield ServedModel(name, min(_unix(v.created_at) for v in listed), ORGANIZATION, champion)
        for version in listed:
            yield ServedModel(version.ref, _unix(version.created_at), ORGANIZATION, version.overridden)
        for version in listed:
            for alias in version.aliases:
                named = f"{name}@{alias}"
                at = _unix(version.created_at)
                yield ServedModel(named, at, ORGANIZATION, version.overridden, version.ref)
    made = {head.ref for head in heads}
    for job in workspace.jobs.every():
        if job.model_version in made:
            at = _unix(job.finished_at or job.created_at)
            yield ServedModel(ft_name_of(job), at, ORGANIZATION, root=job.model_version)


def served_forwarded(workspace: Workspace, name: str) -> ServedModel | None:
    """Return a name that another endpoint answered before, as it is listed; None where it is no such one."""
    forwarded = forwarding.named(workspace, name)
    return _served_forwarded(workspace, forwarded) if forwarded else None


def _served_forwarded(workspace: Workspace, forwarded: ForwardedName) -> ServedModel:
    """The end of the old model is that of the name, until ours answers."""
    ours = forwarding.stage_now(workspace, forwarded) in ("ours", "alone")
    return ServedModel(
        forwarded.name,
        _unix(forwarded.created_at),
        ORGANIZATION,
        root=forwarded.version if ours else None,
        shutdown=None if ours else forwarded.shutdown,
    )


def _registered(workspace: Workspace, name: str, default: BaseModelInfo | None = None) -> ModelVersion:
    try:
        return versions.resolve(workspace, name)
    except (NotFoundError, ConfigError) as error:
        known = workspace.models.names()
        if name.partition("@")[0] in known:  # then the message tells which versions and aliases there are
            raise UnknownModel(error.message, hint=error.hint, param="model") from None
        unknown = UnknownModel.of("model", name, [*([default.name] if default else []), *known])
        raise UnknownModel(unknown.message, hint="GET /v1/models lists every name", param="model") from None


def _target(workspace: Workspace, version: ModelVersion) -> Target:
    adapter = workspace.adapters.get(version.adapter_id)
    base = serving_base(workspace, adapter)
    if not workspace.artifacts.has("adapters", adapter.id):
        return Target(base, version, None, damage=f"the files of {version.ref} ({adapter.id}) are gone")
    # Compared with their checksums when the engine loads them.
    folder = workspace.artifacts.folder("adapters", adapter.id) if adapter.loaded_as else None
    return Target(base, version, folder, day=adapter.asked_on)


def _version_of_job(workspace: Workspace, name: str) -> ModelVersion | None:
    """Return the version behind an ``ft:`` name; None for any other name."""
    job_id = job_of_ft_name(name)
    if job_id is None:
        return None
    job = workspace.jobs.find(job_id)
    if job is None or job.model_version is None or ft_name_of(job) != name:
        # Other names of this form are the ids of other clients' jobs.
        raise UnknownModel(f"no model named {name!r}", hint="GET /v1/models lists every name", param="model")
    version = _version_made(workspace, job.model_version)
    if version is None:
        raise UnknownModel(f"model {name!r} was deleted ({job.model_version})", param="model")
    return version


def answering_steps(workspace: Workspace, job: Job) -> frozenset[int]:
    """Return the steps of a job's training whose checkpoints answer by their names.

    They are the step whose weights the job's model has, and those that ``train.keep_checkpoints`` kept.
    """
    version = _version_made(workspace, job.model_version) if job.model_version else None
    return frozenset() if version is None else _steps(workspace, _target(workspace, version))


def _steps(workspace: Workspace, target: Target) -> frozenset[int]:
    """Return the steps whose weights lie with a version's own."""
    if target.version is None or target.damage is not None:
        return frozenset()
    kept = [] if target.adapter_folder is None else kept_steps(target.adapter_folder)
    return frozenset([workspace.adapters.get(target.version.adapter_id).best_step, *kept])


def checkpoint_name(job: Job, step: int) -> str:
    """Return the name of a job's checkpoint, whether or not it answers."""
    return f"{ft_name_of(job)}:ckpt-step-{step}"


def _target_at(workspace: Workspace, name: str, step: int) -> Target:
    """Return what answers for a job's checkpoint."""
    version = _version_of_job(workspace, name)
    if version is None:
        raise UnknownModel(f"no model named {name!r}", hint="GET /v1/models lists every name", param="model")
    target = _target(workspace, version)
    steps = _steps(workspace, target)
    if steps and step not in steps:
        there = ", ".join(map(str, sorted(steps)))
        raise UnknownModel(f"no checkpoint of step {step} of {name!r}; kept are: {there}", param="model")
    if target.adapter_folder is None or step == workspace.adapters.get(version.adapter_id).best_step:
        return target
    return target._replace(adapter_folder=step_folder(target.adapter_folder, step), step=step)


def _version_made(workspace: Workspace, ref: str) -> ModelVersion | None:
    """Return a job's version, None where it was deleted."""
    name, _, number = ref.partition("@")
    return workspace.models.find(name, int(number))


def _unix(moment: datetime) -> int:
    return int(moment.timestamp())
