"""What workers report reaches the command; what earlier ones still send does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tunery.core.errors import ConfigError, ResourceError
from tunery.core.progress import Silent
from tunery.train.on_ray import _Listener
from tunery.train.relay import Line, Message, Relay
from tunery.train.reporting import Measure, Reporting


def line_to(relay: Relay, attempt: int) -> Line:
    def call(name: str, *values: Any) -> Any:
        return getattr(relay, name)(*values)

    return Line(call, call, attempt)


def test_a_worker_of_an_earlier_attempt_is_left_out_and_stops() -> None:
    relay = Relay(b"")
    first, second = relay.begin([]), relay.begin([])
    assert first is not None
    assert second is not None
    old, new = line_to(relay, first), line_to(relay, second)
    old.event("late")
    new.event("now")
    assert [m.content[0] for m in relay.take() if m.kind == "event"] == ["now"]
    assert old.reporting(measures=False, higher_is_better=True).should_stop()
    assert not new.reporting(measures=False, higher_is_better=True).should_stop()
    old.end(ConfigError("late"))
    assert not relay.is_over()


def test_after_an_outcome_nothing_begins_again() -> None:
    relay = Relay(b"")
    attempt = relay.begin([])
    assert attempt is not None
    line = line_to(relay, attempt)
    line.end(ConfigError("no layer fits"))
    line.event("more")
    assert [m.kind for m in relay.take()] == ["began", "over"]
    assert relay.begin([]) is None


def test_a_stop_before_workers_have_begun_ends_the_training() -> None:
    relay = Relay(b"")
    relay.stop()
    assert relay.begin([]) is None
    (over,) = relay.take()
    assert isinstance(over.content, KeyboardInterrupt)


def test_answers_are_judged_by_the_command_and_its_error_is_the_workers(tmp_path: Path) -> None:
    def judge(folder: Path) -> dict[str, float]:
        if folder != tmp_path:
            raise ConfigError("another folder")
        return {"accuracy": 0.5}

    relay = Relay(b"")
    attempt = relay.begin([]) or 0
    reporting = Reporting(Silent(), measure=Measure(judge, higher_is_better=True))
    listener = _Listener(reporting, 2, answer=relay.answer)

    def call(name: str, *values: Any) -> Any:
        if name == "answered":
            for message in relay.take():
                listener.take(message)
        return getattr(relay, name)(*values)

    measure = Line(call, call, attempt).reporting(measures=True, higher_is_better=True).measure
    assert measure is not None
    assert measure.run(tmp_path) == {"accuracy": 0.5}
    with pytest.raises(ConfigError, match="another folder"):
        measure.run(tmp_path / "other")


def test_workers_that_are_lost_without_a_checkpoint_between_are_given_up() -> None:
    listener = _Listener(Reporting(Silent()), 2, answer=lambda value: None)
    for _ in range(3):
        listener.take(Message("lost", "killed by signal 9"))
    listener.take(Message("checkpoint", (4, {})))
    for i in range(4):
        assert not listener.given_up, i
        listener.take(Message("lost", "killed by signal 9"))
    assert listener.given_up
    with pytest.raises(ResourceError, match="lost 4 times without a checkpoint between; at last: killed by"):
        listener.trained()


def test_what_is_raised_by_whoever_is_reported_to_ends_the_training() -> None:
    def full(step: int, losses: Any) -> None:
        raise OSError("no space left")

    listener = _Listener(Reporting(Silent(), on_checkpoint=full), 2, answer=lambda value: None)
    listener.take(Message("checkpoint", (4, {})))
    assert listener.should_stop()
    with pytest.raises(OSError, match="no space left"):
        listener.trained()
