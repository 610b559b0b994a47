"""What a command and the workers that train for it leave for each other.

The workers come and go; the relay is a process of its own beside the command and knows which of them are the
present ones. What earlier ones still send is dropped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

from tunery.core.errors import TuneryError
from tunery.core.progress import Level
from tunery.train.reporting import Measure, Reporting

Kind = Literal[
    "began", "lost", "event", "task", "advance", "task_over", "checkpoint", "point", "measure", "over"
]
_POLL_S = 0.2
"""How often a worker looks for an answer, and at most looks whether it is to stop [s]."""


class Message(NamedTuple):
    """One thing that the command is to hear."""

    kind: Kind
    content: Any


class Relay:
    """Holds messages until they are taken. Lives in a process of its own, where calls come one by one.

    Args:
        handed: The training, for whoever joins it.
    """

    def __init__(self, handed: bytes) -> None:
        self._handed = handed
        self._messages: list[Message] = []
        self._attempt = 0
        self._stopped = False
        self._over = False
        self._answer: list[Any] = []

    def handed(self) -> bytes:
        """Return the training."""
        return self._handed

    def begin(self, workers: Any) -> int | None:
        """Return the number of a new attempt; None where nothing is to be trained any more."""
        if self._stopped and not self._over:
            self._messages.append(Message("over", KeyboardInterrupt()))
            self._over = True
        if self._over:
            return None
        self._attempt += 1
        self._answer = []
        self._messages.append(Message("began", workers))
        return self._attempt

    def send(self, attempt: int, kind: Kind, content: Any) -> None:
        """Leave a message for the command, unless a later attempt has begun."""
        if attempt == self._attempt and not self._over:
            self._messages.append(Message(kind, content))
            self._over = kind == "over"

    def lost(self, reason: str) -> None:
        """Leave the message that workers are gone."""
        self._messages.append(Message("lost", reason))

    def take(self) -> list[Message]:
        """Return the messages since the last time, oldest first."""
        taken, self._messages = self._messages, []
        return taken

    def stop(self) -> None:
        """Ask the workers to save and to stop."""
        self._stopped = True

    def stopped(self, attempt: int) -> bool:
        """Tell whether the workers of an attempt are to stop."""
        return self._stopped or attempt != self._attempt

    def is_over(self) -> bool:
        """Tell whether the training has ended, well or not."""
        return self._over

    def answer(self, value: Any) -> None:
        """Leave what was measured, or the error that it ended in, for the worker that waits for it."""
        self._answer = [value]

    def answered(self) -> list[Any]:
        """Return the answer in a list, once; an empty one while there is none."""
        answer, self._answer = self._answer, []
        return answer


class Line:
    """A worker's end: everything that it reports reaches the command.

    Args:
        call: Calls a method of the relay by its name and returns what it returns.
        post: Calls one without waiting for it; calls arrive in order.
        attempt: The worker's.
    """

    def __init__(self, call: Callable[..., Any], post: Callable[..., Any], attempt: int) -> None:
        self._call = call
        self._post = post
        self._attempt = attempt
        self._looked = 0.0
        self._stopped = False

    def reporting(self, *, measures: bool, higher_is_better: bool) -> Reporting:
        """Return who hears of the training: the command."""
        return Reporting(
            self,
            self._should_stop,
            on_checkpoint=lambda step, losses: self._send("checkpoint", (step, dict(losses))),
            measure=Measure(self._measure, higher_is_better) if measures else None,
            on_point=lambda point: self._send("point", dict(point)),
        )

    def end(self, outcome: Any) -> None:
        """Tell what came of the training: what was trained, or an exception; waits until it is known."""
        self._call("send", self._attempt, "over", outcome)

    @contextmanager
    def task(self, description: str, total: float | None) -> Iterator[_Bar]:
        """Open a bar at the command."""
        self._send("task", (description, total))
        try:
            yield _Bar(lambda steps: self._send("advance", steps))
        finally:
            self._send("task_over", None)

    def event(self, message: str, *, level: Level = "info", data: Mapping[str, Any] | None = None) -> None:
        """Tell the command one thing."""
        self._send("event", (message, level, None if data is None else dict(data)))

    def _send(self, kind: Kind, content: Any) -> None:
        self._post("send", self._attempt, kind, content)

    def _should_stop(self) -> bool:
        if not self._stopped and time.monotonic() - self._looked > _POLL_S:
            self._stopped = self._call("stopped", self._attempt)
            self._looked = time.monotonic()
        return self._stopped

    def _measure(self, folder: Path) -> Mapping[str, float]:
        self._send("measure", str(folder))
        while not (found := self._call("answered")):
            time.sleep(_POLL_S)
        if isinstance(found[0], TuneryError):
            raise found[0]
        return dict(found[0])


class _Bar:
    def __init__(self, move: Callable[[float], None]) -> None:
        self._move = move

    def advance(self, steps: float = 1) -> None:
        self._move(steps)
