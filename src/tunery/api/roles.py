"""What a caller must be for each route, and what its change is called: the one place that says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from tunery.core.access import Caller, Role, allows
from tunery.core.errors import ForbiddenError


class Access(NamedTuple):
    """What holds for one route."""

    role: Role
    """What a caller must at least be."""
    change: str | None = None
    """Action in the audit log; None for what changes nothing, or keeps records of its own: served calls and
    feedback carry the key that they came with."""


_READ = Access("read")
_INFER = Access("infer")
ROUTES: Mapping[str, Access] = {
    "POST /chat/completions": _INFER,
    "POST /completions": _INFER,
    "POST /embeddings": _INFER,
    "POST /tokenize": _INFER,
    "POST /detokenize": _INFER,
    # Conversations are texts: who may not ask may not read what others asked either.
    "GET /chat/completions": _INFER,
    "GET /chat/completions/{completion_id}": _INFER,
    "GET /chat/completions/{completion_id}/messages": _INFER,
    "POST /chat/completions/{completion_id}": _INFER,
    "DELETE /chat/completions/{completion_id}": Access("infer", "request.delete"),
    "POST /responses": _INFER,
    "POST /responses/input_tokens": _INFER,
    "GET /responses/{response_id}": _INFER,
    "GET /responses/{response_id}/input_items": _INFER,
    "POST /responses/{response_id}/cancel": _INFER,
    "DELETE /responses/{response_id}": Access("infer", "request.delete"),
    "POST /feedback": _INFER,
    "GET /feedback": _INFER,
    "POST /files": Access("train", "file.create"),
    "GET /files": _READ,
    "GET /files/{file_id}": _READ,
    "GET /files/{file_id}/content": Access("train"),
    "DELETE /files/{file_id}": Access("train", "file.delete"),
    "POST /uploads": Access("train"),
    "POST /uploads/{upload_id}/parts": Access("train"),
    "POST /uploads/{upload_id}/complete": Access("train", "file.create"),
    "POST /uploads/{upload_id}/cancel": Access("train"),
    # A batch lives by files, its answers are one.
    "POST /batches": Access("train", "batch.create"),
    "GET /batches": _READ,
    "GET /batches/{batch_id}": _READ,
    "POST /batches/{batch_id}/cancel": Access("train", "batch.cancel"),
    "POST /fine_tuning/jobs": Access("train", "job.create"),
    "GET /fine_tuning/jobs": _READ,
    "GET /fine_tuning/jobs/{job_id}": _READ,
    "GET /fine_tuning/jobs/{job_id}/events": _READ,
    "GET /fine_tuning/jobs/{job_id}/checkpoints": _READ,
    "POST /fine_tuning/checkpoints/{checkpoint}/permissions": Access("admin", "checkpoint.share"),
    "GET /fine_tuning/checkpoints/{checkpoint}/permissions": Access("admin"),
    "DELETE /fine_tuning/checkpoints/{checkpoint}/permissions/{permission_id}": Access(
        "admin", "checkpoint.unshare"
    ),
    "POST /fine_tuning/jobs/{job_id}/cancel": Access("train", "job.cancel"),
    "POST /fine_tuning/jobs/{job_id}/pause": Access("train", "job.pause"),
    "POST /fine_tuning/jobs/{job_id}/resume": Access("train", "job.resume"),
    # Code of a grader runs in a sandbox on the server.
    "POST /fine_tuning/alpha/graders/validate": Access("train"),
    "POST /fine_tuning/alpha/graders/run": Access("train"),
    "GET /models": _READ,
    "GET /models/{model}": _READ,
    "DELETE /models/{model}": Access("admin", "model.delete"),
    "GET /rollouts": _READ,
    "GET /rollouts/{rollout_id}": _READ,
    "POST /rollouts": Access("admin", "rollout.start"),
    "POST /rollouts/{rollout_id}/cancel": Access("admin", "rollout.cancel"),
    "POST /rollouts/promote": Access("admin", "model.promote"),
    "POST /rollouts/rollback": Access("admin", "model.rollback"),
    "POST /rollouts/unalias": Access("admin", "model.unalias"),
    "GET /keys": Access("admin"),
    "POST /keys": Access("admin", "key.create"),
    "DELETE /keys/{key_id}": Access("admin", "key.revoke"),
    "GET /audit": Access("admin"),
    "GET /usage": _READ,
    "GET /limits": _READ,
}
"""Method of each route, and its path as its router declares it, to what holds for it."""


def access_of(method: str, path: str) -> Access:
    """Return what holds for a route; one that the table does not know is for admins, and is written down.

    Args:
        method: Such as ``GET``.
        path: As the router declares it, without ``/v1`` and converters: ``/models/{model}``.
    """
    route = f"{method} {path}"
    unknown = Access("admin", None if method in ("GET", "HEAD") else route)
    return ROUTES.get(route, unknown)


def require(caller: Caller, access: Access) -> None:
    """Refuse a caller whose role does not include the one that is needed.

    Raises:
        ForbiddenError: Names both.
    """
    if not allows(caller.role, access.role):
        raise ForbiddenError(
            f"this needs a key with the role {access.role}; {caller.name} has the role {caller.role}",
            hint=f"tunery keys create NAME --project {caller.project} --role {access.role}",
        )
