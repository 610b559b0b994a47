"""Every setting and command says what it does, and the written reference is that of the code."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import typer

from tunery.api.config import ServerSettings
from tunery.cli.main import command_line
from tunery.core.config import Settings
from tunery.feedback.config import ExportConfig
from tunery.pipeline.recipe import Recipe

ROOT = Path(__file__).resolve().parents[2]


def groups(model: type[Settings]) -> Iterator[type[Settings]]:
    """Yield a group of settings and all groups within it."""
    yield model
    for field in model.model_fields.values():
        for inner in parts(field.annotation):
            yield from groups(inner)


def parts(annotation: Any) -> Iterator[type[Settings]]:
    """Yield the groups of settings in an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        yield annotation
    for argument in get_args(annotation):
        yield from parts(argument)


ALL = {group for root in (Recipe, ServerSettings, ExportConfig) for group in groups(root)}


def test_there_are_settings_to_look_at() -> None:
    assert len(ALL) > 15


@pytest.mark.parametrize("group", sorted(ALL, key=lambda g: g.__name__), ids=lambda g: g.__name__)
def test_every_setting_has_a_docstring(group: type[Settings]) -> None:
    assert group.__doc__
    assert [name for name, field in group.model_fields.items() if not field.description] == []


def test_every_option_of_every_command_is_explained() -> None:
    silent = []

    def look(command: Any, path: str) -> None:
        options = [p for p in command.params if p.param_type_name == "option"]
        silent.extend(f"{path} {p.opts[0]}" for p in options if not p.help)
        for name, verb in getattr(command, "commands", {}).items():
            look(verb, f"{path} {name}")

    look(typer.main.get_command(command_line()), "tunery")
    assert silent == []


def test_the_reference_is_fresh() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "reference.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
