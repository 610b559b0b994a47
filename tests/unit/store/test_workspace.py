"""Opening a workspace: where it lies, what it costs, and what it says when it cannot."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.unit.store import samples
from tunery.core.errors import ConfigError, ResourceError
from tunery.store.workspace import Workspace


def test_home_is_the_argument_before_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNERY_HOME", str(tmp_path / "by-variable"))
    monkeypatch.delenv("TUNERY_DATABASE_URL", raising=False)
    by_variable = Workspace.open()
    by_argument = Workspace.open(tmp_path / "by-argument")
    assert by_variable.root == tmp_path / "by-variable"
    assert by_argument.root == tmp_path / "by-argument"
    assert (by_argument.root / "tunery.db").is_file()
    by_variable.close()
    by_argument.close()


def test_a_new_home_is_closed_to_other_users(tmp_path: Path) -> None:
    Workspace.open(tmp_path / "home", database_url=f"sqlite:///{tmp_path / 'home' / 'tunery.db'}").close()
    assert (tmp_path / "home").stat().st_mode & 0o077 == 0


def test_a_home_that_cannot_be_made_is_named_with_what_to_set(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ResourceError, match="cannot be written") as caught:
        Workspace.open(tmp_path / "file" / "home")
    assert str(tmp_path / "file" / "home") in caught.value.message
    assert "TUNERY_HOME" in (caught.value.hint or "")


def test_a_home_without_permission_is_refused(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o500)
    me = os.geteuid()
    if me == 0:
        os.seteuid(65534)  # root may write everywhere; nobody may not
    try:
        with pytest.raises(ResourceError, match=r"(?i)permission"):
            Workspace.open(home)
    finally:
        os.seteuid(me)
    assert not list(home.iterdir())


def test_a_file_that_is_no_database_is_not_touched(tmp_path: Path) -> None:
    file = tmp_path / "tunery.db"
    file.write_text("these are a person's notes, not a database " * 100)
    before = file.read_bytes()
    with pytest.raises(ConfigError, match="not a readable SQLite database"):
        Workspace.open(tmp_path, database_url=f"sqlite:///{file}")
    assert file.read_bytes() == before


@pytest.mark.parametrize("url", ["mysql://root:hunter2@host/db", "sqlite://", "hunter2"])
def test_an_unknown_database_url_is_refused_without_repeating_it(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match="PostgreSQL") as caught:
        Workspace.open(tmp_path, database_url=url)
    assert "hunter2@" not in str(caught.value)


def test_a_server_that_does_not_answer_is_named_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"127\.0\.0\.1:1/registry") as caught:
        Workspace.open(tmp_path, database_url="postgresql://ann:hunter2@127.0.0.1:1/registry")
    assert "hunter2" not in str(caught.value)


def test_a_garbled_postgres_url_is_refused_without_repeating_its_password(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="TUNERY_DATABASE_URL") as caught:
        Workspace.open(tmp_path, database_url="postgresql://ann:hunter2@host/registry?colour=blue")
    assert "hunter2" not in str(caught.value)


_LISTS_MODELS = """
import sys
import threading
from pathlib import Path
from tunery.store.workspace import Workspace
workspace = Workspace.open(Path(sys.argv[1]), database_url=sys.argv[2])
workspace.models.list()
heavy = {"sqlalchemy", "alembic", "torch", "transformers", "fastapi", "polars", "pyarrow", "tunery.core.job"}
print(sorted(heavy & sys.modules.keys()))
"""


def test_listing_models_loads_nothing_that_is_slow_to_import(workspace: Workspace, database_url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _LISTS_MODELS, str(workspace.root), database_url],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_many_threads_open_a_new_workspace_at_once(tmp_path: Path, empty_database_url: str) -> None:
    def open_and_add(number: int) -> str:
        opened = Workspace.open(tmp_path / "home", database_url=empty_database_url)
        added = opened.runs.add(samples.run(f"run-{number}"))
        opened.close()
        return added.id

    with ThreadPoolExecutor(6) as pool:
        added = list(pool.map(open_and_add, range(6)))
    last = Workspace.open(tmp_path / "home", database_url=empty_database_url)
    assert {run.id for run in last.runs.list()} == set(added)
    last.close()


_OPENS = """
import sys
import threading
from pathlib import Path
from tunery.store.workspace import Workspace
sys.stdin.readline()
Workspace.open(Path(sys.argv[1]), database_url=sys.argv[2]).close()
"""


def test_three_processes_open_a_new_workspace_at_once(tmp_path: Path, empty_database_url: str) -> None:
    command = [sys.executable, "-c", _OPENS, str(tmp_path / "home"), empty_database_url]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    ends = [(process.communicate()[1], process.returncode) for process in processes]
    assert ends == [("", 0)] * 3


def test_opening_waits_for_another_program_that_writes_to_the_file(tmp_path: Path) -> None:
    file = tmp_path / "tunery.db"
    other = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    other.execute("CREATE TABLE notes (line TEXT)")
    release = threading.Timer(0.3, other.execute, ["COMMIT"])
    release.start()
    opened = Workspace.open(tmp_path, database_url=f"sqlite:///{file}")
    release.join()
    assert opened.database.rows("PRAGMA journal_mode") == [{"journal_mode": "wal"}]
    assert opened.runs.list() == []
    opened.close()
    other.close()
