"""What was changed, by whom, and which keys were refused."""

from __future__ import annotations

from datetime import datetime

from tunery.core.access import DEFAULT_PROJECT
from tunery.core.config import Record

DONE = "done"
"""Outcome of a change that took place; any other outcome is the code of the error."""
OPERATOR = "operator"
"""Who changes things by the command line of the machine itself."""
REFUSED_KEY = "key.refuse"
"""What is written of a key that is not let in."""
OF_NO_PROJECT = ""
"""Project of what the operator alone sees."""


class AuditRecord(Record):
    """One change, tried or done; holds neither texts nor secrets."""

    id: str
    """``audit-…``."""
    created_at: datetime
    action: str
    """What, such as ``model.promote``."""
    object: str = ""
    """On what: an id, ``name@N``, or of a refused key its first characters."""
    outcome: str = DONE
    """``done``, or the code of the error that came of it."""
    actor: str = OPERATOR
    """Name of the key, ``operator``, ``canary`` or ``run``."""
    key_id: str | None = None
    request_id: str | None = None
    """As ``x-request-id`` says it."""
    address: str | None = None
    """Where a refused key came from."""
    count: int = 1
    """How many of its sort it stands for; more than one where they came too fast to be written one by one."""
    project: str = DEFAULT_PROJECT
