"""Paths that are OpenAI's and not ours: which they are, as the client's own source names them."""

from __future__ import annotations

import re
from pathlib import Path

import openai.resources
import pytest

from tunery.api.unserved import known_elsewhere

SERVED = {
    "batches",
    "chat",
    "completions",
    "embeddings",
    "files",
    "fine_tuning",
    "models",
    "responses",
    "uploads",
}


def test_every_noun_that_the_client_asks_for_is_served_or_known_not_to_be() -> None:
    root = Path(openai.resources.__file__).parent
    sources = [path.read_text("utf-8") for path in root.rglob("*.py")]
    nouns = {noun for text in sources for noun in re.findall(r'"/([a-z_]{2,})', text)}
    assert nouns >= SERVED | {"responses", "embeddings", "vector_stores"}
    assert {noun for noun in nouns if not known_elsewhere(f"/v1/{noun}")} == SERVED


@pytest.mark.parametrize("path", ["/v1/response", "/v1/chat/completion", "/responses", "/v1", "/v1/files/x"])
def test_a_misspelt_path_is_no_part_of_that(path: str) -> None:
    assert not known_elsewhere(path)


@pytest.mark.parametrize("path", ["/v1/fine_tuning/checkpoints/c/permissions", "/v1/evals/e/runs"])
def test_longer_paths_are_known_too(path: str) -> None:
    assert known_elsewhere(path)
