"""Ctrl-C and SIGTERM in a training: a checkpoint first, then the way to go on, then the same adapter."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_cli_loop import RECIPE, call, write_rows
from tunery.core.progress import Silent


class Signalling(Silent):
    """Sends this process a signal at a step, as somebody at the keyboard does."""

    def __init__(self, number: int, step: int) -> None:
        self.number, self.step = number, step

    def event(self, message: str, *, level: Any = "info", data: Mapping[str, Any] | None = None) -> None:
        if data and data.get("step") == self.step and "train_loss" in data:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_keeps_a_checkpoint_and_the_same_command_ends_with_the_same_weights(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    write_rows(tmp_path / "rows.csv", 12)
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(RECIPE.format(base=tiny_model).replace("validation_every: 4", "validation_every: 100"))
    monkeypatch.setattr("tunery.cli.progress.terminal_progress", lambda: Signalling(number, 2))
    stopped = call(tmp_path / "a", "train", "run", recipe)
    assert stopped.code == code
    assert "the checkpoint of step " in stopped.err
    assert "the same command continues from there" in stopped.err
    assert "Traceback" not in stopped.err
    kept = [p.parent.name for p in (tmp_path / "a").glob("checkpoints/*/*/manifest.json")]
    assert kept in (["checkpoint-2"], ["checkpoint-3"])

    monkeypatch.setattr("tunery.cli.progress.terminal_progress", Silent)
    assert call(tmp_path / "a", "train", "run", recipe).code == 0
    assert call(tmp_path / "b", "train", "run", recipe).code == 0
    weights = [next((tmp_path / home).glob("adapters/*/adapter_model.safetensors")) for home in "ab"]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert not list((tmp_path / "a").glob("checkpoints/*"))
