"""``tunery registry export`` in the forms that other programs read, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import gguf
import pytest

from tests.fixtures_cli import Tunery, home, tunery
from tests.integration.test_whole_models import made
from tunery.store.workspace import Workspace

__all__ = ["home", "tunery"]  # fixtures


@pytest.fixture
def ref(tiny_model: Path, workspace: Workspace, tmp_path: Path) -> str:
    return made(tiny_model, tmp_path, workspace, "adapter")


def kinds(file: Path) -> set[str]:
    return {tensor.tensor_type.name for tensor in gguf.GGUFReader(str(file)).tensors}


def test_a_version_is_written_for_llama_cpp_and_other_words_are_named(
    tunery: Tunery, ref: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workspace: Workspace
) -> None:
    monkeypatch.setenv("TUNERY_HOME", str(workspace.root))
    command = ["registry", "export", ref]
    whole = tunery(
        *command, tmp_path / "q8", "--format", "gguf", "--quantise", "q8_0", "--no-check", "--json"
    )
    assert whole.code == 0, whole.err
    named = f"{ref.replace('@', '-')}-q8_0.gguf"
    assert whole.json["files"] == ["README.md", named]
    assert whole.json["whole_model"] is True
    assert whole.json["parity"] is None
    assert kinds(tmp_path / "q8" / named) == {"Q8_0", "F32"}

    adapter = tunery(*command, tmp_path / "lora", "--format", "gguf-adapter", "--no-check", "--json")
    assert adapter.code == 0, adapter.err
    assert adapter.json["whole_model"] is False
    fields = gguf.GGUFReader(str(tmp_path / "lora" / f"{ref.replace('@', '-')}-lora.gguf")).fields
    assert fields["general.type"].contents() == "adapter"

    assert tunery(*command, tmp_path / "no", "--format", "ggfu", "--json").code == 3
    assert "gguf" in tunery(*command, tmp_path / "no", "--format", "ggfu", "--json").error["message"]
    assert tunery(*command, tmp_path / "no", "--format", "gguf", "--quantise", "q9", "--json").code == 3
    odd = tunery(*command, tmp_path / "no", "--quantise", "q8_0", "--json")
    assert odd.code == 2
    assert "--quantise is for --format gguf and merged" in odd.error["message"]
    wrong = tunery(*command, tmp_path / "no", "--format", "merged", "--quantise", "q8_0", "--json")
    assert (wrong.code, "int8" in wrong.error["message"]) == (3, True)


def test_merged_weights_become_integers_once_they_are_measured(
    tunery: Tunery, ref: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workspace: Workspace
) -> None:
    monkeypatch.setenv("TUNERY_HOME", str(workspace.root))
    command = ["registry", "export", ref, tmp_path / "int8", "--format", "merged", "--quantise", "int8"]
    done = tunery(*command, "--margin", "1", "--json")
    assert done.code == 0, done.err
    assert done.json["parity"]["n"] > 0
    assert "compressed-tensors" in (tmp_path / "int8" / "config.json").read_text()
    assert [path.name for path in tmp_path.glob("int8*")] == ["int8"]  # what was measured is gone


def test_without_llama_cpp_nothing_is_measured_and_nothing_is_left(
    tunery: Tunery, ref: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workspace: Workspace
) -> None:
    monkeypatch.setenv("TUNERY_HOME", str(workspace.root))
    bare = tmp_path / "python"
    bare.write_text("#!/bin/sh\necho xllamacpp is not installed >&2\nexit 127\n")
    bare.chmod(0o755)
    called = tunery(
        "registry",
        "export",
        ref,
        tmp_path / "out",
        "--format",
        "gguf",
        "--engine",
        f"python={bare}",
        "--json",
    )
    assert called.code == 6
    assert "xllamacpp is not installed" in called.error["message"]
    assert not list(tmp_path.glob("out*"))
