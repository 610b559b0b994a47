"""A base that changes on the disk: what answers answers as before, and nothing is mixed in silently."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.integration.live_api import BASE, live
from tunery.core.errors import DamagedError
from tunery.model.bases import check_base, describe_base
from tunery.model.load import load_for_packing
from tunery.store.workspace import Workspace

QUESTION = {
    "messages": [{"role": "user", "content": "is my card in the post"}],
    "max_tokens": 4,
    "temperature": 0,
    "logprobs": True,
}


@pytest.fixture
def base(tiny_model: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiny_model, tmp_path / "base")
    return tmp_path / "base"


def spoil(path: Path) -> None:
    """Overwrite the weights in place, as a copy over them does."""
    with path.open("r+b") as stream:
        stream.seek(path.stat().st_size // 2)
        stream.write(bytes(4096))


def test_weights_that_are_loaded_do_not_change_with_their_file(base: Path) -> None:
    model = load_for_packing(base)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    spoil(base / "model.safetensors")
    assert all(tensor.equal(before[name]) for name, tensor in model.state_dict().items())


def test_each_file_that_changed_is_named(base: Path) -> None:
    info = describe_base(base, name="b")
    check_base(info)
    spoil(base / "model.safetensors")
    (base / "tokenizer_config.json").unlink()
    (base / "added.json").write_text("{}")
    with pytest.raises(DamagedError) as caught:
        check_base(info)
    for words in (
        "model.safetensors changed",
        "tokenizer_config.json is missing",
        "added.json was not there",
    ):
        assert words in caught.value.message
    shutil.rmtree(base)
    with pytest.raises(DamagedError, match="is gone"):
        check_base(info)


def test_a_running_server_answers_with_the_weights_that_it_loaded(workspace: Workspace, base: Path) -> None:
    with live(workspace, base) as server, server.http() as http:
        before = http.post("/v1/chat/completions", json={"model": BASE, **QUESTION}).json()["choices"]
        spoil(base / "model.safetensors")
        after = http.post("/v1/chat/completions", json={"model": BASE, **QUESTION}).json()["choices"]
    assert after == before


def test_a_base_that_changed_before_it_was_opened_is_refused(
    workspace: Workspace, base: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with live(workspace, base) as server, server.http() as http:
        spoil(base / "model.safetensors")
        answer = http.post("/v1/chat/completions", json={"model": BASE, **QUESTION})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "damaged")
    assert str(base) not in answer.json()["error"]["message"], "where it lies is the operator's to know"
    assert "model.safetensors changed" in caplog.text
