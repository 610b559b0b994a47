"""Names that another endpoint answered before us, and how far they have moved here."""

from __future__ import annotations

from datetime import date, datetime
from typing import Literal

from tunery.core.access import DEFAULT_PROJECT
from tunery.core.config import Record
from tunery.core.training import BaseModelInfo

Stage = Literal["forward", "canary", "ours", "alone"]
"""Who answers: the old endpoint; that and ours for a share of the users; ours, with the old endpoint where it
fails; ours alone."""


class Shutdown(Record):
    """When a model ends, and by whose word."""

    on: date
    source: str
    """``api`` where the source itself says so (``shutdown_date``), else who reported it."""

    @property
    def is_reported(self) -> bool:
        """Whether it is a report that wants checking, not the source's own word."""
        return self.source != "api"


class ForwardMove(Record):
    """One step of a name, in either direction."""

    stage: Stage
    at: datetime
    actor: str
    reason: str = ""
    version: str | None = None
    """Ours, ``name@N``."""


class ForwardedName(Record):
    """A name that clients write, with the endpoint that has answered it so far."""

    name: str
    """``ft:gpt-4o-mini-2024-07-18:org::id``, or whatever clients write."""
    project: str = DEFAULT_PROJECT
    created_at: datetime
    old: BaseModelInfo
    """What stands for the model at its endpoint."""
    listed_as: str | None = None
    """The old model as its source lists it; :attr:`old` has the deployment that answers as it, at Azure."""
    stage: Stage
    """As the newest move set it; a canary that has ended says more, see :func:`stage_now`."""
    version: str | None = None
    """Ours, ``name@N``; None while there is none."""
    rollout_id: str | None = None
    """Of the newest canary."""
    shutdown: Shutdown | None = None
    """When the old model ends, as the newest move knew it; None where nothing is known."""
    gone_at: datetime | None = None
    """When its endpoint first said, since the newest move, that it knows the old model no more."""
    moves: tuple[ForwardMove, ...] = ()
    """Oldest first."""

    def is_of(self, model: str) -> bool:
        """Return whether it is an old model's name, however that is called."""
        return model in (self.listed_as, self.old.name)

    @property
    def id(self) -> str:
        """Project and name: two projects may forward the same one."""
        return f"{self.project}/{self.name}"
