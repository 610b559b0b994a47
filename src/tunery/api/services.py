"""What the routes share: built once with the app, handed to each request."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Literal, NamedTuple

from fastapi import Depends, Request

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
from tunery.pipeline.jobs.supervisor import Supervisor
from tunery.pipeline.webhooks.dispatch import Dispatcher
from tunery.store.workspace import Workspace


@dataclass(frozen=True)
class Services:
    """The parts behind the routes."""

    workspace: Workspace
    settings: ServerSettings
    bases: BasePool
    gateway: Gateway
    log: RequestLog
    metrics: Metrics
    drain: Drain
    uploads: Uploads
    watch: HealthWatch
    batches: BatchService
    conversations: Conversations
    dispatcher: Dispatcher
    embedder: Embedder
    supervisor: Supervisor | None = None
    """What runs jobs; None where another server does."""
    job_creation: threading.Lock = field(default_factory=threading.Lock)
    """Held while a job is created, so that a client's retry finds the job its first try made."""


# Coroutines, although they wait for nothing: FastAPI would run a plain function in a thread of the pool that
# all blocking routes share, and a completion or /health would wait until one of those has ended.
async def _services(request: Request) -> Services:
    found: Services = request.app.state.services
    return found


async def _caller(request: Request) -> access.Caller:
    caller: access.Caller | None = request.scope["caller"]  # set by the boundary
    if caller is None:
        raise RuntimeError(f"{request.scope['path']} needs no key, so nobody is known to call it")
    return caller


Shared = Annotated[Services, Depends(_services)]
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
