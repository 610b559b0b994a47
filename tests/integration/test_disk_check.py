"""The disk is looked at before anything is computed, and what was said of it holds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_cli_loop import RECIPE, call, write_rows
from tunery.core.progress import Silent
from tunery.pipeline.context import RunContext
from tunery.pipeline.loop import train_recipe
from tunery.pipeline.recipe import load_recipe
from tunery.pipeline.stages import disk
from tunery.pipeline.stages.data import make_dataset
from tunery.store.left_overs import size_of
from tunery.store.workspace import Workspace


@pytest.fixture
def recipe(tmp_path: Path, tiny_model: Path) -> Path:
    write_rows(tmp_path / "rows.csv", 12)
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE.format(base=tiny_model).replace("rank: 4", "rank: 256"), encoding="utf-8")
    return path


@pytest.mark.parametrize("command", [("run",), ("train", "run")])
def test_too_little_room_is_said_before_anything_is_computed(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setattr(disk, "free_disk_bytes", lambda folder: 5_000_000)
    refused = call(tmp_path / "home", *command, recipe)
    assert refused.code == 6
    assert "3 checkpoints of up to 6 MB at once" in refused.err
    assert "5 MB are free" in refused.err
    assert "try: tunery gc" in refused.err
    assert not (tmp_path / "home" / "checkpoints").exists()
    assert not list((tmp_path / "home").glob("evaluations/*/*"))
    monkeypatch.setattr(disk, "free_disk_bytes", lambda folder: 40_000_000)
    assert call(tmp_path / "home", "train", "run", recipe).code == 0
    monkeypatch.setattr(disk, "free_disk_bytes", lambda folder: 5_000_000)
    assert call(tmp_path / "home", "train", "run", recipe).code == 0  # the adapter is there


def test_training_never_takes_more_than_was_said(
    recipe: Path, tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tunery.model.shape import read_shape
    from tunery.train import checkpoints

    context = RunContext(load_recipe(recipe, ("train.validation_every=1",)), workspace, tmp_path, Silent())
    dataset = make_dataset(context)
    shape = read_shape(Path(context.base.path), parameters=context.base.parameters)
    said = disk._disk_of(context.recipe.train, shape, dataset.splits["train"])
    seen: list[tuple[int, int]] = []
    unlink = Path.unlink

    def watched(path: Path, **options: bool) -> None:
        if path.name == "optimizer.pt":  # packed just now
            root = path.parents[1]
            seen.append((size_of(root), len(checkpoints.steps_in(root))))
        unlink(path, **options)

    monkeypatch.setattr(Path, "unlink", watched)
    sealed: list[int] = []

    def note(step: int, losses: Mapping[str, Any]) -> None:
        sealed.append(step)

    context.on_checkpoint = note
    done = train_recipe(context)
    assert len(sealed) == done.adapter.steps
    assert max(count for _, count in seen) in (2, 3)
    assert max(taken for taken, _ in seen) <= said.most - said.adapter
