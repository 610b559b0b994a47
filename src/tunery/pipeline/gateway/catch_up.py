"""From a journal into the database: in order, each record once, and again from where an outage cut it off."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from datetime import UTC, timedelta
from typing import NamedTuple

from tunery.core.errors import TuneryError, UnavailableError
from tunery.core.limits import DayUsage, Usage
from tunery.core.rollout import Feedback, RequestRecord
from tunery.store import journal
from tunery.store.database import Transaction
from tunery.store.journal import Entry, Journal, abandoned, find_anywhere
from tunery.store.workspace import Workspace

_LOG = logging.getLogger(__name__)

REQUEST, FEEDBACK = "request", "feedback"
BATCH = 200
"""Records stored in one transaction at most [count]."""
_FEEDBACK_WAITS = timedelta(minutes=10)
"""How long feedback waits for its request, which another server's journal may still hold."""


_SETTLE_S = 5.0
"""How long a command waits for a record that a living server holds [s]."""


class Moved(NamedTuple):
    """What one look at a journal moved on."""

    entries: int
    """Read, be they stored now or before [count]."""
    damaged: int
    """Lines that could not be read [count]."""
    set_aside: int
    """Records that the database does not take [count]."""
    early: tuple[Entry, ...]
    """Feedback whose request is not there yet; to be journalled again."""


class _Stored(NamedTuple):
    early: tuple[Entry, ...]
    set_aside: tuple[Entry, ...]


def entry_of(record: RequestRecord | Feedback) -> Entry:
    """Return a record as a journal holds it."""
    kind = REQUEST if isinstance(record, RequestRecord) else FEEDBACK
    return Entry(kind, record.id, record.model_dump_json())


def move(workspace: Workspace, held: Journal) -> Moved:
    """Store the next entries of a journal; nothing is moved where this raises.

    Raises:
        TuneryError: The database does not answer.
        OSError: The journal cannot be read.
    """
    with held.moving():
        batch = held.read(BATCH)
        stored = store(workspace, batch.entries) if batch.entries else _Stored((), ())
        if batch.entries or batch.damaged:
            held.advance(batch)
    if batch.damaged:
        _LOG.error("%s: %d lines cannot be read; those records are lost", held.folder, batch.damaged)
    return Moved(len(batch.entries), batch.damaged, len(stored.set_aside), stored.early)


def move_abandoned(workspace: Workspace) -> Moved:
    """Store what servers that died left in their journals.

    Raises:
        TuneryError: The database does not answer.
    """
    workspace = workspace.whole  # journals hold the calls of all projects
    entries = damaged = set_aside = 0
    for held in abandoned(workspace.journals, about=workspace.database_label):
        while True:
            moved = move(workspace, held)
            if moved.early:
                held.append(moved.early, sync=False)
            entries += moved.entries
            damaged += moved.damaged
            set_aside += moved.set_aside
            if moved.entries == len(moved.early):
                break
    return Moved(entries, damaged, set_aside, ())


def settle(workspace: Workspace, request_id: str) -> None:
    """Wait some seconds for a call whose record is in a journal of this home and not in the database.

    Raises:
        UnavailableError: It is still not there: the server that holds it has not written it.
    """
    if workspace.requests.find(request_id) is not None:
        return
    move_abandoned(workspace)
    deadline = time.monotonic() + _SETTLE_S
    while workspace.requests.find(request_id) is None:
        if find_anywhere(workspace.journals, REQUEST, request_id) is None:
            return
        if time.monotonic() > deadline:
            raise UnavailableError(
                f"the record of {request_id} waits in {workspace.journals} for its server to store it",
                hint="try again shortly",
            )
        time.sleep(0.1)


def store(workspace: Workspace, entries: Sequence[Entry]) -> _Stored:
    """Write entries to the database; those that are there already stay as they are.

    Raises:
        TuneryError: The database does not answer; nothing, or nothing more, was stored.
    """
    try:
        with workspace.database.transaction() as transaction:
            return _Stored(_put_all(workspace, transaction, entries), ())
    except TuneryError:
        raise
    except Exception:
        _LOG.exception("a batch of request records was not taken; each is tried by itself")
    return _one_by_one(workspace, entries)


def _one_by_one(workspace: Workspace, entries: Sequence[Entry]) -> _Stored:
    early: list[Entry] = []
    set_aside: list[Entry] = []
    for entry in entries:
        try:
            with workspace.database.transaction() as transaction:
                early += _put_all(workspace, transaction, [entry])
        except TuneryError:
            raise
        except Exception:
            workspace.requests.heads(limit=1)  # where this fails too, it is not the record's fault
            kept = journal.set_aside(workspace.journals, entry)
            _LOG.exception("%s %s is not taken by the database and kept in %s", entry.kind, entry.id, kept)
            set_aside.append(entry)
    return _Stored(tuple(early), tuple(set_aside))


def _put_all(workspace: Workspace, transaction: Transaction, entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """Store entries, and what they used of those that were not there; return feedback that has to wait."""
    early, used = [], []
    for entry in entries:
        if entry.kind == REQUEST:
            record = RequestRecord.model_validate_json(entry.text)
            if workspace.requests.put(transaction, record):
                used.append(_usage_of(record))
        elif not _put_feedback(workspace, transaction, entry):
            early.append(entry)
    # In the transaction of their records: what is billed is each call once, whatever a journal says twice.
    workspace.usage.add(transaction, used)
    return tuple(early)


def _usage_of(record: RequestRecord) -> DayUsage:
    return DayUsage(
        record.created_at.astimezone(UTC).date(),
        record.project,
        record.key_id or "",
        record.model.partition("@")[0],
        Usage(1, record.prompt_tokens, record.completion_tokens, record.usd),
    )


def _put_feedback(workspace: Workspace, transaction: Transaction, entry: Entry) -> bool:
    """Store feedback; False where it has to wait for its request."""
    feedback = Feedback.model_validate_json(entry.text)
    if workspace.feedback.put(transaction, feedback):
        return True
    return workspace.clock.now() - feedback.created_at > _FEEDBACK_WAITS  # its request was deleted
