"""A dataset version of real and synthetic rows: nothing synthetic is ever held out, nor what it tells of."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.synthesise.test_synthesise import Make, make
from tunery.core.dataset import DatasetVersion
from tunery.core.example import SPLIT_HINT, Example
from tunery.core.splits import SplitName
from tunery.data.build import build_dataset
from tunery.data.config import DataConfig
from tunery.store.dataset_files import read_dropped, read_examples
from tunery.store.workspace import Workspace
from tunery.synthesise.seeds import is_synthetic
from tunery.synthesise.synthesise import Material
from tunery.text.normalise import prompt_fingerprint

__all__ = ["make"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
Build = Callable[..., DatasetVersion]


@pytest.fixture
def build(workspace: Workspace, tmp_path: Path, data_config: DataConfig) -> Build:
    """Build a version from the real rows and a file of synthetic ones."""

    def call(*, seed: int = 0, **clean: Any) -> DatasetVersion:
        values = data_config.model_dump(mode="json")
        values["sources"].append({"path": "made.jsonl"})
        values["split"]["seed"] = seed
        values["clean"] |= clean
        config = DataConfig.model_validate(values)
        return build_dataset(config, workspace, name="grown", base_dir=tmp_path)

    return call


def rows_of(workspace: Workspace, version: DatasetVersion) -> dict[SplitName, list[Example]]:
    folder = workspace.artifacts.path("datasets", version.id)
    return {split: read_examples(folder, split) for split in SPLITS}


def write_row(path: Path, text: str, label: str, seeds: list[Example]) -> None:
    """Add a row as the teacher's would be written, past the filter."""
    row = {
        "messages": [{"role": "user", "content": text}, {"role": "assistant", "content": label}],
        "metadata": {SPLIT_HINT: "train", "seed_prompts": [prompt_fingerprint(e) for e in seeds]},
    }
    with path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(row) + "\n")


@pytest.mark.parametrize("method", ["label", "paraphrase", "self_instruct"])
def test_synthetic_rows_are_trained_on_and_the_held_out_rows_stay_the_same(
    method: str, make: Make, build: Build, material: Material, workspace: Workspace
) -> None:
    made = make(method=method, rows=30)
    grown = rows_of(workspace, build())
    assert sum(map(is_synthetic, grown["train"])) == made.rows == 30
    held_out = [*grown["validation"], *grown["test"]]
    assert not any(map(is_synthetic, held_out))
    assert [e.id for e in held_out] == [e.id for e in material.held_out]


def test_a_real_row_like_a_synthetic_one_is_drawn_into_training(
    build: Build, material: Material, workspace: Workspace, tmp_path: Path
) -> None:
    test_row = material.held_out[-1]
    near = test_row.prompt[-1].content + " x"
    write_row(tmp_path / "made.jsonl", near, test_row.reference, [])
    grown = rows_of(workspace, build(group_threshold=0.8))
    train = {e.id: e for e in grown["train"]}
    (synthetic,) = (e for e in train.values() if is_synthetic(e))
    assert synthetic.group == train[test_row.id].group, "their group is in one split, and that is training"
    groups = {e.group for split in ("validation", "test") for e in grown[split]}  # type: ignore[index]
    assert synthetic.group not in groups


def test_a_synthetic_row_goes_once_its_seed_is_held_out(
    make: Make, build: Build, workspace: Workspace
) -> None:
    make(method="paraphrase", rows=60, rows_per_request=1)
    version = build(seed=5)
    grown = rows_of(workspace, version)
    held = {prompt_fingerprint(e) for split in ("validation", "test") for e in grown[split]}  # type: ignore[index]
    assert version.dropped["seed_held_out"] > 0, "the other draw holds out what the teacher was shown"
    kept = [e for e in grown["train"] if is_synthetic(e)]
    assert len(kept) == 60 - version.dropped["seed_held_out"]
    assert not any(set(e.metadata["seed_prompts"]) & held for e in kept)
    dropped = read_dropped(workspace.artifacts.path("datasets", version.id), per_reason=1)
    assert "which is held out" in dropped[0].detail


def test_a_file_that_the_recipe_lists_already_can_grow(
    make: Make, build: Build, material: Material, workspace: Workspace
) -> None:
    first = make(rows=12)
    version = build()
    grown = material._replace(version=version, train=rows_of(workspace, version)["train"])
    again = make(rows=18, material_now=grown)
    assert again.identity == first.identity, "synthetic rows are no seeds"
    assert (again.rows, again.rejected) == (18, {}), "nor do they count as repeats of themselves"
    assert again.bought < again.requests, "the first twelve are not paid for again"
