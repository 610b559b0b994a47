"""A breaker opens after failures in a row, tries again with one request, and closes on a success."""

from __future__ import annotations

import asyncio

import pytest

from tunery.core.breaker import BreakerSettings, CircuitBreaker
from tunery.core.errors import (
    CircuitOpenError,
    ConfigError,
    DamagedError,
    LimitError,
    OverdueError,
    OverloadError,
    ResourceError,
    SilentEngineError,
    TooLargeNowError,
)
from tunery.traffic.blame import another_may_answer, blames_engine, is_worth_a_retry


class Clock:
    """Seconds that the test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_it_opens_after_failures_in_a_row_and_one_request_tries_again() -> None:
    clock = Clock()
    breaker = CircuitBreaker("vllm", BreakerSettings(failures=3, open_s=10), clock)
    for _ in range(2):
        breaker.fail("refused")
    breaker.succeed()
    for _ in range(3):
        breaker.admit()
        breaker.fail("refused")
    with pytest.raises(CircuitOpenError, match=r"vllm failed 3 times in a row.*refused") as refused:
        breaker.admit()
    assert refused.value.retry_after_s == 10
    clock.now = 9.5
    with pytest.raises(CircuitOpenError):
        breaker.admit()
    clock.now = 10
    breaker.admit()
    assert breaker.circuit.state == "half_open"
    with pytest.raises(CircuitOpenError):  # one at a time
        breaker.admit()
    breaker.fail("refused again")
    assert breaker.circuit == ("open", 4, "refused again")
    clock.now = 20
    breaker.admit()
    breaker.succeed()
    breaker.admit()
    breaker.admit()
    assert breaker.circuit == ("closed", 0, None)


def test_a_try_that_comes_to_no_end_does_not_keep_it_half_open_for_ever() -> None:
    clock = Clock()
    breaker = CircuitBreaker("vllm", BreakerSettings(failures=1, open_s=10), clock)
    breaker.fail("refused")
    clock.now = 10
    breaker.admit()  # its client leaves
    clock.now = 20
    breaker.admit()
    assert breaker.circuit.state == "half_open"


@pytest.mark.parametrize(
    ("error", "engine", "retry", "another"),
    [
        (ResourceError("the engine stopped"), True, True, True),
        (RuntimeError("a mistake of ours"), True, True, True),
        (SilentEngineError("not a token"), True, False, True),
        (OverdueError("too long, or its client waits for no time"), False, False, False),
        (CircuitOpenError("left alone"), False, False, True),
        (TooLargeNowError("no memory"), False, False, True),
        (DamagedError("its files are gone"), False, False, True),
        (OverloadError("too many"), False, False, False),
        (LimitError("too many"), False, False, False),
        (ConfigError("the request is wrong"), False, False, False),
        (asyncio.CancelledError(), False, False, False),
    ],
)
def test_what_a_failure_tells(error: BaseException, engine: bool, retry: bool, another: bool) -> None:
    assert (blames_engine(error), is_worth_a_retry(error), another_may_answer(error)) == (
        engine,
        retry,
        another,
    )
