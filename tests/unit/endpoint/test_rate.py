"""Rates of one endpoint: a limit of tokens holds in every window, and is used up to it."""

from __future__ import annotations

import asyncio
import random
import time

import pytest

from tests.doubles.rolling import RollingLimits, Taken
from tunery.endpoint.connection import Rate


async def sent(rate: Rate, limits: RollingLimits, requests: list[tuple[int, int, float]]) -> None:
    """Send requests of a ceiling, a use and a length each, ten at once."""
    slots = asyncio.Semaphore(10)

    async def one(ceiling: int, used: int, seconds: float) -> None:
        async with slots:
            share = await rate.take(ceiling, asyncio.sleep, lambda: False)
            assert share is not None
            taken = limits.take(ceiling)
            if isinstance(taken, Taken):
                await asyncio.sleep(seconds)
                limits.settle(taken, used)
            rate.settle(share, used)

    await asyncio.gather(*(one(*request) for request in requests))


@pytest.mark.parametrize("seed", range(3))
def test_no_window_sees_more_tokens_than_the_limit(seed: int) -> None:
    draw = random.Random(seed)
    ceilings = [draw.randint(20, 300) for _ in range(40)]
    requests = [(each, draw.randint(1, each), draw.uniform(0, 0.1)) for each in ceilings]
    # A source's window is a little shorter here: sends reach it some milliseconds after their place.
    limits = RollingLimits(tokens=2000, window_s=0.38)
    asyncio.run(sent(Rate(None, 2000, minute_s=0.4), limits, requests))
    assert limits.refused == 0


def test_limit_is_used_although_ceilings_are_far_above_what_is_used() -> None:
    limits = RollingLimits()
    began = time.monotonic()
    # 2,500 tokens at 2,500 a second, with ceilings of 50,000 together.
    asyncio.run(sent(Rate(None, 150_000), limits, [(500, 25, 0.02)] * 100))
    assert time.monotonic() - began < 5.0


def test_request_longer_than_its_minute_is_taken_out_of_it_once() -> None:
    async def long() -> None:
        rate = Rate(None, 100, minute_s=0.1)
        share = await rate.take(100, asyncio.sleep, lambda: False)
        assert share is not None
        await asyncio.sleep(0.15)
        another = await rate.take(100, asyncio.sleep, lambda: False)
        rate.settle(share, 1)
        began = time.monotonic()
        assert another is not None
        assert await rate.take(100, asyncio.sleep, lambda: False) is not None
        assert time.monotonic() - began > 0.05  # the other still counts whole

    asyncio.run(long())


def test_nothing_is_sent_once_the_call_is_closed() -> None:
    async def closing() -> None:
        rate = Rate(1, None)
        assert await rate.take(1, asyncio.sleep, lambda: False) is not None
        assert await rate.take(1, asyncio.sleep, lambda: True) is None

    asyncio.run(closing())
