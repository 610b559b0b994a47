"""Conversations that answers may follow on, as they were before personal data was masked in their records."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

from pydantic import Field

from tunery.core.config import Settings
from tunery.core.example import Message


class ConversationSettings(Settings):
    """How long a conversation can be followed on by its id alone where its stored texts are masked."""

    keep_s: float = Field(default=3600.0, ge=0)
    """Time for which this process remembers the words of a conversation, in memory alone [s]; 0 forgets at
    once."""
    max_characters: int = Field(default=16 * 2**20, ge=0)
    """Characters of all remembered conversations at most [count]; the oldest make room."""


class _Kept(NamedTuple):
    turns: tuple[Message, ...]
    characters: int
    until: float


class Conversations:
    """Remembers words for a while; thread-safe, and nothing of it is ever written down.

    Args:
        settings: For how long, and how much.
    """

    def __init__(self, settings: ConversationSettings) -> None:
        self._settings = settings
        self._kept: OrderedDict[tuple[str, str], _Kept] = OrderedDict()
        self._characters = 0
        self._lock = threading.Lock()

    def keep(self, project: str, id: str, turns: Sequence[Message]) -> None:
        """Remember a conversation under the id of the answer that it ends with."""
        characters = sum(len(turn.content) for turn in turns)
        if not self._settings.keep_s or characters > self._settings.max_characters:
            return
        with self._lock:
            self._drop((project, id))
            self._kept[project, id] = _Kept(
                tuple(turns), characters, time.monotonic() + self._settings.keep_s
            )
            self._characters += characters
            self._make_room()

    def find(self, project: str, id: str) -> tuple[Message, ...] | None:
        """Return a conversation with the answer at its end; None where it is not remembered any more."""
        with self._lock:
            self._make_room()
            kept = self._kept.get((project, id))
            return kept.turns if kept is not None else None

    def forget(self, project: str, id: str) -> None:
        """Forget a conversation whose answer was deleted."""
        with self._lock:
            self._drop((project, id))

    def _make_room(self) -> None:
        now = time.monotonic()
        while self._kept:
            oldest = next(iter(self._kept))
            if self._characters <= self._settings.max_characters and self._kept[oldest].until > now:
                return
            self._drop(oldest)

    def _drop(self, key: tuple[str, str]) -> None:
        dropped = self._kept.pop(key, None)
        self._characters -= dropped.characters if dropped is not None else 0
