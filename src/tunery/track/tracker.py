"""Hands what a run has to tell to every sink of the recipe, and lets none of them stop or slow the run."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from tunery.core.config import Settings
from tunery.core.figures import counted
from tunery.core.progress import Progress
from tunery.track.config import TrackConfig, sink_kinds
from tunery.track.sinks.sink import Sink, SinkKind, Status, TrackedRun

_WAITS_S = (0.0, 1.0, 4.0, 15.0)
"""Before each attempt at one entry [s]; an entry that none of them brought is left out and counted."""
LAST_S = 10.0
"""How long the end of a run waits for its sinks [s]."""


class Tracker(Protocol):
    """Where a run tells what it does; every call returns at once."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Tell numbers of a training step; of step 0 those that no step has."""
        ...

    def tag(self, tags: Mapping[str, str]) -> None:
        """Tell words that became known."""
        ...

    def file(self, path: Path) -> None:
        """Tell of a file or folder to keep with the run."""
        ...

    def close(self, status: Status) -> None:
        """End it; waits some seconds for what is on its way."""
        ...


class Untracked:
    """Tells nobody."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Do nothing."""

    def tag(self, tags: Mapping[str, str]) -> None:
        """Do nothing."""

    def file(self, path: Path) -> None:
        """Do nothing."""

    def close(self, status: Status) -> None:
        """Do nothing."""


def open_tracker(
    config: TrackConfig, run: Callable[[], TrackedRun], progress: Progress, *, last_s: float = LAST_S
) -> Tracker:
    """Return a tracker for the sinks that ``config`` names.

    Args:
        config: The recipe's section.
        run: Says what is tracked; not called where no sink is named.
        progress: Told once of each sink that fails, and at the end of what it did not take.
        last_s: How long :meth:`Tracker.close` waits for its sinks [s].
    """
    named = {name: settings for name in sink_kinds() if (settings := getattr(config, name, None))}
    if not named:
        return Untracked()
    tracked, kinds = run(), sink_kinds()
    return _Fan([_Feed(kinds[n], settings, tracked) for n, settings in named.items()], progress, last_s)


class _Fan:
    def __init__(self, feeds: Sequence[_Feed], progress: Progress, last_s: float) -> None:
        self._feeds = feeds
        self._progress = progress
        self._last_s = last_s

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._put(lambda sink: sink.log(step, metrics))

    def tag(self, tags: Mapping[str, str]) -> None:
        self._put(lambda sink: sink.tag(tags))

    def file(self, path: Path) -> None:
        self._put(lambda sink: sink.file(path))

    def close(self, status: Status) -> None:
        until = time.monotonic() + self._last_s
        for feed in self._feeds:
            feed.end(lambda sink: sink.close(status))
        for feed in self._feeds:
            feed.join(until - time.monotonic())
            if feed.failure and not feed.reported:
                self._report(feed)
            if lost := feed.lost:
                what = f"{feed.kind.title} did not take {counted(lost, 'entry', 'entries')} of this run"
                self._progress.event(f"{what} ({feed.failure or 'it did not answer in time'})", level="warn")

    def _put(self, entry: _Entry) -> None:
        for feed in self._feeds:
            feed.put(entry)
            if feed.failure and not feed.reported:
                self._report(feed)

    def _report(self, feed: _Feed) -> None:
        feed.reported = True
        self._progress.event(
            f"{feed.kind.title} cannot be written to ({feed.failure}); the run goes on without it",
            level="warn",
        )


_Entry = Callable[[Sink], None]


class _Feed:
    """One sink's thread and what waits for it."""

    def __init__(self, kind: SinkKind, settings: Settings, run: TrackedRun) -> None:
        self.kind = kind
        self.failure: str | None = None
        """Why an attempt failed, the last one's reason."""
        self.reported = False
        self._open: Callable[[], Sink] = lambda: kind.open(settings, run)
        self._sink: Sink | None = None
        self._waiting: queue.SimpleQueue[_Entry | None] = queue.SimpleQueue()
        self._ending = threading.Event()
        self._put = self._taken = 0
        self._thread = threading.Thread(target=self._run, name=f"track {kind.title}", daemon=True)
        self._thread.start()

    @property
    def lost(self) -> int:
        """Entries that the sink has not taken [count]."""
        return self._put - self._taken

    def put(self, entry: _Entry) -> None:
        self._put += 1
        self._waiting.put(entry)

    def end(self, entry: _Entry) -> None:
        """Put the last entry; from here on nothing is waited for before it is tried again."""
        self.put(entry)
        self._waiting.put(None)
        self._ending.set()

    def join(self, seconds: float) -> None:
        self._thread.join(max(0.0, seconds))

    def _run(self) -> None:
        while (entry := self._waiting.get()) is not None:
            for wait in _WAITS_S:
                self._ending.wait(wait)
                if self._attempt(entry):
                    self._taken += 1
                    break

    def _attempt(self, entry: _Entry) -> bool:
        try:
            if self._sink is None:
                self._sink = self._open()
            entry(self._sink)
        except ImportError as error:
            self.failure = f'{error}: pip install "tunery[{self.kind.extra}]"'
        except Exception as error:
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            self.failure = f"{type(error).__name__}: {first:.200}"
        else:
            return True
        return False
