"""Where limits are counted: in Redis where one is named, else in the database, which one gateway has alone
where it is SQLite."""

from __future__ import annotations

import os

from tunery.core.limits import Scope, Usage
from tunery.store.limits import Counts
from tunery.store.workspace import Workspace
from tunery.traffic.limits.account import Periods
from tunery.traffic.limits.config import LimitSettings
from tunery.traffic.limits.ledger import Ledger
from tunery.traffic.limits.memory import MemoryLedger
from tunery.traffic.limits.meter import Meter

REDIS_URL = "TUNERY_REDIS_URL"
"""Environment variable that names the Redis in which several gateways count together."""


def open_meter(workspace: Workspace, settings: LimitSettings) -> Meter:
    """Return the meter of a gateway."""
    return Meter(workspace, settings, open_ledger(workspace))


def open_ledger(workspace: Workspace) -> Ledger:
    """Return where limits are counted.

    Raises:
        ConfigError: A Redis is named and its client is not installed, or its URL is not understood.
    """

    def seed(account: str, periods: Periods) -> tuple[Usage, Usage]:
        return usage_so_far(workspace, account, periods)

    if url := os.environ.get(REDIS_URL):
        from tunery.traffic.limits.redis import RedisLedger

        # Two installations may share a Redis, and names of projects and models.
        return RedisLedger(url, seed=seed, prefix=f"tunery:{workspace.counts.mark()}")
    if workspace.database.driver.dialect == "postgresql":
        from tunery.traffic.limits.database import DatabaseLedger

        # A database of its own: whoever waits for an answer is not to wait for a server that is away.
        return DatabaseLedger(Counts(workspace.database.hurried()), seed=seed)
    return MemoryLedger(lambda: workspace.clock.now().timestamp(), workspace.counts, seed)


def usage_so_far(workspace: Workspace, account: str, periods: Periods) -> tuple[Usage, Usage]:
    """Return what a scope used in its day and its month by the records of usage, which know no users."""
    scope = Scope.of_account(account)
    if scope.user is not None:
        return Usage(), Usage()
    day, month = periods.begins()
    return workspace.usage.total(scope, day, day), workspace.usage.total(scope, month, day)
