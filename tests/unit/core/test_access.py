"""Roles, and how long a key lets somebody in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from tunery.core.access import DEFAULT_PROJECT, ROLES, WITHOUT_KEY, ApiKey, allows, caller_of

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
OLD = {"id": "key-1", "name": "ann", "prefix": "tk-12345", "sha256": "0" * 64, "created_at": NOON}


def test_each_role_may_do_what_those_before_it_may_and_no_more() -> None:
    for lower, higher in pairwise(ROLES):
        assert allows(higher, lower)
        assert allows(lower, lower)
        assert not allows(lower, higher)


def test_a_key_from_before_projects_can_do_everything_in_the_default_one() -> None:
    key = ApiKey.model_validate(OLD)
    assert (key.project, key.role, key.expires_at) == (DEFAULT_PROJECT, "admin", None)
    assert caller_of(key).role == WITHOUT_KEY.role
    assert caller_of(key).name == "ann"
    assert WITHOUT_KEY.name == "api"


def test_a_key_works_until_it_expires_or_is_revoked() -> None:
    key = ApiKey.model_validate({**OLD, "expires_at": NOON})
    assert key.works_at(NOON - timedelta(microseconds=1))
    assert not key.works_at(NOON)
    assert not key.with_(expires_at=None, revoked_at=NOON).works_at(NOON)
