"""Base models are found, checked and hashed; pickles never get in."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tunery.core.errors import ConfigError, NotFoundError
from tunery.model.bases import describe_base, resolve_base


def copy_of(model: Path, to: Path) -> Path:
    shutil.copytree(model, to)
    return to


def test_a_folder_is_described_by_what_is_in_it(tiny_model: Path, tmp_path: Path) -> None:
    one = describe_base(tiny_model, name="one")
    two = describe_base(copy_of(tiny_model, tmp_path / "b"), name="two")
    assert one.sha256 == two.sha256
    assert one.parameters > 10_000


def test_changed_weights_change_the_hash(tiny_model: Path, tmp_path: Path) -> None:
    folder = copy_of(tiny_model, tmp_path / "b")
    before = describe_base(folder, name="b").sha256
    weights = folder / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    assert describe_base(folder, name="b").sha256 != before


@pytest.mark.parametrize("name", ["pytorch_model.bin", "evil.pkl", "optimizer.pt"])
def test_a_folder_with_a_pickle_is_refused(tiny_model: Path, tmp_path: Path, name: str) -> None:
    folder = copy_of(tiny_model, tmp_path / "b")
    (folder / name).write_bytes(b"\x80\x04.")
    with pytest.raises(ConfigError, match=f"{name}: a pickle can run code"):
        describe_base(folder, name="b")


def test_all_that_is_missing_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        describe_base(tmp_path, name="empty")
    for missing in ("config.json", "safetensors", "tokenizer.json"):
        assert missing in caught.value.message


def test_weights_that_are_no_safetensors_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    folder = copy_of(tiny_model, tmp_path / "b")
    (folder / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(ConfigError, match="not a readable safetensors file"):
        describe_base(folder, name="b")


def test_an_unknown_name_says_what_a_base_can_be(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such folder"):
        resolve_base("smollm-typo", tmp_path)


def test_a_hub_id_needs_its_revision(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="name the revision"):
        resolve_base("org/model", tmp_path)


def test_a_hub_id_that_is_not_here_is_not_found_offline(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="not in the local cache"):
        resolve_base("org/model@main", tmp_path)
