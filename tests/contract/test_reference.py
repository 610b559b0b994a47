"""Every option of the command line says what it does, and the written reference is that of the code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import typer

from tunery.cli.main import command_line

ROOT = Path(__file__).resolve().parents[2]


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
