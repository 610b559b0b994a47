"""Which commands change what others see, and the audit record that each leaves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, NamedTuple

import typer

from tunery.core.errors import TuneryError

if TYPE_CHECKING:
    from tunery.store.workspace import Workspace

_CHANGED = "tunery.changed"
"""Place in a call's notes of what it has made."""


class Change(NamedTuple):
    """What a command does."""

    action: str
    """As the audit log names it; the same as for the route that does the same."""
    parameter: str | None
    """The argument that says on what; None where the command makes it."""
    of: Literal["model", "job", "batch", "key", "request", "feedback", "limit", "home"]
    """Kind of thing, whose project is the record's; what is the home's own only the operator sees."""


CHANGES: Mapping[str, Change] = {
    "registry give": Change("model.give", "name", "model"),
    "registry move": Change("model.move", "name", "model"),
    "registry share": Change("model.share", "name", "model"),
    "registry unshare": Change("model.unshare", "name", "model"),
    "registry register": Change("model.register", "run", "model"),
    "registry promote": Change("model.promote", "ref", "model"),
    "registry rollback": Change("model.rollback", "name", "model"),
    "registry unalias": Change("model.unalias", "ref", "model"),
    "registry rm": Change("model.delete", "ref", "model"),
    "deploy promote": Change("model.promote", "ref", "model"),
    "deploy rollback": Change("model.rollback", "name", "model"),
    "deploy canary": Change("rollout.start", "ref", "model"),
    "deploy cancel": Change("rollout.cancel", "name", "model"),
    "rescue serve": Change("model.forward", "model", "model"),
    "jobs start": Change("job.create", None, "job"),
    "jobs resume": Change("job.resume", "job_id", "job"),
    "jobs pause": Change("job.pause", "job_id", "job"),
    "jobs cancel": Change("job.cancel", "job_id", "job"),
    "batches cancel": Change("batch.cancel", "batch_id", "batch"),
    "requests purge": Change("request.purge", "model", "request"),
    "feedback add": Change("feedback.create", "request_id", "request"),
    "feedback review": Change("feedback.review", "feedback_ids", "feedback"),
    "keys create": Change("key.create", "name", "key"),
    "keys revoke": Change("key.revoke", "key_id", "key"),
    "limits set": Change("limit.set", None, "limit"),
    "limits rm": Change("limit.remove", None, "limit"),
    "projects create": Change("project.create", "name", "home"),
    "webhooks resend": Change("webhook.resend", "delivery_id", "home"),
    "gc": Change("home.clean", None, "home"),
}
"""Each command as it is typed. Versions that ``tunery run`` registers are written down where that is done."""


def changed(ctx: typer.Context, object: str) -> None:
    """Note what the command has made or changed, where its arguments do not say it."""
    ctx.meta[_CHANGED] = object


@contextmanager
def written_down(ctx: typer.Context, workspace: Workspace) -> Iterator[None]:
    """Leave an audit record of what the command does in the block, and of how it ended."""
    change = CHANGES.get(ctx.command_path.partition(" ")[2])
    if change is None:
        yield
        return
    try:
        yield
    except TuneryError as error:
        _note(ctx, workspace, change, error.code)
        raise
    _note(ctx, workspace, change, None)


def _note(ctx: typer.Context, workspace: Workspace, change: Change, failed: str | None) -> None:
    from tunery.core.audit import DONE

    given = ctx.meta.get(_CHANGED) or (ctx.params.get(change.parameter) if change.parameter else "")
    named = ", ".join(given) if isinstance(given, (list, tuple)) else str(given or "")
    project = workspace.project or _project_of(workspace, change.of, named)
    workspace.audit.note(change.action, object=named[:160], outcome=failed or DONE, project=project)


def _project_of(workspace: Workspace, kind: str, named: str) -> str:
    """Return whose a thing is; that of the operator alone where it is nobody's, or is not there."""
    from tunery.core.audit import OF_NO_PROJECT

    if kind == "limit" and named:
        return _project_bounded(workspace, named)
    name = named.partition(",")[0]
    if kind == "model":
        return workspace.model_names.project_of(name.partition("@")[0]) or OF_NO_PROJECT
    find = {
        "job": workspace.jobs.find,
        "batch": workspace.batches.find,
        "key": workspace.keys.find,
        "request": workspace.requests.find,
        "feedback": workspace.feedback.find,
    }.get(kind)
    return getattr(find(name) if find else None, "project", OF_NO_PROJECT)


def _project_bounded(workspace: Workspace, scope_text: str) -> str:
    """Return the one project whose calls a scope bounds."""
    from tunery.core.audit import OF_NO_PROJECT
    from tunery.core.limits import EACH, Scope

    scope = Scope.of_account(scope_text)
    key = workspace.keys.find(scope.key) if scope.key else None
    owner = key.project if key else scope.project
    return OF_NO_PROJECT if owner in (None, EACH) else str(owner)
