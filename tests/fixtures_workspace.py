"""The workspace that tests of every package work in; a plugin of ``tests/conftest.py``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tunery.store.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    """Yield an open workspace of its own, on SQLite, whatever the environment says."""
    home = tmp_path / "home"
    opened = Workspace.open(home, database_url=f"sqlite:///{home / 'tunery.db'}")
    yield opened
    opened.close()
