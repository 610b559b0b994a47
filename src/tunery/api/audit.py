"""What the server writes into the audit log: changes over HTTP, and keys that are not let in."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from tunery.core.access import ApiKey, Caller
from tunery.core.audit import DONE, OF_NO_PROJECT, REFUSED_KEY
from tunery.core.errors import TuneryError
from tunery.core.rollout import Rollout
from tunery.store.workspace import Workspace

_LOG = logging.getLogger(__name__)
_WINDOW_S = 60.0
_FROM_ONE = 5
"""Records of what is refused to one address or key, for each window at most [count]."""
_FROM_ALL = 20
"""Records of what is refused to anybody, for each window at most [count]."""
_REFUSED_KEPT = 50_000
"""Records of refused keys that are kept [count]; some 15 MB."""
_TRIM_EVERY = 500
_OBJECT_CHARACTERS = 160
_BODY_BYTES = 64 * 2**10
"""Answers over this name nothing that was changed [bytes]."""


class Sparingly:
    """Lets some events of a kind be written and counts the others, so that a flood fills no disk.

    Args:
        now: A clock that only goes forward [s].
        most: Events of all sources that are written in a minute at most [count]; None where sources are few.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic, most: int | None = _FROM_ALL) -> None:
        self._now = now
        self._most = most
        self._guard = threading.Lock()
        self._began = now()
        self._written: Counter[str] = Counter()
        self._left_out: Counter[str] = Counter()

    def admit(self, source: str) -> int:
        """Return how many events a record that is written now stands for; 0 where none is to be written.

        Where sources are few each has a count of its own, so that no record tells of another's events.
        """
        counted = source if self._most is None else ""
        with self._guard:
            if self._now() - self._began >= _WINDOW_S:
                self._began = self._now()
                self._written.clear()
            full = self._most is not None and self._written.total() >= self._most
            if full or self._written[source] >= _FROM_ONE:
                self._left_out[counted] += 1
                return 0
            self._written[source] += 1
            return self._left_out.pop(counted, 0) + 1

    def put_back(self, count: int) -> None:
        """Leave events to the next record that is not for one project alone."""
        with self._guard:
            self._left_out[""] += count


class AuditTrail:
    """Writes records; one that cannot be written is in the server's log instead.

    Args:
        workspace: Of all projects.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._refused_keys = Sparingly()
        self._refused_changes = Sparingly(most=None)
        self._until_trim = _TRIM_EVERY

    def change(
        self, caller: Caller, action: str, object: str, *, outcome: str = DONE, request_id: str | None = None
    ) -> None:
        """Write down a change, done or refused; blocks while the database is asked."""
        count = 1 if outcome == DONE else self._refused_changes.admit(caller.key_id or "")
        if not count:
            return
        self._write(
            action,
            object=object[:_OBJECT_CHARACTERS],
            outcome=outcome,
            actor=caller.name,
            key_id=caller.key_id,
            request_id=request_id,
            count=count,
            project=caller.project,
        )

    def rollout_ended(self, rollout: Rollout) -> None:
        """Write down that a canary was ended by its numbers; blocks while the database is asked."""
        self._write(
            f"rollout.{rollout.status}",
            object=f"{rollout.id} of {rollout.name}@{rollout.challenger}",
            actor=rollout.actor,
            project=self._workspace.model_names.project_of(rollout.name),
        )

    def refused_key(self, secret: str, address: str, request_id: str) -> None:
        """Write down that a key was not let in; blocks while the database is asked.

        A key that was once let in shows in its project, any other to the operator alone.
        """
        count = self._refused_keys.admit(address)
        if not count:
            return
        known = self._known(secret)
        if known is not None:
            self._refused_keys.put_back(count - 1)  # those of others are not this project's to know
        self._write(
            REFUSED_KEY,
            # A quarter at most: what is sent here by mistake may be a whole secret of somewhere else.
            object=secret[: min(10, len(secret) // 4)],
            outcome="invalid_api_key",
            actor=known.name if known else "",
            key_id=known.id if known else None,
            request_id=request_id,
            address=address,
            count=1 if known else count,
            project=known.project if known else OF_NO_PROJECT,
        )
        self._until_trim -= 1
        if self._until_trim <= 0:
            self._until_trim = _TRIM_EVERY
            self._workspace.audit.trim(REFUSED_KEY, keep=_REFUSED_KEPT)

    def _known(self, secret: str) -> ApiKey | None:
        try:
            return self._workspace.keys.recognise(secret)
        except TuneryError:
            return None

    def _write(self, action: str, **fields: str | int | None) -> None:
        try:
            self._workspace.audit.note(action, **fields)
        except Exception:
            _LOG.exception("not written into the audit log: %s %s", action, fields)


def changed_object(path_values: list[str], answer: bytes, sent: object) -> str:
    """Return what a change was of: what its path names, else its answer, else its body.

    >>> changed_object(["file-1"], b"", None), changed_object([], b'{"id": "ftjob-1"}', None)
    ('file-1', 'ftjob-1')
    >>> changed_object([], b'{"name": "bot", "version": 2}', None)
    'bot@2'
    >>> changed_object([], b"", {"model": "bot@3"})
    'bot@3'
    """
    if path_values:
        return path_values[0]
    content: Any = None
    if len(answer) <= _BODY_BYTES:
        try:
            content = json.loads(answer)
        except ValueError:
            content = None
    if isinstance(content, dict) and isinstance(content.get("id"), str):
        return str(content["id"])
    if isinstance(content, dict) and isinstance(content.get("name"), str):
        version = content.get("version") or content.get("previous")
        return f"{content['name']}@{version}" if version else str(content["name"])
    if isinstance(sent, dict) and isinstance(sent.get("model"), str):
        return str(sent["model"])
    return ""
