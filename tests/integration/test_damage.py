"""Stored files that are no longer what they were: refused in words, or made again with a word."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.integration.test_cli_loop import RECIPE, Done, call, write_rows


class Version(NamedTuple):
    """A home with one registered version, copied for each test."""

    home: Path
    recipe: Path
    base: Path

    def call(self, *arguments: object) -> Done:
        """Call the command line."""
        return call(self.home, *arguments)

    def the(self, pattern: str) -> Path:
        """Return the one file that a pattern finds in the home."""
        (found,) = self.home.glob(pattern)
        return found

    def tuned(self, name: str) -> Path:
        """Return a file of the evaluation of the tuned model."""
        for manifest in self.home.glob("evaluations/*/manifest.json"):
            if json.loads(manifest.read_text())["about"]["subject"] == "tuned":
                return manifest.with_name(name)
        raise AssertionError("no evaluation of the tuned model")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Version:
    folder = tmp_path_factory.mktemp("damage")
    base = folder / "base"
    shutil.copytree(tiny_model, base)
    write_rows(folder / "rows.csv", 12)
    recipe = folder / "tiny.yaml"
    text = (
        RECIPE.format(base=base)
        .replace("epochs: 2", "epochs: 1")
        .replace("baseline: {shots: 2}", "baseline: {few_shot: false}")
    )
    recipe.write_text(text, encoding="utf-8")
    done = call(folder / "home", "run", recipe, "--json")
    assert done.code == 0, done.err
    return Version(folder / "home", recipe, base)


@pytest.fixture
def version(made: Version, tmp_path: Path) -> Iterator[Version]:
    """Give each test the home as the run left it, at its own place, and put the base back afterwards."""
    kept = tmp_path / "base"
    shutil.copytree(made.base, kept)
    shutil.copytree(made.home, tmp_path / "home")
    yield made._replace(home=tmp_path / "home")
    shutil.rmtree(made.base)
    shutil.copytree(kept, made.base)


def flip(path: Path) -> None:
    """Change one bit in the middle and put the times back, as a disk does that forgets."""
    stat, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def remove(path: Path) -> None:
    path.unlink()


def link(path: Path) -> None:
    moved = path.parent.parent / "elsewhere"
    path.rename(moved)
    path.symlink_to(moved)


def add_beside(path: Path) -> None:
    path.with_name("adapter_model.bin").write_bytes(b"a pickle")


DAMAGES = (flip, truncate, zero, empty, remove, link, add_beside)
ADAPTER = ("adapter_model.safetensors", "adapter_config.json")


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ADAPTER)
def test_an_adapter_that_changed_is_refused_with_the_files_name(
    version: Version, tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    damage(version.the(f"adapters/*/{name}"))
    shown = "adapter_model.bin" if damage is add_beside else name
    for command in (
        ("registry", "export", "tiny@1", tmp_path / "out"),
        (
            "evaluate",
            "run",
            version.recipe,
            "--model",
            "tiny@1",
            "--test",
            version.recipe.with_name("rows.csv"),
        ),
        ("verify", "tiny@1"),
    ):
        done = version.call(*command)
        assert (done.code, shown in done.out + done.err, "Traceback" in done.err) == (4, True, False), command


@pytest.mark.parametrize("damage", [flip, remove])
def test_a_run_makes_again_what_is_damaged_and_says_so(
    version: Version, damage: Callable[[Path], None]
) -> None:
    before = {p.name: p.read_bytes() for p in version.home.glob("adapters/*/*") if p.is_file()}
    for pattern in ("adapters/*/adapter_model.safetensors", "datasets/*/examples.parquet"):
        damage(version.the(pattern))
    damage(version.tuned("predictions.jsonl"))
    done = version.call("run", version.recipe)
    assert done.code == 0, done.err
    assert done.err.count("it is made again") == 3
    weights = version.the("adapters/*/adapter_model.safetensors")
    assert weights.read_bytes() == before[weights.name]
    assert version.call("verify", "all").code == 0


def test_a_run_whose_adapter_folder_is_gone_trains_it_again(version: Version) -> None:
    shutil.rmtree(version.the("adapters/*/adapter_config.json").parent)
    assert version.call("verify", "tiny@1").code == 4
    done = version.call("run", version.recipe)
    assert (done.code, "adapter-" in done.err, "made again" in done.err) == (0, True, True)
    assert version.call("verify", "tiny@1").code == 0


@pytest.mark.parametrize(
    "name", ["model.safetensors", "tokenizer.json", "chat_template.jinja", "config.json"]
)
def test_a_base_that_changed_is_not_taken_for_what_a_version_was_trained_on(
    version: Version, name: str
) -> None:
    path = version.base / name
    if name == "model.safetensors":
        flip(path)
    else:
        path.write_text(path.read_text() + " ")
    done = version.call("verify", "tiny@1")
    assert (done.code, name in done.out) == (4, True)
    done = version.call(
        "evaluate", "run", version.recipe, "--model", "tiny@1", "--test", version.recipe.with_name("rows.csv")
    )
    assert (done.code, "was trained on base" in done.err, "Traceback" in done.err) == (2, True, False)
    # A run that would meet this champion at its end is refused before its baseline.
    evaluations = sorted(version.home.glob("evaluations/*"))
    done = version.call("run", version.recipe, "train.epochs=2")
    assert (done.code, "is not what was recorded" in done.err, "Traceback" in done.err) == (4, True, False)
    assert sorted(version.home.glob("evaluations/*")) == evaluations
