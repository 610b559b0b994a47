"""A cluster that cannot be reached for want of Ray is said with what installs it."""

from __future__ import annotations

import sys

import pytest

from tunery.core.cluster import connect
from tunery.core.errors import ConfigError


def test_where_ray_is_not_installed_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"train\.engine is ray, but Ray is not installed") as caught:
        connect("train.engine")
    assert caught.value.hint == "pip install 'tunery[ray]'"
