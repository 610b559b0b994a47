"""Limits and usage from the command line."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from tests.fixtures_cli import Tunery
from tunery.core.limits import DayUsage, Scope, Usage
from tunery.core.prices import Used
from tunery.store.workspace import Workspace
from tunery.traffic.limits.account import Claim, Need
from tunery.traffic.limits.ledger import Reservation
from tunery.traffic.limits.open import open_ledger


@pytest.fixture
def key(home: Path) -> str:
    workspace = Workspace.open(home)
    created = workspace.keys.create("phone-app").key
    workspace.close()
    return created.id


def test_limits_are_set_added_to_and_removed(tunery: Tunery, key: str) -> None:
    first = tunery("limits", "set", "--key", "phone-app", "--requests-per-minute", 60, "--json").json
    assert first["scope"] == f"key={key}"
    assert first["limits"] == {"requests_per_minute": 60}
    tunery("limits", "set", "--key", key, "--usd-per-month", "12.50", "--tokens-per-day", "unlimited")
    more = tunery("limits", "set", "--key", key, "--requests-per-minute", "default", "--json").json
    assert more["limits"] == {"tokens_per_day": "unlimited", "usd_per_month": 12.5}
    assert tunery("limits", "ls", "--json").json[0]["limits"] == more["limits"]
    assert "usd per month: 12.5" in tunery("limits", "ls").out
    tunery("limits", "rm", "--key", key)
    assert tunery("limits", "ls", "--json").json == []


def test_changes_of_limits_are_in_the_audit_log(tunery: Tunery, key: str, home: Path) -> None:
    tunery("limits", "set", "--key", key, "--requests-per-minute", 60)
    tunery("limits", "rm", "--key", key)
    workspace = Workspace.open(home)
    found = [(r.action, r.object, r.project) for r in workspace.audit.list()]
    workspace.close()
    assert found == [("limit.remove", f"key={key}", "default"), ("limit.set", f"key={key}", "default")]


def test_a_scope_may_be_every_key_of_a_project_by_itself(tunery: Tunery, home: Path) -> None:
    workspace = Workspace.open(home)
    workspace.projects.create("acme")
    workspace.close()
    row = tunery("limits", "set", "--project", "acme", "--key", "*", "--parallel-requests", 4, "--json").json
    assert (row["project"], row["key"], row["user"], row["model"]) == ("acme", "*", None, None)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--key", "phone-app"), "no limit is given"),
        (("--key", "phone-app", "--requests-per-minute", "many"), "--requests-per-minute is 'many'"),
        (("--key", "phone-app", "--requests-per-minute", "-1"), "--requests-per-minute is '-1'"),
        (("--key", "phone-app", "--requests-per-minute", "1.5"), "requests_per_minute"),
        (("--key", "phone-ap", "--requests-per-minute", "1"), "did you mean 'phone-app'?"),
        (("--project", "acme", "--requests-per-minute", "1"), "no project named 'acme'"),
    ],
)
def test_what_cannot_be_set_says_what_to_give(
    tunery: Tunery, key: str, arguments: tuple[str, ...], says: str
) -> None:
    failed = tunery("limits", "set", *arguments, "--json")
    assert failed.code in (2, 3)
    assert says in failed.error["message"]


def test_a_limit_shows_what_is_used_left_and_when_it_is_there_again(
    tunery: Tunery, key: str, home: Path
) -> None:
    tunery(
        "limits",
        "set",
        "--key",
        key,
        "--tokens-per-month",
        1_000,
        "--usd-per-day",
        2,
        "--tokens-per-minute",
        500,
    )
    workspace = Workspace.open(home)
    ledger = open_ledger(workspace)
    claim = Claim(f"key={key}", {"tokens_per_minute": 500, "tokens_per_month": 1_000, "usd_per_day": 2})
    call = Reservation("call-1", (claim,), Need(400, 1.0), 30)
    ledger.reserve(call)
    ledger.settle([(call, Used(100, 150, 0.5))])
    ledger.upkeep([])
    workspace.close()
    shown = {row["limit"]: row for row in tunery("limits", "show", "--key", "phone-app", "--json").json}
    month = shown["tokens_per_month"]
    assert (month["bound"], month["used"], month["left"]) == (1_000, 250, 750)
    now = datetime.now(UTC)
    assert datetime.fromisoformat(month["resets_at"]) == datetime(
        now.year + now.month // 12, now.month % 12 + 1, 1, tzinfo=UTC
    )
    assert (shown["usd_per_day"]["used"], shown["usd_per_day"]["left"]) == (0.5, 1.5)
    assert 0 <= shown["tokens_per_minute"]["used"] <= 250
    assert "750" in tunery("limits", "show", "--key", "phone-app").out
    unknown = tunery("limits", "show", "--model", "bot", "--json")
    assert unknown.code == 3


def test_usage_is_told_apart_by_what_is_asked_for(tunery: Tunery, key: str, home: Path) -> None:
    workspace = Workspace.open(home)
    with workspace.database.transaction() as transaction:
        workspace.usage.add(
            transaction,
            [
                DayUsage(date(2026, 3, 1), "default", key, "bot", Usage(1, 10, 20, 0.25)),
                DayUsage(date(2026, 3, 1), "default", key, "bot", Usage(1, 10, 20, 0.25)),
                DayUsage(date(2026, 3, 2), "acme", "key-9", "bot", Usage(1, 1, 2, 0.5)),
            ],
        )
    workspace.close()
    march = ("--since", "2026-03-01", "--until", "2026-03-31", "--json")
    by_key = tunery("usage", *march).json
    assert by_key[0] == {
        "key": key,
        "key_name": "phone-app",
        "requests": 2,
        "prompt_tokens": 20,
        "completion_tokens": 40,
        "usd": 0.5,
        "tokens": 60,
    }
    assert [row["key_name"] for row in by_key] == ["phone-app", None]
    by_model = tunery("usage", "--by", "model", *march).json
    assert by_model == [
        {
            "model": "bot",
            "requests": 3,
            "prompt_tokens": 21,
            "completion_tokens": 42,
            "usd": 1.0,
            "tokens": 63,
        }
    ]
    assert len(tunery("usage", "--by", "day", "--by", "project", *march).json) == 2
    assert tunery("usage", "--project", "acme", "--by", "day", *march).json[0]["day"] == "2026-03-02"
    assert tunery("usage", "--json").json == []  # this month
    assert "phone-app" in tunery("usage", "--since", "2026-03-01", "--until", "2026-03-31").out
    assert "no day" in tunery("usage", "--since", "March", "--json").error["message"]


def test_a_project_sees_its_own_usage_and_no_limits(home: Path) -> None:
    workspace = Workspace.open(home)
    with workspace.database.transaction() as transaction:
        for project in ("default", "acme"):
            used = DayUsage(date(2026, 3, 1), project, "k", "bot", Usage(1, 1, 1, 0.0))
            workspace.usage.add(transaction, [used])
    first, last = date(2026, 1, 1), date(2026, 12, 31)
    assert workspace.usage.total(Scope(key="k"), first, last).requests == 2
    own = workspace.of("acme")
    assert own.usage.total(Scope(key="k"), first, last).requests == 1
    assert own.usage.by(["project"], {"project": "default"}, first, last) == []
    with pytest.raises(ValueError, match="limits are the operator's"):
        _ = own.limits
    workspace.close()


def test_an_unknown_part_of_usage_is_named(tunery: Tunery) -> None:
    failed = tunery("usage", "--by", "modell", "--json")
    assert failed.code == 2
    assert "did you mean 'model'?" in failed.error["message"]
