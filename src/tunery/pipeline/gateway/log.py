"""Request records: masked and journalled away from the calls they are about, then in the database."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from datetime import timedelta
from typing import Any, Literal, NamedTuple

from pydantic import Field

from tunery.core.config import Settings
from tunery.core.errors import NotFoundError, ResourceError, TuneryError
from tunery.core.example import Message
from tunery.core.figures import counted
from tunery.core.ids import new_id
from tunery.core.rollout import Feedback, RequestRecord
from tunery.core.tool_text import with_words, words_of
from tunery.pipeline.gateway.catch_up import REQUEST, Moved, entry_of, move, move_abandoned, store
from tunery.store import journal as journals
from tunery.store.journal import Entry, Journal, Place
from tunery.store.records import storable
from tunery.store.requests import Chosen, ServedRequests
from tunery.store.workspace import Workspace

_LOG = logging.getLogger(__name__)

Mask = Callable[[Sequence[str]], list[str]]
"""Texts to the same texts with personal data masked."""
_BATCH = 256
"""Records journalled at once at most [count]."""
_GATHER_S = (0.01, 0.25)
"""How long records gather before they are journalled together, and before they go into the database together
[s]: a write for each took more of the processor than the rest of its call."""
_RETRY_S = (0.05, 2.0)
"""Pauses while the database or the disk is away: the first, and the longest [s]."""
_LOOK_S = 15.0
"""Pause between two looks for what dead servers left [s]."""
_EXPIRY_S = 3600.0
"""Pause between two looks for texts that have expired [s]."""
_FLUSH_S = 5.0
"""How long a flush waits for the disk and for the database, each [s]."""
_CLOSE_S = 10.0
"""How long an end waits for the disk and for the database, each [s]."""


class LogSettings(Settings):
    """How calls are recorded, and for how long their texts are kept."""

    sync: bool = False
    """Wait for the disk before an answer ends, so that neither SIGKILL nor a power cut takes a record.
    Without it, SIGKILL takes those of the last milliseconds and a power cut those of the last second."""
    when_unwritable: Literal["refuse", "answer"] = "refuse"
    """While no record can be written, for want of room or permission: refuse calls with 503, or answer them
    and lose what does not fit into memory. `/health` and the metrics say so either way."""
    max_journal_bytes: int = Field(default=2**30, ge=2**24)
    """Room that records may take on this machine's disk while the database is away [bytes]."""
    max_text_bytes: int = Field(default=2**20, ge=0)
    """Size of one call's prompt and answer at most [bytes]; of a longer one only figures are kept."""
    keep_texts_days: float | None = Field(default=None, gt=0)
    """Days after which prompts, answers and what was said of them in words are deleted, figures and ratings
    kept; looked at at each start and hourly. None keeps them until they are purged."""


class LogState(NamedTuple):
    """Whether calls are being recorded."""

    problem: str | None
    """Why records cannot be written safely now; None while they can."""
    in_memory: int
    """Records that are not even in the journal [count]."""
    in_journal: int
    """Records that the database does not have yet [count]."""
    lost: int
    """Answered calls without a record, since the start [count]."""
    damaged: int
    """Lines of journals that could not be read, since the start [count]."""
    set_aside: int
    """Records that the database does not take, since the start [count]."""


class _Waiting(NamedTuple):
    record: RequestRecord | Feedback
    written: Future[None] | None


class RequestLog:
    """Two threads: one masks records and journals them, one catches the database up.

    What :meth:`write` takes is in the journal some milliseconds later and in the database as soon as that
    answers, once, be this process there to see it or another one.

    Args:
        mask: Takes personal data out of a text.
        observe: Also given every record, as it is taken; must be quick.
        capacity: Records that may wait in memory [count].
    """

    def __init__(
        self,
        workspace: Workspace,
        mask: Mask,
        *,
        settings: LogSettings | None = None,
        observe: Callable[[RequestRecord], None] | None = None,
        capacity: int = 10_000,
    ) -> None:
        self.settings = settings or LogSettings()
        self._workspace = workspace
        self._mask = mask
        self._observe = observe
        self._capacity = capacity
        self._changed = threading.Condition()
        self._intake: deque[_Waiting] = deque()
        self._in_memory: dict[str, RequestRecord] = {}
        self._taken = self._journalled = self._flushing = 0
        self._lost = self._damaged = self._set_aside = 0
        self._problem: str | None = None
        self._away = False
        self._closing = self._all_written = self._closed = False
        self._journal: Journal | None = None
        self._open_journal()
        self._writer = threading.Thread(target=self._write_all, name="request-journal", daemon=True)
        self._mover = threading.Thread(target=self._move_all, name="request-log", daemon=True)
        self._writer.start()
        self._mover.start()

    @property
    def state(self) -> LogState:
        """What health and metrics tell of the log."""
        journal = self._journal
        problem = self._problem or (journal.problem if journal is not None else None)
        return LogState(
            problem=f"request records cannot be written: {problem}" if problem else None,
            in_memory=self._taken - self._journalled,
            in_journal=journal.waiting if journal is not None else 0,
            lost=self._lost,
            damaged=self._damaged,
            set_aside=self._set_aside,
        )

    def check(self) -> None:
        """Refuse a call that could not be recorded, where that is what the operator wants.

        Raises:
            ResourceError: There is no room for records.
        """
        if self.settings.when_unwritable == "answer":
            return
        problem = self.state.problem
        if problem is None and len(self._intake) > self._capacity:
            problem = f"{counted(len(self._intake), 'request record')} wait to be written"
        if problem is not None:
            raise ResourceError(
                problem,
                hint=f"df -h {self._workspace.journals}; or tunery serve log.when_unwritable=answer",
            )

    def write(self, record: RequestRecord) -> Future[None] | None:
        """Take one record; with ``log.sync``, what is returned ends once the record is on the disk."""
        if self._observe is not None:
            self._observe(record)
        written = Future[None]() if self.settings.sync else None
        self._take(record, written)
        return written

    def write_feedback(self, feedback: Feedback) -> None:
        """Journal feedback on a call whose record the database may not have yet.

        Raises:
            ResourceError: It cannot be written.
        """
        written = Future[None]()
        self._take(feedback, written)
        try:
            written.result(timeout=_CLOSE_S)
        except TimeoutError:
            raise ResourceError("feedback cannot be written now", hint="try again shortly") from None

    def find(self, id: str) -> RequestRecord | None:
        """Return the record of a call that the database may not have yet, masked; None where none waits."""
        unwritten = self._in_memory.get(id)
        if unwritten is not None:
            return self._prepared(unwritten)
        journal = self._journal
        entry = journal.find(REQUEST, id) if journal is not None else None
        return RequestRecord.model_validate_json(entry.text) if entry is not None else None

    def find_anywhere(self, id: str) -> RequestRecord | None:
        """Return the record of a call that waits in the journal of any server of this home."""
        entry = journals.find_anywhere(self._workspace.journals, REQUEST, id)
        return RequestRecord.model_validate_json(entry.text) if entry is not None else None

    def forget(self, id: str, project: str) -> None:
        """Delete a project's call for its client, as :meth:`ServedRequests.forget` does, in the journals too.

        Raises:
            NotFoundError: There is none of that id.
            ResourceError: The database does not answer, or does not have the call yet.
        """
        now = self._workspace.clock.now()
        self._stored(id, project, lambda requests: requests.forget(id, now))
        # Not before: until the database has the call, the journal is what counts it.
        journals.erase(self._workspace.journals, lambda e: None if e.id == id else e)

    def set_metadata(self, id: str, project: str, metadata: Mapping[str, str]) -> None:
        """Replace the metadata of a project's call, as :meth:`ServedRequests.set_metadata` does.

        Raises:
            NotFoundError: There is none of that id.
            ResourceError: The database does not answer, or does not have the call yet.
        """
        self._stored(id, project, lambda requests: requests.set_metadata(id, metadata))

    def _stored(self, id: str, project: str, change: Callable[[ServedRequests], object]) -> None:
        """Change a call in the database, and say so where that does not have it yet."""
        self.flush()
        try:
            change(self._workspace.of(project).requests)
        except NotFoundError:
            waiting = self.find(id) or self.find_anywhere(id)
            if waiting is None or waiting.project != project:
                raise
            raise ResourceError(
                f"the record of {id} is still being written", hint="try again shortly"
            ) from None

    def flush(self) -> None:
        """Return once all that was taken so far is in the database, or in the journal while that is away."""
        with self._changed:
            until = self._taken
            self._flushing += 1
            self._changed.notify_all()
            try:
                self._changed.wait_for(lambda: self._is_journalled(until), timeout=_FLUSH_S)
                journal = self._journal
                end = journal.end if journal is not None else None
                self._changed.wait_for(lambda: self._is_caught_up(end), timeout=_FLUSH_S)
            finally:
                self._flushing -= 1

    def close(self) -> None:
        """Write what is left and end the threads; what the database does not take waits in the journal."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._writer.join(timeout=_CLOSE_S + 5)
        self._mover.join(timeout=_CLOSE_S + 15)
        left = self._taken - self._journalled
        if left:
            self._lost += left
            _LOG.error("%s lost: %s", counted(left, "request record"), self._problem)
        self._closed = True
        if self._journal is not None and not self._mover.is_alive():
            with suppress(OSError):
                self._journal.close()

    def _hurries(self) -> bool:
        """Whether somebody waits for what was taken so far."""
        return self._closing or self._flushing > 0 or any(w.written is not None for w in self._intake)

    def _is_journalled(self, until: int) -> bool:
        stuck = self._problem is not None or not self._writer.is_alive()
        return self._journalled >= until or stuck

    def _is_caught_up(self, end: Place | None) -> bool:
        journal = self._journal
        stuck = self._away or not self._mover.is_alive()
        return journal is None or end is None or journal.reached >= end or stuck

    def _take(self, record: RequestRecord | Feedback, written: Future[None] | None) -> None:
        if self._closed:
            self._take_late(record, written)
            return
        with self._changed:
            full = self._problem is not None and len(self._intake) >= self._capacity
            if full and self.settings.when_unwritable == "answer":
                self._lost += 1
                if written is not None:
                    written.set_result(None)
                return
            if isinstance(record, RequestRecord):
                self._in_memory[record.id] = record
            self._taken += 1
            self._intake.append(_Waiting(record, written))
            if len(self._intake) == 1 or written is not None:  # else their writer has been woken already
                self._changed.notify_all()

    def _take_late(self, record: RequestRecord | Feedback, written: Future[None] | None) -> None:
        """Journal a record that comes after the end; whoever starts next finds it."""
        waiting, self._journal = [_Waiting(record, written)], None
        self._taken += 1
        self._journal_batch(waiting)
        if self._journal is not None:
            self._journal.close()

    # The thread that journals.

    def _write_all(self) -> None:
        synced = time.monotonic()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._intake or self._closing, timeout=1.0)
                if self._intake and not self.settings.sync:
                    self._changed.wait_for(self._hurries, timeout=_GATHER_S[0])
                batch = [self._intake.popleft() for _ in range(min(len(self._intake), _BATCH))]
                if not batch and self._closing:
                    self._all_written = True
                    self._changed.notify_all()
                    return
            if batch:
                self._journal_batch(batch)
            else:
                self._look_for_room()
            if not self.settings.sync and self._journal is not None and time.monotonic() - synced > 1.0:
                with suppress(OSError):
                    self._journal.sync()
                synced = time.monotonic()

    def _journal_batch(self, batch: list[_Waiting]) -> None:
        entries = list(filter(None, map(self._entry, (waiting.record for waiting in batch))))
        pause, deadline = _RETRY_S[0], 0.0
        while not self._is_written(entries):
            self._tell(batch, ResourceError(self.state.problem or "records cannot be written"))
            if self._closing:
                deadline = deadline or time.monotonic() + _CLOSE_S
                if time.monotonic() > deadline:
                    return
            time.sleep(pause)
            pause = min(2 * pause, _RETRY_S[1] / 2)
        self._tell(batch, None)
        with self._changed:
            self._journalled += len(batch)
            for waiting in batch:
                self._in_memory.pop(waiting.record.id, None)
            self._changed.notify_all()

    def _is_written(self, entries: list[Entry]) -> bool:
        """Write entries to the journal, else to the database itself; say whether either took them."""
        self._open_journal()
        try:
            if self._journal is not None:
                self._journal.append(entries, sync=self.settings.sync)
                self._problem = None
                return True
        except OSError as error:
            self._problem = error.strerror or str(error)
            _LOG.warning("the journal of requests cannot be written: %s", self._problem)
        try:
            stored = store(self._workspace, entries)
        except Exception as error:
            _LOG.warning("nor can the database: %s", error)
            return False
        self._set_aside += len(stored.set_aside)
        self._lost += len(stored.early)
        return True

    def _look_for_room(self) -> None:
        if self.state.problem is None:
            return
        self._open_journal()
        if self._journal is not None and self._journal.problem is None:
            self._problem = None

    def _open_journal(self) -> None:
        """Have a journal with room, as far as the disk lets it."""
        if self._journal is not None:
            self._journal.make_room()
            return
        workspace = self._workspace
        try:
            self._journal = Journal.create(
                workspace.journals,
                new_id("journal", workspace.clock.now()),
                about=workspace.database_label,
                max_bytes=self.settings.max_journal_bytes,
            )
            self._problem = None
        except OSError as error:
            if self._problem is None:
                _LOG.warning("%s: no journal of requests: %s", workspace.journals, error.strerror)
            self._problem = error.strerror or str(error)

    def _tell(self, batch: list[_Waiting], error: ResourceError | None) -> None:
        """End the waiting for a batch: with success, or for those that are to be refused with what failed."""
        for _, written in batch:
            if written is None or written.done():
                continue
            if error is None or self.settings.when_unwritable == "answer":
                written.set_result(None)
            else:
                written.set_exception(error)

    def _entry(self, record: RequestRecord | Feedback) -> Entry | None:
        try:
            return entry_of(record if isinstance(record, Feedback) else self._prepared(record))
        except Exception:
            # One record that cannot be written down at all must not end the log for all that follow.
            _LOG.exception("%s cannot be recorded", record.id)
            self._lost += 1
            return None

    def _prepared(self, record: RequestRecord) -> RequestRecord:
        """Return a record as it may be kept: not too long, masked, of characters that can be stored."""
        texts = [record.completion, *(m.content for m in record.messages)]
        if sum(len(t.encode("utf-8", "surrogatepass")) for t in texts) > self.settings.max_text_bytes:
            return _without_text(record, "too_long")
        try:
            return self._masked(record)
        except Exception:
            # The call counts all the same; what could not be masked must not be written.
            _LOG.exception("%s: its texts could not be masked and are not kept", record.id)
            return _without_text(record, "not_masked")

    def _masked(self, record: RequestRecord) -> RequestRecord:
        turns = [Message(role="assistant", content=record.completion), *record.messages]
        turns = [t.with_(content=storable(t.content)) for t in turns]
        words = [words_of(t) for t in turns]
        masked = iter(self._mask([word for own in words for word in own]))
        completion, *messages = (
            with_words(turn, [next(masked) for _ in own]) for turn, own in zip(turns, words, strict=True)
        )
        altered = completion.content != record.completion or tuple(messages) != record.messages
        return _storable(record).with_(
            messages=tuple(messages), completion=completion.content, altered=altered
        )

    # The thread that catches the database up.

    def _move_all(self) -> None:
        pause, looked, expired = _RETRY_S[0], 0.0, 0.0
        deadline: float | None = None
        while True:
            moved, now = 0, time.monotonic()
            ending = self._all_written  # asked before the look: what is journalled behind it needs another
            try:
                if now - looked > _LOOK_S or not looked:
                    self._note(move_abandoned(self._workspace))
                    looked = now
                moved = self._move_own()
                if self.settings.keep_texts_days is not None and (now - expired > _EXPIRY_S or not expired):
                    self._expire(self.settings.keep_texts_days)
                    expired = now
                self._back()
                pause = _RETRY_S[0]
            except Exception as error:
                self._gone(error)
                pause = min(2 * pause, _RETRY_S[1])
            if ending:
                deadline = deadline or now + _CLOSE_S
                if not moved or now > deadline:
                    return
            with self._changed:
                if self._away:
                    self._changed.wait_for(lambda: self._closing, timeout=pause)
                elif not moved:
                    self._changed.wait_for(self._has_work, timeout=_LOOK_S)
                    self._changed.wait_for(self._hurries, timeout=_GATHER_S[1])

    def _has_work(self) -> bool:
        journal = self._journal
        waits = journal is not None and journal.reached < journal.end
        return waits or self._all_written

    def _move_own(self) -> int:
        journal = self._journal
        if journal is None:
            return 0
        moved = move(self._workspace, journal)
        self._note(moved)
        with self._changed:
            self._changed.notify_all()
        for entry in moved.early:
            self._take(Feedback.model_validate_json(entry.text), None)
        if moved.early and len(moved.early) == moved.entries:
            time.sleep(_RETRY_S[0])
        return moved.entries

    def _note(self, moved: Moved) -> None:
        self._damaged += moved.damaged
        self._set_aside += moved.set_aside

    def _expire(self, days: float) -> None:
        before = self._workspace.clock.now() - timedelta(days=days)
        journals.erase(self._workspace.journals, lambda e: without_old_text(e, Chosen(before=before)))
        expired = self._workspace.requests.expire_texts(before)
        if expired:
            _LOG.info("texts of %s are deleted after %g days", counted(expired, "request"), days)

    def _back(self) -> None:
        if self._away:
            _LOG.warning("the database takes request records again")
        with self._changed:
            self._away = False
            self._changed.notify_all()

    def _gone(self, error: Exception) -> None:
        if not self._away:
            told = error.message if isinstance(error, TuneryError) else repr(error)
            _LOG.warning("the database takes no request records now; the journal keeps them: %s", told)
        with self._changed:
            self._away = True
            self._changed.notify_all()


def without_old_text(entry: Entry, chosen: Chosen) -> Entry:
    """Return an entry without its texts where it is a call that is meant, else as it is."""
    if entry.kind != REQUEST:
        return entry
    record = RequestRecord.model_validate_json(entry.text)
    if not record.messages or not chosen.takes(record):
        return entry
    return entry_of(_without_text(record, "removed"))


def without_words(entry: Entry, said: Feedback) -> Entry | None:
    """Return the entry of a rating without its comment, None for feedback that is nothing but words."""
    if said.kind != "rating":
        return None
    return entry if said.comment is None else entry_of(said.with_(comment=None))


def _without_text(record: RequestRecord, why: Literal["too_long", "not_masked", "removed"]) -> RequestRecord:
    return _storable(record).with_(messages=(), completion="", text=why)


def _storable(record: RequestRecord) -> RequestRecord:
    """Return a record whose short texts can be stored; its prompt and answer are seen to elsewhere."""
    named = ((name, getattr(record, name)) for name in type(record).model_fields)
    texts: dict[str, Any] = {name: storable(value) for name, value in named if isinstance(value, str)}
    metadata = {storable(k): storable(str(v)) for k, v in record.metadata.items()}
    return record.model_copy(update={**texts, "metadata": metadata})
