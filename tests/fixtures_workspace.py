"""The workspace that tests of every package work in; a plugin of ``tests/conftest.py``."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tunery.store.workspace import Workspace


@pytest.fixture(scope="session")
def new_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home that was opened once: its tables are there, and nothing in them."""
    home = tmp_path_factory.mktemp("new") / "home"
    Workspace.open(home, database_url=f"sqlite:///{home / 'tunery.db'}").close()
    return home


@pytest.fixture
def workspace(tmp_path: Path, new_home: Path) -> Iterator[Workspace]:
    """Yield an open workspace of its own, on SQLite, whatever the environment says."""
    home = tmp_path / "home"
    shutil.copytree(new_home, home)
    opened = Workspace.open(home, database_url=f"sqlite:///{home / 'tunery.db'}")
    yield opened
    opened.close()
