"""Letting calls in and booking them: rules, prices, and what happens while the counts are away."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError

from tunery.core.errors import QuotaError, ResourceError, ThrottledError
from tunery.core.limits import DayUsage, Limits, Scope, Usage
from tunery.core.prices import Prices, Used
from tunery.store.workspace import Workspace
from tunery.traffic.limits.config import LimitSettings
from tunery.traffic.limits.meter import Hold, Meter, Refusal
from tunery.traffic.limits.open import open_ledger
from tunery.traffic.limits.project import ProjectMeter
from tunery.traffic.limits.redis import RedisLedger
from tunery.traffic.limits.refusal import Size

ANN = Scope("acme", "key-1", "ann", "bot")
NUMBER = iter(range(1_000_000))


def admit(meter: Meter, caller: Scope = ANN, tokens: int = 10) -> Hold | Refusal:
    return meter.admit(f"call-{next(NUMBER)}", caller, Size(0, tokens, 1))


def let_in(meter: Meter, caller: Scope = ANN, tokens: int = 10) -> Hold:
    hold = admit(meter, caller, tokens)
    assert isinstance(hold, Hold)
    return hold


def test_a_record_counts_before_the_settings_and_only_where_it_says_something(workspace: Workspace) -> None:
    settings = LimitSettings(key=Limits(requests_per_minute=2, parallel_requests=1))
    workspace.limits.set(Scope(key="key-1"), Limits(requests_per_minute=5))
    workspace.limits.set(Scope(key="key-2"), Limits(parallel_requests="unlimited"))
    rules = Meter(workspace, settings).rules
    bounds = {key: rules.claims(Scope("acme", key, None, "bot"))[0].bounds for key in ("key-1", "key-2", "x")}
    assert bounds == {
        "key-1": {"requests_per_minute": 5, "parallel_requests": 1},
        "key-2": {"requests_per_minute": 2},
        "x": {"requests_per_minute": 2, "parallel_requests": 1},
    }


def test_every_scope_that_covers_a_caller_bounds_it(workspace: Workspace) -> None:
    some = Limits(requests_per_minute=9)
    for scope in (
        Scope(),
        Scope(project="acme"),
        Scope(project="other"),
        Scope(key="key-1", model="bot"),
        Scope(key="key-1", model="other"),
        Scope(project="*", user="*"),
        Scope(project="acme", user="*"),
        Scope(model="*"),
    ):
        workspace.limits.set(scope, some)
    accounts = {claim.account for claim in Meter(workspace).rules.claims(ANN)}
    user = Scope(project="acme", user="ann").account
    assert accounts == {"all", "project=acme", "key=key-1 model=bot", user, "model=bot"}
    assert "ann" not in user
    nobody = {claim.account for claim in Meter(workspace).rules.claims(ANN._replace(user=None))}
    assert nobody == accounts - {user}


def test_a_scope_is_read_from_its_account_whatever_its_names_hold() -> None:
    for scope in (Scope(), ANN, Scope("a b=c", "k", None, "ft:x::y"), Scope(model="Ünï\n"), Scope(key="*")):
        assert Scope.of_account(scope._replace(user=None).account) == scope._replace(user=None)
    assert Scope(user="a model=b").text != Scope(user="a", model="b").text


def test_a_changed_limit_holds_within_seconds(workspace: Workspace) -> None:
    meter = Meter(workspace)
    meter.start()
    let_in(meter)
    workspace.limits.set(Scope(key="key-1"), Limits(requests_per_minute=0))
    deadline = time.monotonic() + 5
    while isinstance(admit(meter), Hold):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    meter.close()


def test_what_was_used_before_counts_in_a_budget_that_is_set_now(workspace: Workspace) -> None:
    today = workspace.clock.now().date()
    with workspace.database.transaction() as transaction:
        workspace.usage.add(transaction, [DayUsage(today, "acme", "key-1", "bot", Usage(3, 400, 500, 0.5))])
    workspace.limits.set(Scope(key="key-1"), Limits(tokens_per_month=1_000))
    meter = Meter(workspace, LimitSettings(), open_ledger(workspace))
    refused = admit(meter, tokens=200)
    assert isinstance(refused, Refusal)
    assert isinstance(refused.error, QuotaError)
    assert refused.error.message.startswith("this API key may use 1,000 tokens a month; 100 tokens left")
    assert refused.error.hint == "max_tokens=100, which would fit"
    let_in(meter, tokens=100)


def test_counts_are_kept_over_a_restart(workspace: Workspace) -> None:
    settings = LimitSettings(key=Limits(tokens_per_day=100, tokens_per_minute=100))
    first = Meter(workspace, settings, open_ledger(workspace))
    first.start()
    let_in(first, tokens=90).settle(0, 80)
    first.close()
    refused = admit(Meter(workspace, settings, open_ledger(workspace)), tokens=30)
    assert isinstance(refused, Refusal)
    assert isinstance(refused.error, QuotaError)


def test_tokens_cost_what_the_model_costs(workspace: Workspace) -> None:
    prices = {"bot": Prices(price_prompt=1, price_completion=2), "*": Prices(price_prompt=100)}
    meter = Meter(workspace, LimitSettings(prices=prices))
    assert let_in(meter).settle(1_000_000, 500_000).usd == 2.0
    assert let_in(meter, ANN._replace(model="other")).settle(10_000, 500).usd == 1.0
    assert let_in(Meter(workspace)).settle(1_000, 1_000).usd == 0.0


def test_calls_share_an_hour_of_hardware_and_a_spent_budget_stops_them(workspace: Workspace) -> None:
    settings = LimitSettings(prices={"*": Prices(price_per_hour=3_600)}, key=Limits(usd_per_day=0.05))
    meter = Meter(workspace, settings)
    began = time.monotonic()
    holds = [let_in(meter) for _ in range(3)]
    time.sleep(0.1)
    spent = sum(hold.settle(5, 5).usd for hold in holds)
    assert 0.1 <= spent <= time.monotonic() - began
    refused = admit(meter)
    assert isinstance(refused, Refusal)
    assert isinstance(refused.error, QuotaError)


def test_a_call_is_settled_once(workspace: Workspace) -> None:
    meter = Meter(workspace, LimitSettings(key=Limits(tokens_per_day=100)))
    hold = let_in(meter, tokens=100)
    assert hold.settle(10, 20) == hold.settle(50, 50)
    let_in(meter, tokens=70)
    assert isinstance(admit(meter, tokens=1), Refusal)


class Server:
    """A Redis of its own, which can be killed."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        self.process = subprocess.Popen(
            ["redis-server", "--port", str(self.port), "--dir", str(self.folder), "--appendonly", "yes"],
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 10
        with Redis(port=self.port) as client:
            while time.monotonic() < deadline:
                try:
                    client.ping()
                except RedisError:
                    time.sleep(0.05)
                else:
                    return
        raise AssertionError("no Redis")

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    if shutil.which("redis-server") is None:
        pytest.skip("no redis-server is installed")
    running = Server(tmp_path)
    yield running
    running.kill()


def eventually(is_so: object) -> None:
    deadline = time.monotonic() + 10
    while not is_so():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_while_redis_is_away_calls_are_counted_here_and_booked_there_later(
    workspace: Workspace, server: Server
) -> None:
    settings = LimitSettings(key=Limits(tokens_per_day=1_000, parallel_requests=2))
    meter = Meter(workspace, settings, RedisLedger(server.url))
    meter.start()
    across = let_in(meter, tokens=100)
    server.kill()
    began = time.monotonic()
    first, second = let_in(meter), let_in(meter)
    assert time.monotonic() - began < 2
    assert meter.problem is not None
    assert "does not answer" in meter.problem
    refused = admit(meter)  # two at once, by this gateway's own count
    assert isinstance(refused, Refusal)
    assert isinstance(refused.error, ThrottledError)
    for hold in (across, first, second):
        hold.settle(10, 20)
    server.start()
    eventually(lambda: meter.problem is None)
    (claim,) = meter.rules.claims(ANN)
    eventually(lambda: meter.ledger.look([claim])[claim.account].day_tokens == 90)
    account = meter.ledger.look([claim])[claim.account]
    assert (account.parallel, account.held_tokens) == (0, 0)
    let_in(meter).settle(0, 0)
    meter.close()


def test_while_redis_is_away_calls_are_refused_where_that_is_set(
    workspace: Workspace, server: Server
) -> None:
    settings = LimitSettings(key=Limits(tokens_per_day=1_000), when_unreachable="refuse")
    meter = Meter(workspace, settings, RedisLedger(server.url))
    server.kill()
    with pytest.raises(ResourceError, match="limits cannot be counted now"):
        admit(meter)
    assert isinstance(admit(meter, ANN._replace(key=None)), Hold)  # nothing bounds it
    meter.ledger.close()


def test_what_leaves_no_record_is_in_usage_too(workspace: Workspace) -> None:
    meter = Meter(workspace, LimitSettings(prices={"*": Prices(price_prompt=1)}))
    meter.start()
    own = ProjectMeter(meter, "acme")
    hold = own.admit("embd-1", ANN, Size(1_000, 0, 0))
    own.settle(hold, ANN, Used(1_000))
    meter.close()
    today = workspace.clock.now().date()
    assert workspace.usage.total(Scope(key="key-1"), today, today) == Usage(1, 1_000, 0, 0.001)


def test_a_project_sees_nothing_of_limits_that_others_share(workspace: Workspace) -> None:
    settings = LimitSettings(key=Limits(requests_per_minute=5), model=Limits(requests_per_minute=9))
    meter = Meter(workspace, settings)
    let_in(meter, Scope("other", "key-9", None, "bot"))
    found = ProjectMeter(meter, "acme").standings(ANN, workspace.clock.now().timestamp())
    assert [(s.scope, s.limit, s.used) for s in found] == [("key=key-1", "requests_per_minute", 0)]


def test_attempts_at_one_call_are_booked_each(workspace: Workspace) -> None:
    meter = Meter(workspace, LimitSettings(key=Limits(tokens_per_day=100)))
    holds = [meter.admit("call-again", ANN, Size(0, 40, 1)) for _ in range(2)]
    for hold in holds:
        assert isinstance(hold, Hold)
        hold.settle(0, 30)
    (claim,) = meter.rules.claims(ANN)
    account = meter.look([claim])[claim.account]
    assert (account.day_tokens, account.held_tokens, account.parallel) == (60, 0, 0)
