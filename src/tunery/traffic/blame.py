"""What a failure tells: of the engine, of whether another may answer, of whether it is worth a second try."""

from __future__ import annotations

import asyncio

from tunery.core.errors import (
    CircuitOpenError,
    DamagedError,
    LimitError,
    OverdueError,
    OverloadError,
    ResourceError,
    SilentEngineError,
    TooLargeNowError,
    TuneryError,
    UnavailableError,
    UpstreamModelNotFoundError,
    UpstreamRefusedError,
    UpstreamThrottledError,
)

_THERE = (UpstreamModelNotFoundError, UpstreamRefusedError, UpstreamThrottledError)
"""What an endpoint behind says at once and of itself: true as it stands, where a breaker would hide it."""
_NOT_THE_ENGINE = (
    LimitError,
    UnavailableError,
    OverloadError,
    TooLargeNowError,
    CircuitOpenError,
    *_THERE,
)


def blames_engine(error: BaseException | None) -> bool:
    """Return whether a failure counts against the engine: it broke, stopped, or did not answer in time."""
    if error is None or isinstance(error, asyncio.CancelledError | GeneratorExit):
        return False
    if isinstance(error, OverdueError):  # as short a time as its client likes, or as long an answer
        return isinstance(error, SilentEngineError)
    if isinstance(error, TuneryError):
        return isinstance(error, ResourceError) and not isinstance(error, _NOT_THE_ENGINE)
    return isinstance(error, Exception)


def is_worth_a_retry(error: BaseException) -> bool:
    """Return whether the same engine may answer the same request a moment later."""
    return blames_engine(error) and not isinstance(error, OverdueError)


def another_may_answer(error: BaseException) -> bool:
    """Return whether another version or engine may answer what this one did not.

    A request that is wrong is wrong everywhere; one that was refused because there are too many is not to
    make more of them, unless it is an endpoint behind that has too many.
    """
    elsewhere = (CircuitOpenError, DamagedError, TooLargeNowError, *_THERE)
    return blames_engine(error) or isinstance(error, elsewhere)
