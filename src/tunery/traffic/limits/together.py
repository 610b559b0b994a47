"""What threads ask for at the same time, done together by one of them (group commit)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar, cast

A = TypeVar("A")
T = TypeVar("T")


class _Errand(Generic[A, T]):
    __slots__ = ("answer", "asked", "error", "is_done", "signal")

    def __init__(self, asked: A) -> None:
        self.asked = asked
        self.answer: T | None = None
        self.error: BaseException | None = None
        self.is_done = False
        self.signal = threading.Event()
        """It is done, or its thread is to do all that waits."""


class Together(Generic[A, T]):
    """Does what is asked for in as few calls as there can be, without a thread and a pause of its own.

    Whoever asks first does it at once. What is asked for meanwhile waits and is done in one call by the
    thread that asked first of these; threads whose answer is there stand in nobody's way.

    Args:
        work: Answers all that is asked, in order; what it raises is raised for each of them.
    """

    def __init__(self, work: Callable[[Sequence[A]], Sequence[T]]) -> None:
        self._work = work
        self._guard = threading.Lock()
        self._waiting: list[_Errand[A, T]] = []
        self._is_led = False

    def ask(self, asked: A) -> T:
        """Return the answer to one thing."""
        errand = _Errand[A, T](asked)
        with self._guard:
            self._waiting.append(errand)
            leads, self._is_led = not self._is_led, True
        if not leads:
            self._wait(errand)
        if not errand.is_done:
            self._lead()
        if errand.error is not None:
            raise errand.error
        return cast(T, errand.answer)

    def _wait(self, errand: _Errand[A, T]) -> None:
        try:
            errand.signal.wait()
        except BaseException:  # Ctrl-C; nobody may wait for this thread to lead
            with self._guard:
                if errand in self._waiting:
                    self._waiting.remove(errand)
                    if errand.signal.is_set():
                        self._pass_on()
            raise

    def _lead(self) -> None:
        with self._guard:
            together, self._waiting = self._waiting, []
        try:
            answers = self._work([errand.asked for errand in together])
            for errand, answer in zip(together, answers, strict=True):
                errand.answer = answer
        except BaseException as error:
            for errand in together:
                errand.error = error
        with self._guard:
            self._pass_on()
        for errand in together:
            errand.is_done = True
            errand.signal.set()

    def _pass_on(self) -> None:
        if self._waiting:
            self._waiting[0].signal.set()
        else:
            self._is_led = False
