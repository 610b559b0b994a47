"""A token's bytes are its own: joined over any text they are the text, whatever the vocabulary is made of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tunery.model.token_bytes import TokenBytes
from tunery.model.tokenizer import load_tokenizer

TEXTS = ("Hello  world", " leading", "\ttab\n", "naïve 你好 🙂👩\u200d🔬", "", " ", "  ", "a", "\u2581")
PIECES = ("\u2581", "\u2581He", "llo", "\u2581world", "H", "e", "l", "o", "w", "r", "d", "a", "é")


def sentencepiece(decoder: Any, *, prepend: bool) -> PreTrainedTokenizerFast:
    """Llama-2's kind of vocabulary: pieces with a sign for the space, all other characters in bytes."""
    vocabulary = {"<unk>": 0, "</s>": 1}
    for piece in (*(f"<0x{b:02X}>" for b in range(256)), *PIECES):
        vocabulary.setdefault(piece, len(vocabulary))
    bpe = Tokenizer(models.BPE(vocabulary, [("l", "l")][:0], unk_token="<unk>", byte_fallback=True))
    steps = [normalizers.Prepend("\u2581")] if prepend else []
    bpe.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", "\u2581")])
    bpe.decoder = decoder
    return PreTrainedTokenizerFast(tokenizer_object=bpe, unk_token="<unk>", eos_token="</s>")


def llama() -> PreTrainedTokenizerFast:
    steps = [
        decoders.Replace("\u2581", " "),
        decoders.ByteFallback(),
        decoders.Fuse(),
        decoders.Strip(" ", 1, 0),
    ]
    return sentencepiece(decoders.Sequence(steps), prepend=True)


def gemma() -> PreTrainedTokenizerFast:
    steps = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    return sentencepiece(decoders.Sequence(steps), prepend=False)


def metaspace() -> PreTrainedTokenizerFast:
    vocabulary = {p: i for i, p in enumerate(("<unk>", "</s>", *PIECES))}
    bpe = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>"))
    bpe.pre_tokenizer = pre_tokenizers.Metaspace()
    bpe.decoder = decoders.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=bpe, unk_token="<unk>", eos_token="</s>")


def joined(hf: Any, ids: list[int]) -> bytes:
    shown = TokenBytes(hf)
    return b"".join(shown.shown(i, first=n == 0).raw for n, i in enumerate(ids))


def decoded(hf: Any, ids: list[int]) -> str:
    return str(hf.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


@pytest.mark.parametrize("make", [llama, gemma])
@pytest.mark.parametrize("text", TEXTS)
def test_bytes_of_sentencepiece_tokens_join_to_the_text(
    make: Callable[[], PreTrainedTokenizerFast], text: str
) -> None:
    hf = make()
    ids = hf.encode(text, add_special_tokens=False)
    assert joined(hf, ids).decode() == decoded(hf, ids)


def test_a_metaspace_decoder_leaves_out_the_first_space_only() -> None:
    hf = metaspace()
    he, world = hf.convert_tokens_to_ids(["\u2581He", "\u2581world"])
    for ids in ([he, world], [world, he], [world]):
        assert joined(hf, ids).decode() == decoded(hf, ids)


@pytest.fixture(scope="module")
def byte_level(tiny_model: Path) -> Any:
    return load_tokenizer(tiny_model).hf


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_bytes_of_byte_level_tokens_join_to_the_text(byte_level: Any, data: st.DataObject) -> None:
    hf = byte_level
    ids = data.draw(
        st.lists(st.integers(0, len(hf) - 1), max_size=12)
    )  # of any tokens: mostly no valid UTF-8
    assert joined(hf, ids).decode("utf-8", "replace") == decoded(hf, ids)
    text = data.draw(st.text(max_size=8))
    assert joined(hf, hf.encode(text, add_special_tokens=False)) == text.encode()


def test_special_and_added_tokens(tiny_model: Path) -> None:
    hf = load_tokenizer(tiny_model).hf
    hf.add_tokens([AddedToken("<tool_call>", special=False), AddedToken("é 你", special=False)])
    shown = TokenBytes(hf)
    for text in ("<tool_call>", "é 你"):
        token = hf.convert_tokens_to_ids(text)
        assert shown.shown(token).raw.decode("utf-8", "replace") == decoded(hf, [token])
    stop = hf.convert_tokens_to_ids("<|im_end|>")
    assert shown.shown(stop) == ("<|im_end|>", b"")
    assert shown.shown(len(hf) + 7) == ("", b"")  # vocabularies of models are padded


def test_the_embedded_bases_tokens(embedded_home: Path) -> None:
    hf = load_tokenizer(embedded_home / "models" / "smollm2-135m-instruct").hf
    for text in TEXTS:
        ids = hf.encode(text, add_special_tokens=False)
        assert joined(hf, ids) == text.encode()
    emoji = hf.encode("🙂", add_special_tokens=False)
    assert len(emoji) > 1
    assert TokenBytes(hf).shown(emoji[0]).raw in (b"\xf0", b"\xf0\x9f", b"\xf0\x9f\x99")
