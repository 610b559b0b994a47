"""A database names the home that its files lie in; another home is refused at its start."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tunery.core.errors import ConflictError
from tunery.store.home import HOME_ID
from tunery.store.workspace import Workspace


@pytest.fixture
def shared(database_url: str, tmp_path: Path) -> Callable[[str], Workspace]:
    """Open a home of some name on one database that lies in none of them."""
    url = database_url if database_url.startswith("postgresql") else f"sqlite:///{tmp_path}/shared.db"

    def open_home(name: str) -> Workspace:
        workspace = Workspace.open(tmp_path / name, database_url=url)
        workspace.close()
        return workspace

    return open_home


def test_homes_that_share_artifacts_share_a_database(database_url: str, tmp_path: Path) -> None:
    url = database_url if database_url.startswith("postgresql") else f"sqlite:///{tmp_path}/shared.db"
    bucket, other = f"file://{tmp_path}/bucket", f"file://{tmp_path}/other"
    for name in ("first", "second", "first"):
        Workspace.open(tmp_path / name, database_url=url, artifacts_url=bucket).close()
    for artifacts in (other, None):
        with pytest.raises(ConflictError) as caught:
            Workspace.open(tmp_path / "third", database_url=url, artifacts_url=artifacts)
        assert bucket in caught.value.message


def test_a_second_home_on_one_database_is_refused_in_words(
    shared: Callable[[str], Workspace], tmp_path: Path
) -> None:
    shared("first")
    shared("first")
    with pytest.raises(ConflictError) as caught:
        shared("second")
    assert str(tmp_path / "first") in caught.value.message
    assert str(tmp_path / "second") in caught.value.message
    hint = caught.value.hint or ""
    assert "mount that folder here" in hint
    assert "TUNERY_DATABASE_URL" in hint
    # What the hint says of a restored home works as it stands there.
    token, path = hint.rpartition("echo ")[2].split(" > ")
    Path(path).write_text(f"{token}\n", encoding="ascii")
    shared("second")


def test_a_home_that_was_moved_opens(shared: Callable[[str], Workspace], tmp_path: Path) -> None:
    shared("first")
    shutil.move(tmp_path / "first", tmp_path / "elsewhere")
    shared("elsewhere")
    with pytest.raises(ConflictError):
        shared("first")


def test_of_homes_that_open_a_new_database_at_once_one_gets_it(
    shared: Callable[[str], Workspace],
) -> None:
    def opened(number: int) -> bool:
        try:
            shared(f"home-{number % 3}")
        except ConflictError:
            return False
        return True

    shared("home-0")
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(opened, range(6))) == [True, False, False, True, False, False]


def test_a_database_that_lies_in_its_home_goes_with_it(tmp_path: Path) -> None:
    Workspace.open(tmp_path / "home", database_url=f"sqlite:///{tmp_path}/home/tunery.db").close()
    assert not (tmp_path / "home" / HOME_ID).exists()
    shutil.copytree(tmp_path / "home", tmp_path / "copy")
    Workspace.open(tmp_path / "copy", database_url=f"sqlite:///{tmp_path}/copy/tunery.db").close()
