"""From a journal into the database: in order, each record once, and again from where an outage cut it off."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple

from tunery.core.errors import TuneryError
from tunery.core.rollout import Feedback, RequestRecord
from tunery.store.database import Transaction
from tunery.store.journal import Entry, Journal, abandoned
from tunery.store.workspace import Workspace

_LOG = logging.getLogger(__name__)

REQUEST, FEEDBACK = "request", "feedback"
BATCH = 200
"""Records stored in one transaction at most [count]."""
SET_ASIDE = "refused.jsonl"
"""Records that the database does not take, beside the journals."""
_FEEDBACK_WAITS = timedelta(minutes=10)
"""How long feedback waits for its request, which another server's journal may still hold."""


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


def move(workspace: Workspace, journal: Journal) -> Moved:
    """Store the next entries of a journal; nothing is moved where this raises.

    Raises:
        TuneryError: The database does not answer.
        OSError: The journal cannot be read.
    """
    with journal.moving():
        batch = journal.read(BATCH)
        stored = store(workspace, batch.entries) if batch.entries else _Stored((), ())
        if batch.entries or batch.damaged:
            journal.advance(batch)
    if batch.damaged:
        _LOG.error("%s: %d lines cannot be read; those records are lost", journal.folder, batch.damaged)
    return Moved(len(batch.entries), batch.damaged, len(stored.set_aside), stored.early)


def move_abandoned(workspace: Workspace) -> Moved:
    """Store what servers that died left in their journals.

    Raises:
        TuneryError: The database does not answer.
    """
    entries = damaged = set_aside = 0
    for journal in abandoned(workspace.journals, about=workspace.database_label):
        while True:
            moved = move(workspace, journal)
            if moved.early:
                journal.append(moved.early, sync=False)
            entries += moved.entries
            damaged += moved.damaged
            set_aside += moved.set_aside
            if moved.entries == len(moved.early):
                break
    return Moved(entries, damaged, set_aside, ())


def store(workspace: Workspace, entries: Sequence[Entry]) -> _Stored:
    """Write entries to the database; those that are there already stay as they are.

    Raises:
        TuneryError: The database does not answer; nothing, or nothing more, was stored.
    """
    try:
        with workspace.database.transaction() as transaction:
            return _Stored(tuple(e for e in entries if not _put(workspace, transaction, e)), ())
    except TuneryError:
        raise
    except Exception:
        _LOG.exception("a batch of request records was not taken; each is tried by itself")
    return _one_by_one(workspace, entries)


def _one_by_one(workspace: Workspace, entries: Sequence[Entry]) -> _Stored:
    early, set_aside = [], []
    for entry in entries:
        try:
            with workspace.database.transaction() as transaction:
                if not _put(workspace, transaction, entry):
                    early.append(entry)
        except TuneryError:
            raise
        except Exception:
            workspace.requests.heads(limit=1)  # where this fails too, it is not the record's fault
            _LOG.exception("%s %s is not taken by the database; see %s", entry.kind, entry.id, SET_ASIDE)
            _set_aside(workspace, entry)
            set_aside.append(entry)
    return _Stored(tuple(early), tuple(set_aside))


def _put(workspace: Workspace, transaction: Transaction, entry: Entry) -> bool:
    """Store an entry; False where it is feedback that has to wait for its request."""
    if entry.kind == REQUEST:
        workspace.requests.put(transaction, RequestRecord.model_validate_json(entry.text))
        return True
    feedback = Feedback.model_validate_json(entry.text)
    if workspace.feedback.put(transaction, feedback):
        return True
    return workspace.clock.now() - feedback.created_at > _FEEDBACK_WAITS  # its request was deleted


def _set_aside(workspace: Workspace, entry: Entry) -> None:
    workspace.journals.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (workspace.journals / SET_ASIDE).open("a", encoding="utf-8") as stream:
        stream.write(entry.text + "\n")
