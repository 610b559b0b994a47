"""A throw-away member of a package whose files are found by walking: what one more of a kind costs."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from textwrap import dedent

import pytest


def add_plugin(
    monkeypatch: pytest.MonkeyPatch, folder: Path, package: str, *, name: str, source: str
) -> None:
    """Let a package be walked in another folder too, in which one file is written; undone after the test."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.py").write_text(dedent(source), encoding="utf-8")
    walked = importlib.import_module(package)
    monkeypatch.setattr(walked, "__path__", [*walked.__path__, str(folder)])
    monkeypatch.setitem(sys.modules, f"{package}.{name}", None)  # remembered as absent
    monkeypatch.delitem(sys.modules, f"{package}.{name}")
