"""That the old model of a forwarded name is gone, noted with the name for whoever asks after a rescue."""

from __future__ import annotations

import time
from concurrent.futures import Executor
from contextlib import suppress

from tunery.core.errors import UpstreamModelNotFoundError
from tunery.deploy import forwarding
from tunery.pipeline.gateway.answer import logged
from tunery.pipeline.gateway.fallback import Failed
from tunery.store.workspace import Workspace

_EACH_S = 60.0
"""How often it is looked whether it is noted already [s]."""


class GoneNotes:
    """Writes down, once, when an endpoint first said that it knows a model no more.

    Args:
        workspace: Of all projects.
        beside: Runs what would keep the call waiting.
    """

    def __init__(self, workspace: Workspace, beside: Executor) -> None:
        self._workspace = workspace
        self._beside = beside
        self._looked_at: dict[tuple[str, str], float] = {}

    def take(self, failed: Failed) -> None:
        """Note a failure where it says so; any other is passed over."""
        call, target = failed.routed.call, failed.routed.target
        if target.base.hosted is None or not isinstance(failed.error, UpstreamModelNotFoundError):
            return
        named, now = (call.caller.project, call.model), time.monotonic()
        if now - self._looked_at.get(named, -_EACH_S) < _EACH_S:
            return
        self._looked_at[named] = now
        with suppress(RuntimeError):  # the server ends; another one notes it
            self._beside.submit(self._note, *named)

    def _note(self, project: str, name: str) -> None:
        with logged(f"that the old model of {name} is gone"):
            forwarding.note_gone(self._workspace.of(project), name)
