"""Request records, written and masked away from the calls they are about."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Sequence

from tunery.core.example import Message
from tunery.core.rollout import RequestRecord
from tunery.core.tool_text import with_words, words_of
from tunery.store.workspace import Workspace

_LOG = logging.getLogger(__name__)

Mask = Callable[[Sequence[str]], list[str]]
"""Texts to the same texts with personal data masked."""


class RequestLog:
    """A queue and one thread that empties it into the workspace.

    A full queue makes writers wait for a slot rather than lose a record that a canary counts on.

    Args:
        mask: Takes personal data out of a text.
        observe: Also given every record, as it is written to the queue; must be quick.
        capacity: Records that may wait [count].
    """

    def __init__(
        self,
        workspace: Workspace,
        mask: Mask,
        *,
        observe: Callable[[RequestRecord], None] | None = None,
        capacity: int = 10_000,
    ) -> None:
        self._workspace = workspace
        self._mask = mask
        self._observe = observe
        self._waiting: queue.Queue[RequestRecord | threading.Event | None] = queue.Queue(capacity)
        self._thread = threading.Thread(target=self._drain, name="request-log", daemon=True)
        self._thread.start()

    def write(self, record: RequestRecord) -> None:
        """Take one record."""
        if self._observe is not None:
            self._observe(record)
        self._waiting.put(record)

    def flush(self) -> None:
        """Return once everything taken so far is in the workspace, so that a client can read its own call."""
        # A mark in the queue, and not queue.join(): under steady traffic the queue is never empty.
        mark = threading.Event()
        self._waiting.put(mark)
        while self._thread.is_alive() and not mark.wait(timeout=1.0):
            pass

    def close(self) -> None:
        """Write what is left and end the thread."""
        if self._thread.is_alive():
            self._waiting.put(None)
            self._thread.join(timeout=30)

    def _drain(self) -> None:
        while True:
            record = self._waiting.get()
            if record is None:
                return
            if isinstance(record, threading.Event):
                record.set()
                continue
            try:
                self._workspace.requests.add(self._masked(record))
            except Exception:
                # One record that cannot be written must not end the log for all that follow.
                _LOG.exception("request record %s was not written", record.id)

    def _masked(self, record: RequestRecord) -> RequestRecord:
        # PostgreSQL refuses NUL in text; nobody misses it.
        turns = [Message(role="assistant", content=record.completion), *record.messages]
        turns = [t.with_(content=t.content.replace("\x00", "\ufffd")) for t in turns]
        words = [words_of(t) for t in turns]
        masked = iter(self._mask([word for own in words for word in own]))
        completion, *messages = (
            with_words(turn, [next(masked) for _ in own]) for turn, own in zip(turns, words, strict=True)
        )
        return record.with_(messages=tuple(messages), completion=completion.content)
