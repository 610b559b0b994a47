"""Progress on stderr: never the answer, never in the way, never longer-winded than it must be."""

from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from tunery.cli.progress import LINE_INTERVAL_S, Bars, Lines, Stderr


class Seconds:
    """A clock that moves when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_lines_tell_how_far_a_long_task_is_and_how_long_it_will_take() -> None:
    out, clock = io.StringIO(), Seconds()
    lines = Lines(out, monotonic=clock)
    with lines.task("training", 100) as task:
        for _ in range(30):
            clock.now += 1.0
            task.advance()
    written = out.getvalue().splitlines()
    assert written[0].startswith("training ")
    # A second a step, so what is left takes as many seconds as there are steps left.
    assert written[1:] == [
        "training: 10.0 % (10 of 100), 1 min 30 s left",
        "training: 20.0 % (20 of 100), 1 min 20 s left",
        "training: 30.0 % (30 of 100), 1 min 10 s left",
        "training: done in 30 s",
    ]


def test_a_short_task_is_reported_once() -> None:
    out, clock = io.StringIO(), Seconds()
    with Lines(out, monotonic=clock).task("reading", 3) as task:
        task.advance(3)
    assert len(out.getvalue().splitlines()) == 1


def test_of_training_steps_one_now_and_then_is_reported_and_every_validation() -> None:
    out, clock = io.StringIO(), Seconds()
    lines = Lines(out, monotonic=clock)
    for step in range(1, 41):
        clock.now += LINE_INTERVAL_S / 10
        lines.event(f"Step {step}", data={"step": step, "train_loss": 1.0})
        if step == 25:
            lines.event("Step 25: validation", data={"step": step, "validation_loss": 1.0})
    assert out.getvalue().splitlines() == ["Step 1", "Step 11", "Step 21", "Step 25: validation", "Step 31"]


def test_warnings_say_that_they_are() -> None:
    out = io.StringIO()
    Lines(out).event("the split lacks a class", level="warn")
    assert out.getvalue() == "warning: the split lacks a class\n"


def test_a_stream_without_unicode_gets_dots() -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    with Lines(out).task("reading", None):
        pass
    assert raw.getvalue() == b"reading ...\n"


def drawn(work: object) -> str:
    """Return what bars draw on a terminal, as text."""
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=120, color_system=None)
    work(Bars(console))  # type: ignore[operator]  # a function of the bars
    return out.getvalue()


def test_bars_show_amount_and_time_left() -> None:
    def work(bars: Bars) -> None:
        with bars.task("training", 8) as outer, bars.task("inner [part]", None) as inner:
            outer.advance(2)
            inner.advance()
            bars.event("Step 2", data={"step": 2, "train_loss": 1.25})
            bars.event("half way", level="warn")
            time.sleep(0.5)  # it draws five times a second, from a thread of its own

    written = drawn(work)
    assert "2 of 8" in written
    assert "inner [part]" in written
    assert "loss 1.250" in written
    assert "Step 2" not in written
    assert "warning: half way" in written
    assert "left" in written or "so far" in written


def test_bars_are_gone_when_the_work_is_done_and_can_be_drawn_again() -> None:
    def work(bars: Bars) -> None:
        for _ in range(2):
            with pytest.raises(ZeroDivisionError), bars.task("training", 1):
                raise ZeroDivisionError
        bars.event("after")

    assert drawn(work).splitlines()[-1].endswith("after")


class Broken(io.StringIO):
    """A pipe whose reader has gone."""

    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_work_goes_on_when_nobody_reads_its_progress() -> None:
    lines = Lines(Broken())
    with lines.task("training", 1) as task:
        task.advance()
        lines.event("still here")


def test_bars_outlive_their_terminal() -> None:
    bars = Bars(Console(file=Stderr(Broken()), force_terminal=True))  # type: ignore[arg-type]  # a stream as far as rich goes
    with bars.task("training", 1) as task:
        task.advance()
        bars.event("still here")
