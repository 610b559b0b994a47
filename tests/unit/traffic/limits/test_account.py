"""The arithmetic of one count: what fits, when it will, what is given back; against plain definitions."""

from __future__ import annotations

from collections import deque
from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunery.core.limits import Usage
from tunery.core.prices import Used
from tunery.traffic.limits.account import Account, Claim, Need, Periods, reserve

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC).timestamp()


def claim(**bounds: float) -> Claim:
    return Claim("key=k", bounds)


def ask(account: Account, bounds: Claim, tokens: int, now: float, usd: float = 0.0) -> float | None:
    """Reserve; return None where it was let in, else the longest wait."""
    found = reserve([(account, bounds)], Need(tokens, usd), now)
    return max(o.wait_s for _, o in found) if found else None


@given(
    st.integers(1, 10_000_000),
    st.lists(st.tuples(st.floats(0, 90), st.floats(0.001, 1)), min_size=1, max_size=30),
)
def test_who_waits_as_long_as_is_told_is_let_in_and_nobody_sooner(
    limit: int, calls: list[tuple[float, float]]
) -> None:
    account, bounds, now = Account(), claim(tokens_per_minute=limit), NOON
    for pause, share in calls:
        now += pause
        tokens = max(1, int(share * limit))
        wait_s = ask(account, bounds, tokens, now)
        if wait_s is None:
            continue
        assert 0 < wait_s <= 60
        if wait_s * limit / 60 > 1:
            assert ask(account, bounds, tokens, now + wait_s - 60 / limit) is not None
        now += wait_s
        assert ask(account, bounds, tokens, now) is None


@given(st.integers(1, 50), st.lists(st.floats(0, 5), min_size=1, max_size=200))
def test_no_stretch_of_time_holds_more_than_a_burst_and_what_was_refilled(
    limit: int, pauses: list[float]
) -> None:
    account, bounds, now = Account(), claim(requests_per_minute=limit), NOON
    admitted: deque[float] = deque()
    for pause in pauses:
        now += pause
        if ask(account, bounds, 0, now) is None:
            admitted.append(now)
    times = list(admitted)
    for first in range(len(times)):
        for last in range(first, len(times)):
            assert last - first + 1 <= limit + limit / 60 * (times[last] - times[first]) + 0.02


@given(
    st.lists(
        st.tuples(st.floats(0, 30), st.integers(1, 400), st.floats(0, 1), st.floats(0, 120)),
        min_size=1,
        max_size=40,
    )
)
def test_what_is_given_back_never_lets_more_in_than_was_really_used(
    calls: list[tuple[float, int, float, float]],
) -> None:
    """A bucket that knew each call's use from the start never owes more than ours, whatever ends when."""
    limit = 1_000
    account, truth, bounds = Account(), Account(), claim(tokens_per_minute=limit)
    events: list[tuple[float, int, str, int, int]] = []
    now = NOON
    for n, (pause, tokens, share, lasts) in enumerate(calls):
        now += pause
        events += [(now, n, "begin", tokens, int(tokens * share)), (now + lasts, n, "end", tokens, 0)]
    begun: dict[int, tuple[float, int]] = {}
    for at, n, what, tokens, used in sorted(events):
        if what == "begin":
            if ask(account, bounds, tokens, at) is None:
                begun[n] = (at, used)
                truth.advance(at, bounds.bounds)
                truth.tokens += used
        elif n in begun:
            began, really = begun[n]
            account.advance(at, bounds.bounds)
            truth.advance(at, bounds.bounds)
            account.settle(bounds.bounds, Need(tokens, 0.0), Used(really), at - began)
        assert account.tokens >= truth.tokens - 1e-6
        assert truth.tokens <= limit + 1e-6
    assert account.parallel == account.held_tokens == 0 or len(begun) > 0


def test_an_unused_reservation_comes_back_at_once() -> None:
    account, bounds = Account(), claim(tokens_per_minute=1_000, tokens_per_day=1_500)
    assert ask(account, bounds, 900, NOON) is None
    assert ask(account, bounds, 900, NOON) is not None
    account.settle(bounds.bounds, Need(900, 0.0), Used(10, 20), 0.0)
    assert account.tokens == account.day_tokens == account.month_tokens == 30
    assert ask(account, bounds, 900, NOON) is None


def test_what_another_call_owes_is_not_given_back_with_this_one() -> None:
    account, bounds = Account(), claim(tokens_per_minute=1_000)
    assert ask(account, bounds, 1_000, NOON) is None
    assert ask(account, bounds, 900, NOON + 60) is None
    account.advance(NOON + 61, bounds.bounds)
    account.settle(bounds.bounds, Need(1_000, 0.0), Used(100), 61)
    assert ask(account, bounds, 900, NOON + 61) is not None


def test_a_call_counts_in_the_day_in_which_it_ends() -> None:
    account, bounds = Account(), claim(tokens_per_day=100, tokens_per_month=150)
    late = datetime(2026, 3, 31, 23, 59, 59, tzinfo=UTC).timestamp()
    assert ask(account, bounds, 100, late) is None
    assert ask(account, bounds, 1, late) == 0.0  # in flight; nobody knows when it ends
    account.advance(late + 2, bounds.bounds)
    account.settle(bounds.bounds, Need(100, 0.0), Used(60), 2)
    assert (account.day_tokens, account.month_tokens) == (60, 60)
    assert ask(account, bounds, 41, late + 2) == pytest.approx(86_400 - 1)
    assert ask(account, bounds, 40, late + 2) is None


def test_a_clock_that_is_behind_does_not_begin_a_day_again() -> None:
    account, bounds = Account(), claim(tokens_per_day=100)
    midnight = datetime(2026, 3, 2, tzinfo=UTC).timestamp()
    account.advance(midnight + 1, bounds.bounds)
    account.settle(bounds.bounds, None, Used(90), 0)
    account.advance(midnight - 1, bounds.bounds)
    assert account.day_tokens == 90
    assert ask(account, bounds, 20, midnight - 1) is not None


def test_a_limit_that_is_changed_holds_for_what_is_owed() -> None:
    account = Account()
    for _ in range(60):
        assert ask(account, claim(requests_per_minute=60), 0, NOON) is None
    assert ask(account, claim(requests_per_minute=6), 0, NOON) == pytest.approx(10)
    assert ask(account, claim(requests_per_minute=600), 0, NOON) is None


def test_one_full_account_keeps_all_others_as_they_were() -> None:
    free, full = Account(), Account()
    claims = [Claim("a", {"requests_per_minute": 5}), Claim("b", {"requests_per_minute": 1})]
    assert not reserve([(free, claims[0]), (full, claims[1])], Need(0, 0.0), NOON)
    before = free.text()
    assert reserve([(free, claims[0]), (full, claims[1])], Need(0, 0.0), NOON)
    assert free.text() == before


def test_a_budget_in_money_counts_what_is_in_flight() -> None:
    account, bounds = Account(), claim(usd_per_month=1.0)
    assert ask(account, bounds, 10, NOON, usd=0.6) is None
    assert ask(account, bounds, 10, NOON, usd=0.6) == 0.0
    account.settle(bounds.bounds, Need(10, 0.6), Used(5, 5, 0.3), 1)
    assert ask(account, bounds, 10, NOON, usd=0.6) is None
    account.settle(bounds.bounds, Need(10, 0.6), Used(5, 5, 0.6), 1)
    until_april = datetime(2026, 4, 1, tzinfo=UTC).timestamp() - NOON
    assert ask(account, bounds, 10, NOON, usd=0.2) == pytest.approx(until_april)


def test_an_account_begins_with_what_was_used_before_it_was_bounded() -> None:
    account = Account()
    periods = Periods.at(NOON)
    account.seed(Usage(1, 10, 20, 0.5), Usage(9, 100, 200, 5.0), periods)
    assert periods.begins() == (date(2026, 3, 1), date(2026, 3, 1))
    assert ask(account, claim(tokens_per_day=30), 1, NOON) is not None
    assert ask(account, claim(usd_per_month=6.0), 1, NOON, usd=0.5) is None


@pytest.mark.parametrize("year", [1970, 1999, 2000, 2024, 2026, 2100])
def test_periods_are_those_of_the_calendar(year: int) -> None:
    for month in range(1, 13):
        first = datetime(year, month, 1, tzinfo=UTC).timestamp()
        periods = Periods.at(first)
        assert periods.begins() == (date(year, month, 1), date(year, month, 1))
        assert Periods.at(periods.ends()[1]).month == periods.month + 1
        assert periods.ends()[0] == first + 86_400


def test_an_account_reads_back_as_it_was_written() -> None:
    account = Account(at=NOON + 0.123456, tokens=1 / 3, held_usd=1e-7, month_usd=123.456)
    assert Account.read(account.text()) == account


def test_a_copy_has_every_field() -> None:
    account = Account(*range(1, 1 + len(Account.__slots__)))
    assert account.copy() == account
