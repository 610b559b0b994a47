"""A checkpoint is complete or it is not there."""

from __future__ import annotations

from pathlib import Path

from tunery.train import checkpoints


def make(root: Path, step: int, *, sealed: bool = True) -> Path:
    folder = root / f"checkpoint-{step}"
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(b"weights %d" % step)
    (folder / "training_args.bin").write_bytes(b"a pickle")
    if sealed:
        checkpoints.seal(folder)
    return folder


def test_the_newest_complete_checkpoint_is_resumed_from(tmp_path: Path) -> None:
    make(tmp_path, 9)
    newest = make(tmp_path, 10)
    assert checkpoints.newest(tmp_path) == newest


def test_a_checkpoint_without_manifest_is_removed(tmp_path: Path) -> None:
    whole, torn = make(tmp_path, 8), make(tmp_path, 16, sealed=False)
    assert checkpoints.newest(tmp_path) == whole
    assert not torn.exists()


def test_a_checkpoint_with_a_damaged_file_is_not_resumed_from(tmp_path: Path) -> None:
    whole, damaged = make(tmp_path, 8), make(tmp_path, 16)
    (damaged / "adapter_model.safetensors").write_bytes(b"weights")
    assert checkpoints.newest(tmp_path) == whole


def test_sealing_removes_the_pickled_arguments(tmp_path: Path) -> None:
    assert not (make(tmp_path, 1) / "training_args.bin").exists()


def test_only_the_named_steps_are_kept(tmp_path: Path) -> None:
    for step in (4, 8, 12):
        make(tmp_path, step)
    checkpoints.keep_only(tmp_path, {4, 12})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint-12", "checkpoint-4"]


def test_there_is_nothing_to_resume_from_at_first(tmp_path: Path) -> None:
    assert checkpoints.newest(tmp_path) is None


def test_a_checkpoint_whose_best_one_is_gone_is_not_gone_on_from(tmp_path: Path) -> None:
    steps = {8: 8, 12: 8, 16: 8}
    for step in steps:
        make(tmp_path, step)

    def best_of(folder: Path) -> int:
        return steps[checkpoints.step_of(folder)]

    assert checkpoints.newest(tmp_path, best_of=best_of) == tmp_path / "checkpoint-16"
    (tmp_path / "checkpoint-8" / "adapter_model.safetensors").write_bytes(b"weights 9")
    told: list[str] = []
    assert checkpoints.newest(tmp_path, best_of=best_of, tell=told.append) is None
    assert [line.partition(" is left out")[0] for line in told] == [
        "the checkpoint of step 16",
        "the checkpoint of step 12",
        "the checkpoint of step 8",
    ]
    assert "adapter_model.safetensors is not what was written" in told[0]


def test_a_checkpoint_that_was_half_written_is_removed_without_a_word(tmp_path: Path) -> None:
    make(tmp_path, 8, sealed=False)
    told: list[str] = []
    assert checkpoints.newest(tmp_path, tell=told.append) is None
    assert (told, list(tmp_path.iterdir())) == ([], [])
