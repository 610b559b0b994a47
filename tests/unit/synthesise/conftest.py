"""A dataset version of real rows, and a teacher on a socket."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.synthesise.teacher import KEY, Teacher, serving
from tunery.data.build import build_dataset
from tunery.data.config import DataConfig
from tunery.store.dataset_files import read_examples
from tunery.store.workspace import Workspace
from tunery.synthesise.synthesise import Material

TOPICS = {
    "card arrival": "when will the {} card that you sent me arrive",
    "exchange rate": "what is the {} rate for changing money today",
    "top up failed": "why did my {} top up not go through this time",
}
KINDS = re.findall(
    r"\w+",
    "blue green second first new old virtual plastic metal golden silver travel student family business "
    "personal monthly yearly weekly daily foreign local urgent final other",
)


def real_rows() -> str:
    """Return a CSV file's text: 75 questions of three classes."""
    lines = [f"{text.format(kind)},{label}" for kind in KINDS for label, text in TOPICS.items()]
    return "\n".join(["text,category", *lines]) + "\n"


@pytest.fixture
def data_config(tmp_path: Path) -> DataConfig:
    """Settings that read the real rows."""
    (tmp_path / "real.csv").write_text(real_rows(), encoding="utf-8")
    return DataConfig.model_validate(
        {
            "sources": [{"path": "real.csv", "columns": {"input": "text", "output": "category"}}],
            # Rows of one template resemble each other; here each must stand alone.
            "clean": {"near_duplicates": "group", "near_threshold": 0.97, "group_threshold": 0.95},
            "split": {"test": 9, "validation": 6},
        }
    )


@pytest.fixture
def material(workspace: Workspace, tmp_path: Path, data_config: DataConfig) -> Material:
    """What rows are made from."""
    version = build_dataset(data_config, workspace, name="real", base_dir=tmp_path)
    folder = workspace.artifacts.path("datasets", version.id)
    return Material(
        version,
        read_examples(folder, "train"),
        [*read_examples(folder, "validation"), *read_examples(folder, "test")],
        "Names what a customer of a bank wants.",
        data_config.clean.group_threshold,
    )


@pytest.fixture
def teacher(monkeypatch: pytest.MonkeyPatch) -> Iterator[Teacher]:
    """A running teacher, its key in the environment."""
    monkeypatch.setenv("TEACHER_KEY", KEY)
    with serving(Teacher()) as running:
        yield running
