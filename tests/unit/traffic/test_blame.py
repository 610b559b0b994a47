"""What each kind of failure means for the engine, for a second try, and for who else may answer."""

from __future__ import annotations

import pytest

from tunery.core.errors import (
    CircuitOpenError,
    ConfigError,
    DamagedError,
    LimitError,
    NotFoundError,
    OverdueError,
    OverloadError,
    QuotaError,
    ResourceError,
    SilentEngineError,
    TooLargeNowError,
    UnavailableError,
    UpstreamModelNotFoundError,
    UpstreamRefusedError,
    UpstreamRejectedError,
    UpstreamThrottledError,
)
from tunery.traffic.blame import another_may_answer, blames_engine, is_worth_a_retry


@pytest.mark.parametrize(
    ("error", "engine", "again", "another"),
    [
        (RuntimeError("x"), True, True, True),
        (ResourceError("x"), True, True, True),
        (SilentEngineError("x"), True, False, True),
        (OverdueError("x"), False, False, False),
        (ConfigError("x"), False, False, False),
        (NotFoundError("x"), False, False, False),
        (LimitError("x"), False, False, False),
        (QuotaError("x"), False, False, False),
        (OverloadError("x"), False, False, False),
        (UnavailableError("x"), False, False, False),
        (CircuitOpenError("x"), False, False, True),
        (DamagedError("x"), False, False, True),
        (TooLargeNowError("x"), False, False, True),
        # An endpoint's own word: it is not broken, asking again changes nothing, and it speaks for itself.
        (UpstreamRejectedError("x"), False, False, False),
        (UpstreamModelNotFoundError("x"), False, False, True),
        (UpstreamRefusedError("x"), False, False, True),
        (UpstreamThrottledError("x"), False, False, True),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_failure_means(error: Exception, engine: bool, again: bool, another: bool) -> None:
    assert (blames_engine(error), is_worth_a_retry(error), another_may_answer(error)) == (
        engine,
        again,
        another,
    )
