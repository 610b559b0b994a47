"""What every ledger must do alike: in memory, in Redis, in PostgreSQL."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.traffic.limits.conftest import Ticks

from tunery.core.errors import ConfigError, UnavailableError
from tunery.core.prices import NOTHING, Used
from tunery.traffic.limits.account import Account, Claim, Need
from tunery.traffic.limits.ledger import Ledger, Reservation
from tunery.traffic.limits.memory import MemoryLedger
from tunery.traffic.limits.redis import RedisLedger

KEY = Claim("key=k", {"requests_per_minute": 10, "tokens_per_minute": 1_000, "tokens_per_day": 5_000})
PROJECT = Claim("project=p", {"parallel_requests": 2, "usd_per_month": 1.0})


def a_call(id: str, tokens: int = 100, usd: float = 0.0, *claims: Claim) -> Reservation:
    return Reservation(id, claims or (KEY, PROJECT), Need(tokens, usd), 30.0)


def state(ledger: Ledger, claim: Claim) -> Account:
    return ledger.look([claim])[claim.account]


def test_a_reservation_is_settled_by_what_was_used(ledger: Ledger) -> None:
    call = a_call("a", 400, 0.5)
    decision = ledger.reserve(call)
    assert not decision.obstacles
    assert decision.accounts["key=k"].tokens == 400
    assert state(ledger, PROJECT).held_usd == 0.5
    ledger.settle([(call, Used(10, 20, 0.1))])
    key, project = state(ledger, KEY), state(ledger, PROJECT)
    assert (key.tokens, key.day_tokens, key.held_tokens, key.parallel) == (30, 30, 0, 0)
    assert (project.month_usd, project.held_usd, project.parallel) == (0.1, 0.0, 0)


def test_all_accounts_or_none(ledger: Ledger) -> None:
    assert not ledger.reserve(a_call("a")).obstacles
    assert not ledger.reserve(a_call("b")).obstacles
    refused = ledger.reserve(a_call("c"))
    assert [(claim.account, o.limit, o.why) for claim, o in refused.obstacles] == [
        ("project=p", "parallel_requests", "busy")
    ]
    assert (state(ledger, KEY).requests, state(ledger, KEY).tokens) == (2, 200)


def test_what_nobody_waits_for_leaves_a_share_of_rates_and_places_but_not_of_budgets(
    ledger: Ledger, ticks: Ticks
) -> None:
    def behind(id: str, tokens: int, claim: Claim) -> Reservation:
        return Reservation(id, (claim,), Need(tokens, 0.0, 0.5), 1e9)

    rate = Claim("key=rate", {"tokens_per_minute": 600})
    assert not ledger.reserve(behind("a", 300, rate)).obstacles
    ((_, full),) = ledger.reserve(behind("b", 10, rate)).obstacles
    assert (full.why, full.wait_s) == ("full", pytest.approx(1.0))
    assert not ledger.reserve(a_call("live", 300, 0.0, rate)).obstacles
    ticks.at += 60
    assert not ledger.reserve(behind("large", 500, rate)).obstacles  # or it would wait for ever
    places = Claim("key=places", {"parallel_requests": 3})
    assert not ledger.reserve(behind("c", 1, places)).obstacles
    assert [o.why for _, o in ledger.reserve(behind("d", 1, places)).obstacles] == ["busy"]
    assert not ledger.reserve(a_call("live-2", 1, 0.0, places)).obstacles
    only = Claim("key=only", {"parallel_requests": 1, "tokens_per_day": 10})
    assert not ledger.reserve(behind("e", 10, only)).obstacles


def test_a_call_is_booked_once_however_often_it_is_said(ledger: Ledger) -> None:
    call = a_call("a")
    ledger.reserve(call)
    ledger.reserve(call) if ledger.shared else None  # the first answer did not arrive
    assert state(ledger, KEY).parallel == 1
    ledger.settle([(call, Used(50))])
    if ledger.shared:
        ledger.settle([(call, Used(50)), (call, Used(50))])
    assert state(ledger, KEY).day_tokens == 50


def test_a_call_that_another_count_let_in_is_booked(ledger: Ledger) -> None:
    ledger.settle([(a_call("elsewhere"), Used(7, 3, 0.25))])
    assert state(ledger, KEY).day_tokens == 10
    assert state(ledger, PROJECT).month_usd == 0.25
    assert state(ledger, KEY).parallel == 0


def test_a_restart_keeps_what_was_used_and_gives_back_what_was_in_flight(
    open_ledger: Callable[[], Ledger], ticks: Ticks
) -> None:
    first = open_ledger()
    done, cut = a_call("a", 300), a_call("b", 500)
    first.reserve(done)
    first.settle([(done, Used(200))])
    first.reserve(cut)
    first.upkeep([cut])
    second = open_ledger()
    if second.shared:
        assert state(second, KEY).held_tokens == 500  # it may live; its lease says so
        ticks.at += 29
        second.upkeep([])
        assert state(second, KEY).held_tokens == 500
        ticks.at += 1.5
        open_ledger().upkeep([])  # one of its own looks at once
    second.reserve(a_call("c", 1))
    key = state(second, KEY)
    assert (key.day_tokens, key.held_tokens, key.parallel) == (200, 1, 1)


def test_a_renewed_lease_does_not_lapse_and_a_late_end_is_booked_once(
    kind: str, ledger: Ledger, open_ledger: Callable[[], Ledger], ticks: Ticks
) -> None:
    if not ledger.shared:
        pytest.skip("its reservations end with the process")
    call = a_call("a", 500)
    ledger.reserve(call)
    for _ in range(3):
        ticks.at += 20
        open_ledger().upkeep([call])  # a ledger of its own renews at once
    assert state(ledger, KEY).held_tokens == 500
    ticks.at += 31
    open_ledger().upkeep([])
    assert state(ledger, KEY).held_tokens == 0
    open_ledger().upkeep([call])  # its gateway was only slow, and comes back
    assert state(ledger, KEY).held_tokens == 0
    for _ in range(2):
        ledger.settle([(call, Used(60))])
    key = state(ledger, KEY)
    assert (key.day_tokens, key.parallel, key.held_tokens) == (60, 0, 0)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["reserve", "reserve", "settle", "pass"]),
        st.integers(0, 3),
        st.integers(1, 700),
        st.floats(0, 1, width=16),
        st.sampled_from([0.0, 0.5]),
    ),
    max_size=25,
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS)
def test_all_ledgers_decide_and_count_alike(
    kind: str, ledger: Ledger, ticks: Ticks, steps: list[tuple[str, int, int, float, float]]
) -> None:
    """The one in memory is the reference: it is the arithmetic itself, which has tests of its own."""
    if kind == "memory":
        pytest.skip("it is the reference")
    mark = secrets.token_hex(4)
    claims = (
        Claim(f"key={mark}", {"requests_per_minute": 6, "tokens_per_minute": 900, "tokens_per_day": 3_000}),
        Claim(f"project={mark}", {"parallel_requests": 3, "usd_per_month": 1.5, "tokens_per_month": 9_000}),
    )
    reference, numbers = MemoryLedger(ticks), itertools.count()
    running: list[Reservation] = []
    for what, which, tokens, share, spare in steps:
        if what == "pass":
            ticks.at += tokens / 10 + (86_400 if which == 3 else 0)
            running = [] if which == 3 else running  # else they would lapse in one and not in the other
            if which == 3:
                return
        elif what == "reserve":
            call = Reservation(f"{mark}-{next(numbers)}", claims, Need(tokens, share, spare), 1e9)
            decided = [led.reserve(call).obstacles for led in (ledger, reference)]
            assert [(c, o.limit, o.why) for c, o in decided[0]] == [
                (c, o.limit, o.why) for c, o in decided[1]
            ]
            assert [o.wait_s for _, o in decided[0]] == pytest.approx([o.wait_s for _, o in decided[1]])
            running += [] if decided[0] else [call]
        elif running:
            call = running.pop(which % len(running))
            used = Used(int(call.need.tokens * share), 0, call.need.usd * share)
            for led in (ledger, reference):
                led.settle([(call, used)])
        for claim in claims:
            stands = [led.look([claim]).get(claim.account) for led in (ledger, reference)]
            if stands[0] is not None:
                assert vars_of(stands[0]) == pytest.approx(vars_of(stands[1]), abs=1e-6)


def vars_of(account: Account | None) -> list[float]:
    assert account is not None
    return [getattr(account, name) for name in Account.__slots__]


@pytest.mark.parametrize("moment", ["2026-12-31T23:59:59", "2028-02-29T12:00:00", "2100-03-01T00:00:00"])
def test_months_are_those_of_the_calendar_everywhere(ledger: Ledger, ticks: Ticks, moment: str) -> None:
    from datetime import UTC, datetime

    at = datetime.fromisoformat(moment).replace(tzinfo=UTC)
    ticks.at = at.timestamp()
    ledger.settle([(a_call("a"), Used(5))])
    assert state(ledger, KEY).month == at.year * 12 + at.month - 1
    assert state(ledger, KEY).day == int(ticks.at // 86_400)


def test_a_redis_that_is_away_is_an_error_without_its_password() -> None:
    ledger = RedisLedger("redis://me:hunter2@127.0.0.1:1/0")
    with pytest.raises(UnavailableError, match=r"redis://127\.0\.0\.1:1 does not answer") as away:
        ledger.settle([(a_call("a"), NOTHING)])
    assert "hunter2" not in str(away.value)
    with pytest.raises(ConfigError) as wrong:
        RedisLedger("http://me:hunter2@here")
    assert "hunter2" not in str(wrong.value)
    ledger.close()
