"""The audit log under a flood, and without its database."""

from __future__ import annotations

import logging

import pytest

from tunery.api.audit import AuditTrail, Sparingly
from tunery.core.access import WITHOUT_KEY, Caller
from tunery.core.errors import UnavailableError
from tunery.store.workspace import Workspace


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_flood_is_counted_and_not_written_one_by_one() -> None:
    clock = Clock()
    sparing = Sparingly(clock)
    counts = [sparing.admit("10.0.0.1") for _ in range(1_000)]
    assert counts == [1] * 5 + [0] * 995
    assert sparing.admit("10.0.0.2") == 996  # what was left out is in the next record
    clock.now = 59.9
    assert sparing.admit("10.0.0.1") == 0
    clock.now = 60.0
    assert sparing.admit("10.0.0.1") == 2


def test_a_flood_from_everywhere_is_bounded_too() -> None:
    clock = Clock()
    sparing = Sparingly(clock)
    counts = [sparing.admit(f"10.0.{n // 256}.{n % 256}") for n in range(10_000)]
    assert sum(count > 0 for count in counts) == 20
    clock.now = 60.0
    assert sum(counts) + sparing.admit("10.0.0.1") == 10_001  # none is forgotten


def test_no_project_reads_how_many_others_were_refused(workspace: Workspace) -> None:
    trail, view = AuditTrail(workspace), workspace.of("acme")
    key = view.keys.create("ann")
    view.keys.revoke(key.key.id)
    for number in range(8):
        trail.refused_key("tk-nobody" + "x" * 40, "10.0.0.1", f"req_{number}")
    trail.refused_key(key.secret, "10.0.0.2", "req_ours")
    assert [(r.actor, r.count) for r in view.audit.list()] == [("ann", 1)]
    trail.refused_key("tk-nobody" + "x" * 40, "10.0.0.3", "req_last")
    assert workspace.audit.list()[0].count == 4  # those three, and itself
    one, other = Caller("acme", "read", "key-1", "a"), Caller("umbrella", "read", "key-2", "b")
    for _ in range(9):
        trail.change(one, "file.delete", "file-1", outcome="permission_denied")
    trail.change(other, "file.delete", "file-1", outcome="permission_denied")
    assert workspace.of("umbrella").audit.list()[0].count == 1
    assert len(view.audit.list()) == 6


def test_a_million_wrong_keys_are_some_rows(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunery.api.audit._REFUSED_KEPT", 10)
    monkeypatch.setattr("tunery.api.audit._TRIM_EVERY", 5)
    trail = AuditTrail(workspace)
    for number in range(200):
        trail.refused_key(f"tk-wrong-{number}" + "x" * 40, f"10.0.0.{number}", "req")
    written = workspace.audit.list()
    assert 0 < len(written) <= 20
    assert workspace.audit.trim("key.refuse", keep=10) == len(written) - 10
    assert [r.id for r in workspace.audit.list()] == [r.id for r in written[:10]]


def test_a_secret_of_somewhere_else_is_hardly_written(workspace: Workspace) -> None:
    trail = AuditTrail(workspace)
    for secret in ("hunter2", "sk-0123456789abcdef0123456789abcdef", "ä" * 9):
        trail.refused_key(secret, "10.0.0.1", "req")
    assert [r.object for r in workspace.audit.list()] == ["ää", "sk-01234", "h"]
    assert {r.project for r in workspace.audit.list()} == {""}
    assert workspace.of("default").audit.list() == []


def test_a_record_that_cannot_be_written_is_in_the_log(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*args: object, **fields: object) -> None:
        raise UnavailableError("the database is away")

    monkeypatch.setattr(workspace.audit, "note", away)
    with caplog.at_level(logging.ERROR):
        AuditTrail(workspace).change(WITHOUT_KEY, "model.promote", "bot@2", request_id="req_1")
    assert "model.promote" in caplog.text
    assert "bot@2" in caplog.text
