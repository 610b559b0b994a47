"""The command line called in process: same parsing, same handler, no second interpreter to start."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tunery.cli.main import execute


class Called(NamedTuple):
    """What a call left."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON value on stdout."""
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, Any]:
        """The JSON object that ends stderr."""
        found: dict[str, Any] = json.loads(self.err.splitlines()[-1])["error"]
        return found


Tunery = Callable[..., Called]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace's root, not yet made, that calls of the command line find by themselves."""
    monkeypatch.setenv("TUNERY_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("TUNERY_DATABASE_URL", raising=False)
    return tmp_path / "home"


@pytest.fixture
def tunery(home: Path, capsys: pytest.CaptureFixture[str]) -> Tunery:
    """Call the command line as typed behind ``tunery``."""

    def call(*arguments: object) -> Called:
        capsys.readouterr()
        code = execute([str(argument) for argument in arguments])
        written = capsys.readouterr()
        return Called(code, written.out, written.err)

    return call
