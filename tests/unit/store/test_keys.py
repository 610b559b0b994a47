"""API keys: shown once, hashed, revocable."""

from __future__ import annotations

import pytest

from tunery.core.errors import ConfigError, NotFoundError
from tunery.store.workspace import Workspace


def test_a_secret_is_recognised_and_nowhere_stored(workspace: Workspace) -> None:
    key, secret = workspace.keys.create("ann's laptop")
    assert secret.startswith("tk-")
    assert len(secret) >= 40
    assert workspace.keys.verify(secret) == key
    stored = str(workspace.database.rows("SELECT * FROM keys"))
    assert secret not in stored
    assert secret[len(key.prefix) :] not in stored


@pytest.mark.parametrize("wrong", ["", "tk-", "tk-nobody", "sk-123", "\0", "tk-\0\0\0\0\0\0\0", "ü" * 50])
def test_what_is_no_key_is_refused(workspace: Workspace, wrong: str) -> None:
    workspace.keys.create("a")
    assert workspace.keys.verify(wrong) is None


def test_a_secret_that_differs_at_the_end_is_refused(workspace: Workspace) -> None:
    secret = workspace.keys.create("a").secret
    other = "A" if secret[-1] != "A" else "B"
    assert workspace.keys.verify(secret[:-1] + other) is None
    assert workspace.keys.verify(secret + "A") is None


def test_a_revoked_key_is_refused_but_stays_listed(workspace: Workspace) -> None:
    first, second = workspace.keys.create("a"), workspace.keys.create("b")
    revoked = workspace.keys.revoke(first.key.id)
    assert revoked.revoked_at == workspace.clock.now()
    assert workspace.keys.revoke(first.key.id) == revoked
    assert workspace.keys.verify(first.secret) is None
    assert workspace.keys.verify(second.secret) == second.key
    assert workspace.keys.list() == [second.key, revoked]
    with pytest.raises(NotFoundError):
        workspace.keys.revoke("key-unknown")


@pytest.mark.parametrize("name", ["", "  ", "x" * 65, "line\nbreak", "\x1b[31m"])
def test_a_name_that_cannot_be_shown_is_refused(workspace: Workspace, name: str) -> None:
    with pytest.raises(ConfigError, match="key name"):
        workspace.keys.create(name)
    assert workspace.keys.list() == []


def test_two_keys_of_one_name_are_two_keys(workspace: Workspace) -> None:
    first, second = workspace.keys.create("ci"), workspace.keys.create("ci")
    assert first.secret != second.secret
    assert workspace.keys.verify(first.secret) == first.key
