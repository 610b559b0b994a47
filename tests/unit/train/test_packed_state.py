"""A checkpoint takes at most three times its adapter, and gives back the optimizer's state bit by bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.train.test_training import CONFIG, DATA, Killed, killed_when_sealed, train
from tunery.core.progress import Silent
from tunery.core.training import BaseModelInfo
from tunery.model.bases import describe_base
from tunery.train import packed_state
from tunery.train.packed_state import pack_state, unpacked_state


@pytest.fixture(scope="module")
def base(tiny_model: Path) -> BaseModelInfo:
    return describe_base(tiny_model, name="tiny")


@given(st.binary(max_size=4000), st.sampled_from([16, 20, 4096]))
def test_what_was_packed_comes_back(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, block: int
) -> None:
    folder = tmp_path_factory.mktemp("state")
    (folder / "optimizer.pt").write_bytes(content)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(packed_state, "_BLOCK", block)
        pack_state(folder)
        assert not (folder / "optimizer.pt").exists()
        with unpacked_state(folder) as found:
            assert (found / "optimizer.pt").read_bytes() == content
    assert [path.name for path in folder.iterdir()] == ["optimizer.pt.zst"]
    assert not list(folder.parent.glob(".unpacked-*"))


def test_a_checkpoint_of_an_earlier_version_is_read_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "optimizer.pt").write_bytes(b"as ever")
    with unpacked_state(tmp_path) as found:
        assert found == tmp_path


def test_a_checkpoint_takes_at_most_three_times_the_adapter(base: BaseModelInfo, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"rank": 256})
    with pytest.raises(Killed):
        train(base, tmp_path / "a", config=config, on_checkpoint=killed_when_sealed(9), progress=Silent())
    folder = tmp_path / "a" / "checkpoints" / "checkpoint-9"
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    adapter = sizes["adapter_model.safetensors"]
    assert adapter > 2e6
    assert sum(sizes.values()) <= 3 * adapter, sizes
    with unpacked_state(folder) as found:
        state = torch.load(found / "optimizer.pt", weights_only=True)
    moments = sum(t.numel() * 4 for each in state["state"].values() for t in each.values() if t.numel() > 1)
    assert moments == pytest.approx(2 * adapter, rel=0.01)  # all of Adam's state is there


def test_the_folders_of_a_training_hold_nothing_that_grows_with_the_steps_twice(
    base: BaseModelInfo, tmp_path: Path
) -> None:
    import json

    with pytest.raises(Killed):
        train(base, tmp_path / "a", data=DATA, on_checkpoint=killed_when_sealed(9), progress=Silent())
    folder = tmp_path / "a" / "checkpoints" / "checkpoint-9"
    state = json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
    assert len(state["log_history"]) <= 2
    assert len(json.loads((folder / "history.json").read_text(encoding="utf-8"))["history"]) >= 9
    assert not (folder / "README.md").exists()
