"""Progress on stderr: bars with the time left on a terminal, lines anywhere else; and how Ctrl-C ends it."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from tunery.cli.output import can_write
from tunery.core.figures import duration, percent

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as RichProgress

    from tunery.core.progress import Level, Progress, ProgressBar

LINE_INTERVAL_S = 10.0
"""Pause between two lines about the same task where there are no bars [s]."""
WORTH_TELLING_S = 2.0
"""A task that took longer says so when it is done [s]."""
_PREFIX = {"info": "", "warn": "warning: ", "error": "error: "}
_STYLE = {"info": "", "warn": "yellow", "error": "red"}


def terminal_progress() -> Progress:
    """Return bars where stderr is a terminal, lines where it is a file or a pipe."""
    return Bars() if sys.stderr.isatty() else Lines()


class Stderr:
    """Writes to stderr until nobody reads it, then to nowhere: the work is worth more than its bars."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._open = True

    def write(self, text: str) -> int:
        """Write, or do nothing once a write has failed."""
        return self._attempt(lambda: self._stream.write(text)) or 0

    def flush(self) -> None:
        """Flush, or do nothing once a write has failed."""
        self._attempt(self._stream.flush)

    def isatty(self) -> bool:
        """Tell whether a terminal is behind it."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """Return the descriptor behind it."""
        return self._stream.fileno()

    @property
    def encoding(self) -> str:
        """What it can write."""
        return getattr(self._stream, "encoding", None) or "ascii"

    def _attempt(self, action: Callable[[], int | None]) -> int | None:
        if not self._open:
            return None
        try:
            return action()
        except OSError:
            self._open = False
            return None


class Lines:
    """Tells tasks and events as lines, each task at most once every ten seconds."""

    def __init__(
        self, stream: TextIO | None = None, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = Stderr(stream or sys.stderr)
        self._monotonic = monotonic
        self._told_step_at: float | None = None

    @contextmanager
    def task(self, description: str, total: float | None) -> Iterator[ProgressBar]:
        """Say that a task began, how far it is now and then, and how long it took."""
        started = self._monotonic()
        self._write(f"{description} …" if can_write("…", self._stream) else f"{description} ...")
        yield _LineTask(description, total, self._write, self._monotonic)
        took = self._monotonic() - started
        if took >= WORTH_TELLING_S:
            self._write(f"{description}: done in {duration(took)}")

    def event(self, message: str, *, level: Level = "info", data: Mapping[str, Any] | None = None) -> None:
        """Write one line; of training steps those with a validation loss, and one now and then."""
        if _is_plain_step(data or {}):
            now = self._monotonic()
            if self._told_step_at is not None and now - self._told_step_at < LINE_INTERVAL_S:
                return
            self._told_step_at = now
        self._write(f"{_PREFIX[level]}{message}")

    def _write(self, line: str) -> None:
        self._stream.write(f"{line}\n")
        self._stream.flush()


@dataclass
class _LineTask:
    description: str
    total: float | None
    write: Callable[[str], None]
    monotonic: Callable[[], float]
    done: float = 0.0

    def __post_init__(self) -> None:
        self.started = self.written_at = self.monotonic()

    def advance(self, steps: float = 1) -> None:
        """Move forward, and say so when it is time to."""
        self.done += steps
        now = self.monotonic()
        if now - self.written_at < LINE_INTERVAL_S:
            return
        self.written_at = now
        if not self.total:
            self.write(f"{self.description}: {self.done:,.0f}")
            return
        share = min(1.0, self.done / self.total)
        left = (now - self.started) * (1 - share) / share if share else float("nan")
        amount = f"{self.done:,.0f} of {self.total:,.0f}"
        self.write(f"{self.description}: {percent(share)} ({amount}), {duration(left)} left")


class Bars:
    """Draws a bar for each open task, events above; implements :class:`tunery.core.progress.Progress`."""

    def __init__(self, console: Console | None = None) -> None:
        self._given = console
        self._bars: RichProgress | None = None
        self._open = 0
        self._newest: Any = None
        self._lock = threading.RLock()

    @contextmanager
    def task(self, description: str, total: float | None) -> Iterator[ProgressBar]:
        """Draw a bar for the length of the block."""
        from rich.markup import escape

        started = time.monotonic()
        bars = self._begin()
        bar = self._newest = bars.add_task(escape(description), total=total, note="")
        try:
            yield _Bar(bars, bar)
        finally:
            self._end(bars, bar)
        took = time.monotonic() - started
        if took >= WORTH_TELLING_S:
            self.event(f"{description}: done in {duration(took)}")

    def event(self, message: str, *, level: Level = "info", data: Mapping[str, Any] | None = None) -> None:
        """Write one line above the bars; a training step shows in its bar instead."""
        from rich.text import Text

        with self._lock:
            bars = self._bars or self._new_bars()
            if data and _is_plain_step(data) and self._open:
                bars.update(self._newest, note=f"loss {data['train_loss']:.3f}")
                return
            bars.console.print(Text(f"{_PREFIX[level]}{message}", style=_STYLE[level]), soft_wrap=True)

    def _begin(self) -> RichProgress:
        with self._lock:
            bars = self._bars or self._new_bars()
            if not self._open:
                bars.start()
            self._open += 1
            return bars

    def _end(self, bars: RichProgress, bar: Any) -> None:
        with self._lock:
            bars.remove_task(bar)
            self._open -= 1
            if not self._open:
                bars.stop()
                self._bars = None

    def _new_bars(self) -> RichProgress:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn
        from rich.progress import Task as RichTask
        from rich.text import Text

        class Amount(ProgressColumn):
            def render(self, task: RichTask) -> Text:
                return Text("" if task.total is None else f"{task.completed:,.0f} of {task.total:,.0f}")

        class TimeLeft(ProgressColumn):
            max_refresh = 0.5

            def render(self, task: RichTask) -> Text:
                if task.total is None or task.time_remaining is None:
                    return Text(f"{_seconds(task.elapsed or 0)} so far", style="dim")
                return Text(f"{_seconds(task.time_remaining)} left", style="cyan")

        console = self._given or Console(file=Stderr(sys.stderr), force_terminal=True)  # type: ignore[arg-type]  # all of a stream that rich uses
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            Amount(),
            TimeLeft(),
            TextColumn("{task.fields[note]}", style="dim"),
            console=console,
            transient=True,
            refresh_per_second=5,
            # Steps of a large model take tens of seconds; the time left must outlive them.
            speed_estimate_period=300,
            redirect_stdout=False,
        )
        return self._bars


@dataclass
class _Bar:
    bars: RichProgress
    bar: Any

    def advance(self, steps: float = 1) -> None:
        """Move the bar forward."""
        self.bars.advance(self.bar, steps)


def _is_plain_step(data: Mapping[str, Any]) -> bool:
    """Tell whether an event is one of hundreds: a step with its training loss and nothing else to report."""
    return "train_loss" in data and "validation_loss" not in data


def _seconds(seconds: float) -> str:
    """Return a time in whole seconds, so that a bar does not flicker."""
    return f"{seconds:.0f} s" if seconds < 60 else duration(seconds)
