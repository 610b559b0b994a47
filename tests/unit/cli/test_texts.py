"""Tokens and vectors of texts from the command line are those of the server."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.fixtures_cli import Tunery
from tests.tiny.encoder import build_encoder
from tunery.model.encoder import load_encoder_folder
from tunery.model.tokenizer import load_tokenizer


def test_tokens_are_those_of_the_base(tunery: Tunery, tiny_model: Path) -> None:
    found = tunery("tokens", "the red door", "é", "--base", tiny_model, "--json").json
    tokenizer = load_tokenizer(tiny_model)
    assert [f["tokens"] for f in found] == [list(tokenizer.encode(t)) for t in ("the red door", "é")]
    assert [f["count"] for f in found] == [len(f["token_strs"]) for f in found]
    assert tunery("tokens", "the", "--base", tiny_model).out.split()[:2] == ["tokens", "pieces"]


def test_vectors_are_those_of_the_encoder(tunery: Tunery, tmp_path: Path) -> None:
    folder = build_encoder(tmp_path / "tiny-bert")
    texts = ("where is my card?", "i lost it")
    found = tunery("embed", *texts, "--encoder", folder, "--json").json
    np.testing.assert_allclose([f["embedding"] for f in found], load_encoder_folder(folder)(texts), atol=1e-6)
    shown = tunery("embed", *texts, "--encoder", folder).out
    assert "like 1" in shown
    assert "1.000" in shown
    assert tunery("embed", "a", "--encoder", "nowhere").code == 2
