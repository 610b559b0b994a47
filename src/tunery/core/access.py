"""Who may do what: projects that see nothing of each other, roles, API keys, and who sends a request."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

from pydantic import Field

from tunery.core.config import Record

Role = Literal["read", "infer", "train", "admin"]
"""What a key may do in its project, each role all that those before it may: read what there is except the
texts of conversations and files; ask models, read and rate their answers; upload files and train on them;
promote, roll out and delete models and make keys."""
ROLES: tuple[Role, ...] = get_args(Role)
DEFAULT_PROJECT = "default"
"""Project of everything that names none, and of all that was there before projects were."""


def allows(role: Role, needed: Role) -> bool:
    """Return whether a role includes another.

    >>> allows("train", "infer"), allows("infer", "train")
    (True, False)
    """
    return ROLES.index(role) >= ROLES.index(needed)


class Project(Record):
    """A tenant: files, jobs, models and served calls of one project are invisible to every other."""

    id: str
    """Its name."""
    created_at: datetime
    description: str = ""


class ApiKey(Record):
    """A key's record; the secret itself is never stored."""

    id: str
    name: str
    prefix: str
    """First characters, to recognise it by."""
    sha256: str
    created_at: datetime
    revoked_at: datetime | None = None
    project: str = DEFAULT_PROJECT
    role: Role = "admin"
    """Keys that were there before roles were could do everything."""
    expires_at: datetime | None = None
    """When it stops working by itself."""
    weight: float = Field(default=1.0, gt=0)
    """Its share of a busy server, relative to the other keys that wait."""
    priority: int = 0
    """Requests of lower priority are refused first where there are too many."""

    def works_at(self, now: datetime) -> bool:
        """Return whether it is let in at a time."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request, as its key says; what it may see and do follows from nothing else."""

    project: str
    role: Role
    key_id: str | None = None
    """None with auth off."""
    key_name: str | None = None
    """None with auth off."""
    user: str | None = None
    """The person behind it, as the client names them."""
    weight: float = 1.0
    """As :attr:`ApiKey.weight`."""
    priority: int = 0
    """As :attr:`ApiKey.priority`."""
    spare: float = 0.0
    """Share of limits by the minute, and of places, that its requests leave to others [0 to 1]."""

    @property
    def name(self) -> str:
        """What is written down as author or actor."""
        return self.key_name or "api"


WITHOUT_KEY = Caller(DEFAULT_PROJECT, "admin")
"""Who calls a server whose auth is off: somebody on its own machine."""


def caller_of(key: ApiKey, user: str | None = None) -> Caller:
    """Return who calls with a key."""
    return Caller(key.project, key.role, key.id, key.name, user, key.weight, key.priority)


class CheckpointPermission(Record):
    """Another project may ask for a checkpoint of a job, or for its model."""

    id: str
    """``cp-…``."""
    checkpoint: str
    """``ft:…:ckpt-step-N``, or ``ft:…``."""
    granted_to: str
    """The other project."""
    project: str = DEFAULT_PROJECT
    """Whose checkpoint it is."""
    created_at: datetime
