"""Limits and budgets as a client meets them: the real client over a socket, and a tiny model."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI

from tests.integration.live_api import BASE, Live, live
from tunery.api.config import ServerSettings
from tunery.core.limits import Limits, Scope
from tunery.core.prices import Prices
from tunery.pipeline.gateway.choices import Choice
from tunery.pipeline.gateway.gateway import Gateway
from tunery.store.workspace import Workspace
from tunery.traffic.limits.account import Account
from tunery.traffic.limits.config import LimitSettings

SETTINGS = LimitSettings(prices={"*": Prices(price_prompt=1.0, price_completion=10.0)})


@pytest.fixture(scope="module")
def gateways() -> list[Gateway]:
    return []


@pytest.fixture(scope="module")
def server(
    tiny_model: Path, tmp_path_factory: pytest.TempPathFactory, gateways: list[Gateway]
) -> Iterator[Live]:
    home = tmp_path_factory.mktemp("home")
    workspace = Workspace.open(home, database_url=f"sqlite:///{home / 'tunery.db'}")
    settings = ServerSettings(port=0, run_jobs=False, base=str(tiny_model), limits=SETTINGS)
    with live(workspace, tiny_model, settings=settings) as running:
        gateways.append(running.app.state.services.gateway)
        yield running
    workspace.close()


class Limited:
    """A key of its own, with limits."""

    def __init__(self, server: Live, gateway: Gateway, **limits: float) -> None:
        created = server.workspace.keys.create("limited", "infer")
        self.key, self.secret = created.key, created.secret
        self.scope = Scope(key=self.key.id)
        self.server, self.gateway = server, gateway
        self.set(**limits)

    def set(self, **limits: float) -> None:
        self.server.workspace.limits.set(self.scope, Limits(**limits))  # type: ignore[arg-type]
        self.gateway.meter.refresh()

    def account(self) -> Account:
        """Return the count of the key as it stands now."""
        meter = self.gateway.meter
        (account,) = meter.ledger.look(meter.rules.claims(Scope("default", self.key.id))).values()
        return account

    def get(self, path: str) -> Any:
        """Return what a path answers to the key."""
        answer = self.server.call("GET", path, Authorization=f"Bearer {self.secret}")
        assert answer.status == 200, answer.text
        return answer.json()

    def client(self, retries: int = 0) -> OpenAI:
        return self.server.client(key=self.secret, retries=retries)


@pytest.fixture
def limited(server: Live, gateways: list[Gateway]) -> Limited:
    return Limited(server, gateways[0])


def ask(client: OpenAI, *, n: int = 1, max_tokens: int = 4, **more: object) -> openai.types.Completion:
    return client.completions.create(
        model=BASE, prompt="One two three", max_tokens=max_tokens, n=n, temperature=2, seed=1, **more
    )  # type: ignore[call-overload,no-any-return]


def until_refused(client: OpenAI, *, max_tokens: int) -> openai.RateLimitError:
    for _ in range(200):
        try:
            ask(client, max_tokens=max_tokens)
        except openai.RateLimitError as error:
            return error
    raise AssertionError("never refused")


def test_every_answer_tells_how_the_limits_stand(limited: Limited) -> None:
    limited.set(requests_per_minute=60, tokens_per_minute=6_000)
    answer = limited.client().completions.with_raw_response.create(model=BASE, prompt="One two", max_tokens=4)
    headers = answer.headers
    assert headers["x-ratelimit-limit-requests"] == "60"
    assert headers["x-ratelimit-remaining-requests"] == "59"
    assert headers["x-ratelimit-reset-requests"] == "1s"
    assert headers["x-ratelimit-limit-tokens"] == "6000"
    needed = answer.parse().usage.prompt_tokens + 4  # type: ignore[union-attr]
    assert int(headers["x-ratelimit-remaining-tokens"]) == 6_000 - needed
    assert float(headers["x-ratelimit-reset-tokens"].removesuffix("ms")) == pytest.approx(needed * 10, abs=1)


def test_an_error_and_a_stream_tell_it_too(limited: Limited) -> None:
    limited.set(requests_per_minute=2)
    client = limited.client()
    stream = client.completions.with_raw_response.create(model=BASE, prompt="One", max_tokens=1, stream=True)
    assert stream.headers["x-ratelimit-remaining-requests"] == "1"
    assert list(stream.parse())
    ask(client)
    with pytest.raises(openai.RateLimitError) as refused:
        ask(client)
    assert refused.value.response.headers["x-ratelimit-remaining-requests"] == "0"
    assert refused.value.code == "rate_limit_exceeded"


def test_who_waits_as_long_as_retry_after_says_is_let_in(limited: Limited) -> None:
    limited.set(requests_per_minute=120)
    client = limited.client()
    headers = until_refused(client, max_tokens=1).response.headers
    wait_ms = int(headers["retry-after-ms"])
    assert 0 < wait_ms <= 500
    assert int(headers["retry-after"]) == 1
    time.sleep(wait_ms / 1000)
    ask(client, max_tokens=1)
    with pytest.raises(openai.RateLimitError):
        ask(client, max_tokens=1)


def test_the_client_comes_back_by_itself(limited: Limited) -> None:
    limited.set(requests_per_minute=60)
    client = limited.client(retries=2)
    began = time.monotonic()
    for _ in range(62):
        ask(client, max_tokens=1)
    assert time.monotonic() - began > 1.9


def test_a_request_that_never_fits_says_how_to_make_it_smaller(limited: Limited) -> None:
    limited.set(tokens_per_minute=100)
    with pytest.raises(openai.BadRequestError, match="may use 100 tokens a minute") as refused:
        ask(limited.client(retries=2), max_tokens=400)
    assert refused.value.code == "request_exceeds_limit"
    assert refused.value.param == "max_tokens"
    fitting = int(str(refused.value.message).partition("max_tokens=")[2].partition(",")[0])
    ask(limited.client(), max_tokens=fitting)


def test_each_choice_counts_before_and_after(limited: Limited) -> None:
    limited.set(tokens_per_minute=100)
    with pytest.raises(openai.BadRequestError, match="8 answers of up to 16"):
        ask(limited.client(), n=8, max_tokens=16)
    answer = ask(limited.client(), n=8, max_tokens=4)
    assert answer.usage is not None
    account = limited.account()
    assert account.day_tokens == answer.usage.total_tokens
    assert account.held_tokens == account.parallel == 0


def test_a_used_up_budget_is_final(limited: Limited) -> None:
    limited.set(usd_per_day=1e-3)
    client = limited.client(retries=5)
    refused = until_refused(client, max_tokens=16)
    assert refused.code == refused.type == "insufficient_quota"
    assert refused.response.headers["x-should-retry"] == "false"
    assert "0.001 US dollars a day" in refused.message


def test_one_key_runs_no_more_at_once_than_it_may(limited: Limited) -> None:
    limited.set(parallel_requests=2)

    def one(_: int) -> str | None:
        try:
            ask(limited.client(), max_tokens=400)
        except openai.RateLimitError as error:
            return error.response.headers["retry-after"]
        return None

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(one, range(8)))
    assert 2 <= outcomes.count(None) < 8
    assert set(outcomes) == {None, "1"}
    ask(limited.client())  # and all places are free again


def test_a_stream_that_its_client_leaves_is_settled_by_what_it_read(limited: Limited) -> None:
    limited.set(tokens_per_day=100_000)
    with limited.client().completions.create(
        model=BASE, prompt="One two three", max_tokens=1_000, stream=True, temperature=2, seed=1
    ) as stream:
        next(iter(stream))
    deadline = time.monotonic() + 10
    while limited.gateway.in_flight and time.monotonic() < deadline:
        time.sleep(0.02)
    account = limited.account()
    assert account.parallel == account.held_tokens == 0
    assert 3 < account.day_tokens < 1_000


def test_a_failure_after_the_reservation_gives_it_back(
    limited: Limited, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError

    limited.set(tokens_per_minute=1_000, tokens_per_day=10_000, parallel_requests=1)
    monkeypatch.setattr(Choice, "queue", fail)
    with pytest.raises(openai.InternalServerError) as failed:
        ask(limited.client())
    assert failed.value.response.headers["x-ratelimit-remaining-tokens"]
    monkeypatch.undo()
    account = limited.account()
    assert (account.parallel, account.held_tokens, account.day_tokens) == (0, 0, 0)
    assert account.tokens < 1
    ask(limited.client())


def test_users_of_a_key_have_counts_of_their_own(server: Live, gateways: list[Gateway]) -> None:
    limited = Limited(server, gateways[0])
    rule = server.workspace.limits.set(Scope(key=limited.key.id, user="*"), Limits(requests_per_minute=1))
    limited.gateway.meter.refresh()
    client = limited.client()
    ask(client, user="ann")
    ask(client, user="bob")
    ask(client)  # names nobody
    with pytest.raises(openai.RateLimitError, match="this user"):
        ask(client, user="ann")
    server.workspace.limits.remove(rule.scope)


def test_a_models_limit_holds_for_all_its_names_and_every_key(server: Live, gateways: list[Gateway]) -> None:
    one, other = Limited(server, gateways[0]), Limited(server, gateways[0])
    server.workspace.limits.set(Scope(model=BASE), Limits(requests_per_minute=1))
    gateways[0].meter.refresh()
    ask(one.client())
    with pytest.raises(openai.RateLimitError, match=f"model {BASE}"):
        ask(other.client())
    server.workspace.limits.remove(Scope(model=BASE))
    gateways[0].meter.refresh()
    ask(other.client())


def test_a_refused_call_is_no_record_of_a_version_but_is_counted(limited: Limited) -> None:
    limited.set(requests_per_minute=0)
    before = limited.gateway.meter.refused["requests_per_minute"]
    with pytest.raises(openai.BadRequestError):
        ask(limited.client())
    limited.gateway.log.flush()
    assert all(r.key_id != limited.key.id for r in limited.server.workspace.requests.list())
    assert limited.gateway.meter.refused["requests_per_minute"] == before + 1
    metrics = limited.server.call("GET", "/metrics").text
    assert f'tunery_limit_refused{{limit="requests_per_minute"}} {before + 1:.1f}' in metrics


def test_usage_is_each_call_once_in_tokens_and_money(limited: Limited) -> None:
    client = limited.client()
    answers = [ask(client, max_tokens=8) for _ in range(3)]
    limited.gateway.log.flush()
    found = limited.get("/v1/usage?by=model&by=day")["data"]
    used = [answer.usage for answer in answers if answer.usage is not None]
    prompt, completion = sum(u.prompt_tokens for u in used), sum(u.completion_tokens for u in used)
    assert len(found) == 1
    assert (found[0]["model"], found[0]["requests"]) == (BASE, 3)
    assert (found[0]["prompt_tokens"], found[0]["completion_tokens"]) == (prompt, completion)
    assert found[0]["usd"] == pytest.approx((prompt * 1.0 + completion * 10.0) / 1e6)


def test_a_key_reads_how_its_limits_stand(limited: Limited) -> None:
    limited.set(requests_per_minute=10, tokens_per_day=1_000)
    answer = ask(limited.client())
    assert answer.usage is not None
    found = {entry["limit"]: entry for entry in limited.get("/v1/limits")["data"]}
    assert found["requests_per_minute"]["left"] == 9
    assert found["tokens_per_day"]["used"] == answer.usage.total_tokens
    assert found["tokens_per_day"]["resets_at"].endswith("T00:00:00+00:00")
