"""A text is called too long only where tokenising it would find it too long."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tests.tiny.build import CORPUS
from tunery.core.errors import ConfigError
from tunery.core.example import Message
from tunery.model.token_length import token_length_of
from tunery.model.tokenizer import load_tokenizer


def trained(
    *, normalizer: Any = None, pre: Any = None, added: tuple[AddedToken, ...] = (), byte_level: bool = True
) -> PreTrainedTokenizerFast:
    """A BPE tokenizer whose longest words are runs of spaces, dashes and accented letters."""
    bpe = Tokenizer(models.BPE(unk_token=None if byte_level else "<unk>", fuse_unk=not byte_level))
    if normalizer is not None:
        bpe.normalizer = normalizer
    split = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bpe.pre_tokenizer = (
        pre_tokenizers.Sequence([pre, split])
        if pre and byte_level
        else (split if byte_level else pre_tokenizers.WhitespaceSplit())
    )
    bpe.decoder = decoders.ByteLevel()
    corpus = [*CORPUS, " " * 24, "-" * 24, "é" * 8, "각" * 8] * 4
    bpe.train_from_iterator(
        corpus,
        trainers.BpeTrainer(
            vocab_size=700,
            special_tokens=["<unk>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    hf = PreTrainedTokenizerFast(tokenizer_object=bpe, clean_up_tokenization_spaces=False)
    hf.add_tokens(list(added))
    return hf


EXACT = {
    "bytes": trained(),
    "composed first": trained(normalizer=normalizers.NFC()),
    "digits apart": trained(pre=pre_tokenizers.Digits(individual_digits=True)),
    "spaces marked": trained(normalizer=normalizers.Replace(" ", "▁")),
}
texts = st.text(max_size=60) | st.text(" -é각\u1100\u1161\u11a8e\u0301", max_size=300)


@pytest.mark.parametrize("name", EXACT)
@given(text=texts)
@settings(max_examples=60, deadline=None)
def test_no_text_has_fewer_tokens_than_the_bound_says(name: str, text: str) -> None:
    hf = EXACT[name]
    bound = token_length_of(hf)
    assert bound.exact
    assert len(hf.encode(text, add_special_tokens=False)) >= bound.fewest_tokens(len(text.encode()))


def test_the_bound_is_reached_so_that_it_is_not_looser_than_need_be() -> None:
    hf = EXACT["bytes"]
    bound = token_length_of(hf)
    text = next(w for w in hf.get_vocab() if len(w) == bound.bytes).replace("Ġ", " ")
    assert len(hf.encode(text, add_special_tokens=False)) == 1 == bound.fewest_tokens(bound.bytes)


@pytest.mark.parametrize(
    "hf",
    [
        trained(normalizer=normalizers.Strip()),
        trained(normalizer=normalizers.Replace("a", "")),
        trained(pre=pre_tokenizers.Split(" ", "removed")),
        trained(added=(AddedToken("<|user|>", rstrip=True),)),
        trained(byte_level=False),
    ],
    ids=["strips", "drops a letter", "drops spaces", "takes spaces along", "one token for what is unknown"],
)
def test_a_tokenizer_that_may_drop_text_has_no_exact_bound(hf: PreTrainedTokenizerFast) -> None:
    bound = token_length_of(hf)
    assert not bound.exact
    assert bound.bytes >= 256


def test_a_prompt_over_the_window_is_refused_without_being_tokenised(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = load_tokenizer(tiny_model)
    longest = tokenizer.token_length.bytes
    turns = [Message(role="user", content="word " * 200_000)]

    def never(*_: object, **__: object) -> list[int]:
        raise AssertionError("a text that cannot fit was tokenised")

    fits = tokenizer.encode("x" * 40, most=10)
    assert len(fits) > 10, "one that may fit is tokenised, and whoever asked counts"
    monkeypatch.setattr(tokenizer.hf, "encode", never, raising=False)
    for refuse in (
        lambda: tokenizer.render_prompt(turns, most=511),
        lambda: tokenizer.encode("x" * (511 * longest + 1), most=511),
    ):
        with pytest.raises(ConfigError, match="context window of 512 tokens"):
            refuse()
