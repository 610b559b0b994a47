"""What the routes share: built once with the app, handed to each request."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Literal, NamedTuple

from fastapi import Depends, Request

from tunery.api.audit import AuditTrail
from tunery.api.config import ServerSettings
from tunery.api.drain import Drain
from tunery.api.health import HealthWatch
from tunery.api.metrics import Metrics
from tunery.api.uploads import Uploads
from tunery.core import access
from tunery.core.errors import NotFoundError
from tunery.pipeline.batches.service import BatchService
from tunery.pipeline.gateway.bases import BasePool
from tunery.pipeline.gateway.conversations import Conversations
from tunery.pipeline.gateway.embedder import Embedder
from tunery.pipeline.gateway.gateway import Gateway
from tunery.pipeline.gateway.log import RequestLog
from tunery.pipeline.gateway.project_log import ProjectLog
from tunery.pipeline.jobs.supervisor import Supervisor
from tunery.pipeline.webhooks.dispatch import Dispatcher
from tunery.store.workspace import Workspace
from tunery.traffic.limits.project import ProjectMeter


@dataclass(frozen=True)
class Services:
    """What a route gets: the parts of a server, as far as the caller's project goes.

    Whatever is reached through it sees that project alone, so that a route need not think of the others.
    """

    workspace: Workspace
    """See :meth:`~tunery.store.workspace.Workspace.of`."""
    log: ProjectLog
    settings: ServerSettings
    bases: BasePool
    gateway: Gateway
    """A call brings its caller, whose project says what it may find."""
    meter: ProjectMeter
    """Lets in what the gateway does not answer; what it does goes through it anyway."""
    uploads: Uploads
    batches: BatchService
    """Told that a batch has come."""
    conversations: Conversations
    """Asked for a project and an id."""
    embedder: Embedder
    job_creation: threading.Lock
    """Held while a job is created, so that a client's retry finds the job its first try made."""


@dataclass(frozen=True)
class AllServices:
    """The parts of a server, with what they hold of every project: for its own threads and its operator."""

    workspace: Workspace
    settings: ServerSettings
    bases: BasePool
    gateway: Gateway
    log: RequestLog
    metrics: Metrics
    drain: Drain
    uploads: Uploads
    watch: HealthWatch
    audit: AuditTrail
    batches: BatchService
    conversations: Conversations
    dispatcher: Dispatcher
    embedder: Embedder
    supervisor: Supervisor | None = None
    """What runs jobs; None where another server does."""
    job_creation: threading.Lock = field(default_factory=threading.Lock)

    def of(self, project: str) -> Services:
        """Return them as far as one project goes."""
        return Services(
            workspace=self.workspace.of(project),
            log=ProjectLog(self.log, project),
            settings=self.settings,
            bases=self.bases,
            gateway=self.gateway,
            meter=ProjectMeter(self.gateway.meter, project),
            uploads=self.uploads,
            batches=self.batches,
            conversations=self.conversations,
            embedder=self.embedder,
            job_creation=self.job_creation,
        )


# Coroutines, although they wait for nothing: FastAPI would run a plain function in a thread of the pool that
# all blocking routes share, and a completion or /health would wait until one of those has ended.
async def _caller(request: Request) -> access.Caller:
    return caller_in(request)


async def _all_services(request: Request) -> AllServices:
    found: AllServices = request.app.state.services
    return found


async def _services(request: Request) -> Services:
    return services_in(request)


def caller_in(request: Request) -> access.Caller:
    """Return who sends a request."""
    caller: access.Caller | None = request.scope["caller"]  # set by the boundary
    if caller is None:
        raise RuntimeError(f"{request.scope['path']} needs no key, so nobody is known to call it")
    return caller


def services_in(request: Request) -> Services:
    """Return the parts of the server as far as the project of a request goes."""
    found: AllServices = request.app.state.services
    return found.of(caller_in(request).project)


Shared = Annotated[Services, Depends(_services)]
"""What routes get: the caller's project."""
Everything = Annotated[AllServices, Depends(_all_services)]
"""For what is no project's, such as ``/health``; no route under ``/v1`` may ask for it."""
Caller = Annotated[access.Caller, Depends(_caller)]
"""Who sends the request, by its key."""


def count_in(text: str) -> int:
    """Return the count that a header holds; 0 where it holds none that anybody would send.

    >>> count_in("3"), count_in("9" * 5_000), count_in("-1"), count_in("")
    (3, 0, 0, 0)
    """
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 9 else 0


def wanted_metadata(request: Request) -> dict[str, str]:
    """Return the pairs that a list is narrowed to by ``metadata[key]=value``."""
    return {
        key.removeprefix("metadata[").removesuffix("]"): value
        for key, value in request.query_params.items()
        if key.startswith("metadata[") and key.endswith("]")
    }


def unix(moment: datetime | None) -> int | None:
    """Return Unix seconds."""
    return None if moment is None else int(moment.timestamp())


class Part(NamedTuple):
    """Some of a list."""

    items: list[Mapping[str, Any]]
    has_more: bool


def part_of(
    items: Sequence[Mapping[str, Any]],
    *,
    after: str | None,
    limit: int,
    order: Literal["asc", "desc"],
    of: str,
) -> Part:
    """Return the part of a list behind ``after``.

    Args:
        items: All of them, in ascending order.
        of: Whose they are, for the message.

    Raises:
        NotFoundError: None has the id ``after``.
    """
    ordered = list(items) if order == "asc" else list(reversed(items))
    if after is not None:
        begin = next((i + 1 for i, item in enumerate(ordered) if item["id"] == after), None)
        if begin is None:
            raise NotFoundError(f"nothing with the id {after[:160]!r} in {of}", param="after")
        ordered = ordered[begin:]
    return Part(ordered[:limit], len(ordered) > limit)


def page_of(items: Sequence[Mapping[str, Any]], *, has_more: bool) -> dict[str, Any]:
    """Return a cursor page; the client asks on with ``after=<last_id>``."""
    return {
        "object": "list",
        "data": list(items),
        "first_id": items[0]["id"] if items else None,
        "last_id": items[-1]["id"] if items else None,
        "has_more": has_more,
    }
