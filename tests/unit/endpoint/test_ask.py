"""Many requests to one endpoint over a real socket: each is answered once or counted as failed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles.openai_source import KEY as SOURCE_KEY
from tests.doubles.openai_source import OpenAISource
from tests.doubles.openai_source import serving as serving_source
from tests.doubles.rolling import RollingLimits
from tests.unit.synthesise.teacher import KEY, Fault, Teacher, serving
from tunery.core.errors import ConfigError, ResourceError
from tunery.endpoint.ask import OVER_BUDGET, Answers, Asking, ask_all
from tunery.endpoint.budget import Limits
from tunery.endpoint.config import EndpointConfig
from tunery.endpoint.journal import Journal

QUESTIONS = {f"row {i}": [{"role": "user", "content": f"question {i}"}] for i in range(12)}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Teacher]:
    """A model that repeats the question, its key in the environment."""
    monkeypatch.setenv("ASKED_KEY", KEY)
    with serving(Teacher(say=lambda body: f"on {body['messages'][-1]['content']}")) as running:
        yield running


def ask(server: Teacher, folder: Path, *, asking: Asking | None = None, **settings: object) -> Answers:
    config = EndpointConfig.model_validate(
        {
            "base_url": server.url,
            "model": "m",
            "api_key_env": "ASKED_KEY",
            "timeout_s": 0.5,
            "backoff_s": 0.01,
            "attempts": 2,
            "max_tokens": 16,
            **settings,
        }
    )
    with Journal(folder / "answers.jsonl", "one") as journal:
        return ask_all(config, QUESTIONS, journal, what="answers", asking=asking)


def test_every_request_has_its_own_answer_and_none_is_paid_for_twice(server: Teacher, tmp_path: Path) -> None:
    first = ask(server, tmp_path)
    assert {name: answer.text for name, answer in first.found.items()} == {
        name: f"on {turns[0]['content']}" for name, turns in QUESTIONS.items()
    }
    assert not first.failed
    again = ask(server, tmp_path)
    assert again.found == first.found
    assert len(server.bodies) == len(QUESTIONS)


@pytest.mark.parametrize("fault", [429, 500, 503, "cut", "nonsense", "hang", (429, {"Retry-After": "0"})])
def test_what_fails_twice_is_counted_with_its_reason_and_the_others_answer(
    fault: Fault, server: Teacher, tmp_path: Path
) -> None:
    server.faults = [fault, fault]
    got = ask(server, tmp_path, concurrency=1)
    assert list(got.failed) == ["row 0"]
    assert got.failed["row 0"]
    assert got.retries == 1
    assert set(got.found) | set(got.failed) == set(QUESTIONS)


def test_a_request_that_is_too_long_for_the_model_fails_alone_and_at_once(
    server: Teacher, tmp_path: Path
) -> None:
    server.faults = [(400, {"X-Message": "the prompt leaves no room in the context window"})]
    got = ask(server, tmp_path, concurrency=1)
    assert list(got.failed) == ["row 0"]
    assert "context window" in got.failed["row 0"]
    assert got.retries == 0
    assert len(got.found) == len(QUESTIONS) - 1


def test_an_endpoint_that_is_down_fails_every_row_unless_patience_is_set(
    server: Teacher, tmp_path: Path
) -> None:
    server.faults = [500] * 24
    assert set(ask(server, tmp_path, concurrency=4).failed) == set(QUESTIONS)
    server.faults = [500] * 24
    with pytest.raises(ResourceError, match="does not answer"):
        ask(server, tmp_path, concurrency=1, asking=Asking(patience=3))


def test_a_budget_ends_sending_and_names_what_it_left_out(server: Teacher, tmp_path: Path) -> None:
    got = ask(server, tmp_path, concurrency=1, asking=Asking(limits=Limits(tokens=120)))
    assert got.found
    assert set(got.failed.values()) == {OVER_BUDGET}
    assert set(got.found) | set(got.failed) == set(QUESTIONS)


def test_further_fields_reach_the_endpoint_and_a_wrong_key_is_the_users(
    server: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(server, tmp_path, extra={"response_format": {"type": "json_object"}})
    assert all(body["response_format"] == {"type": "json_object"} for body in server.bodies)
    monkeypatch.setenv("ASKED_KEY", "another")
    (tmp_path / "answers.jsonl").unlink()
    with pytest.raises(ConfigError, match="key is refused"):
        ask(server, tmp_path)


@pytest.mark.parametrize(
    ("rates", "limits"),
    [
        ({"tokens_per_minute": 30_000}, RollingLimits(tokens=500 + 173, window_s=1.0)),
        ({"requests_per_minute": 600}, RollingLimits(requests=10 + 1, window_s=1.0)),
        (
            {"tokens_per_minute": 60_000, "requests_per_minute": 900},
            RollingLimits(requests=15 + 1, tokens=1000 + 173, window_s=1.0),
        ),
    ],
)
def test_rates_hold_at_a_source_that_counts_in_every_window(
    rates: dict[str, float], limits: RollingLimits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second sees a sixtieth of a minute's, and one request more: what began in it ends behind it."""
    monkeypatch.setenv("ASKED_KEY", SOURCE_KEY)
    account = OpenAISource(models=[{"id": "m"}], say=lambda body: "word " * 40)
    account.trouble.limits, account.trouble.latency_s = limits, 0.02
    with serving_source(account):
        config = EndpointConfig.model_validate(
            {"base_url": account.url, "model": "m", "api_key_env": "ASKED_KEY", "max_tokens": 64, **rates}
        )
        turns = {f"row {n}": [{"role": "user", "content": f"question number {n}"}] for n in range(24)}
        with Journal(tmp_path / "answers.jsonl", "one") as journal:
            got = ask_all(config, turns, journal, what="answers")
    assert (len(got.found), got.retries, limits.refused) == (24, 0, 0)


@pytest.mark.parametrize("wanted", ["max_tokens", "max_completion_tokens"])
def test_limit_goes_out_under_the_name_that_the_endpoint_takes(
    wanted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASKED_KEY", SOURCE_KEY)
    other = ({"max_tokens", "max_completion_tokens"} - {wanted}).pop()
    account = OpenAISource(models=[{"id": "m"}])
    account.trouble.wants_limit = wanted
    with serving_source(account), Journal(tmp_path / "answers.jsonl", "one") as journal:
        config = EndpointConfig.model_validate(
            {"base_url": account.url, "model": "m", "api_key_env": "ASKED_KEY", "max_tokens_field": other}
        )
        got = ask_all(config, QUESTIONS, journal, what="answers")
        assert (len(got.found), got.max_tokens_field, got.retries) == (len(QUESTIONS), wanted, 0)
        assert all(body[wanted] == 1024 and other not in body for body in account.completions)
        assert len(account.requests) <= len(QUESTIONS) + config.concurrency  # found out once, not each time
        account.trouble.wants_limit = "neither"
        turns = [{"role": "user", "content": "and now?"}]
        with pytest.raises(ConfigError, match="Unsupported parameter") as refused:
            ask_all(config, {"new": turns}, journal, what="answers")
        assert refused.value.param in {"max_tokens", "max_completion_tokens"}
    assert journal.lost.tokens == 0


def test_source_that_counts_in_every_window_turns_away_what_keeps_no_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASKED_KEY", SOURCE_KEY)
    account = OpenAISource(models=[{"id": "m"}])
    account.trouble.limits = RollingLimits(requests=16, window_s=0.5)
    with serving_source(account):
        config = EndpointConfig(base_url=account.url, model="m", api_key_env="ASKED_KEY", backoff_s=0.01)
        turns = {f"row {n}": [{"role": "user", "content": f"{n}"}] for n in range(24)}
        with Journal(tmp_path / "answers.jsonl", "one") as journal:
            got = ask_all(config, turns, journal, what="answers")
    assert (len(got.found), len(account.completions)) == (24, 24)
    assert account.trouble.limits.refused == got.retries > 0


def test_account_is_named_and_its_key_comes_from_a_file_by_its_proxy(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(SOURCE_KEY)
    file.chmod(0o600)
    account = OpenAISource()
    account.models.append({"id": "m"})
    with serving_source(account), Journal(tmp_path / "answers.jsonl", "one") as journal:
        # The proxy is where the requests end, so that nothing leaves this machine.
        config = EndpointConfig(
            base_url="http://old.example/v1", model="m", api_key_file=str(file), organization="org-1",
            project="proj_1", proxy=account.url.removesuffix("/v1"),
        )  # fmt: skip
        assert not ask_all(config, QUESTIONS, journal, what="answers").failed
    sent = {
        (each["host"], each["authorization"], each["openai-organization"], each["openai-project"])
        for each in account.headers
    }
    assert sent == {("old.example", f"Bearer {SOURCE_KEY}", "org-1", "proj_1")}


def test_two_places_of_a_key_are_one_too_many() -> None:
    with pytest.raises(ValueError, match="both name a key"):
        EndpointConfig(base_url="http://a/v1", model="m", api_key_env="A", api_key_file="b")
