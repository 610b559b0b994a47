"""Streamed text is final: whole characters, no piece of a stop string, nothing lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunery.model.tokenizer import ChatTokenizer, load_tokenizer
from tunery.serve.engines.embedded.text_stream import TextStream


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> ChatTokenizer:
    return load_tokenizer(tiny_model)


@given(text=st.text(max_size=40), stop=st.lists(st.text(min_size=1, max_size=4), max_size=3))
def test_pieces_join_to_the_text_before_the_first_stop_string(
    tokenizer: ChatTokenizer, text: str, stop: list[str]
) -> None:
    stream = TextStream(tokenizer, stop)
    pieces = []
    ids = tokenizer.hf.encode(text, add_special_tokens=False)
    decoded = tokenizer.decode(ids)
    for token in ids:
        pieces.append(stream.push(token))
        if stream.stopped:
            break
    pieces.append(stream.finish())
    cuts = [at for at in map(decoded.find, stop) if at >= 0]
    first_complete = min((decoded.find(s) + len(s) for s in stop if s in decoded), default=None)
    joined = "".join(pieces)
    assert joined == stream.text
    assert not any(s in joined for s in stop)
    if not cuts:
        assert joined == decoded
    else:
        # Text may end at whichever stop string was complete first, or at an earlier one that overlaps it.
        assert first_complete is not None
        assert decoded.startswith(joined)
        assert len(joined) <= first_complete


@given(text=st.text(alphabet="é🙂漢a", min_size=1, max_size=12))
def test_no_piece_holds_half_a_character(tokenizer: ChatTokenizer, text: str) -> None:
    stream = TextStream(tokenizer, ())
    for token in tokenizer.encode(text):
        assert "\ufffd" not in stream.push(token)
    assert stream.finish() == ""
    assert stream.text == text


def test_a_stop_string_across_tokens_is_never_streamed_in_part(tokenizer: ChatTokenizer) -> None:
    stream = TextStream(tokenizer, ["STOP"])
    pieces = [stream.push(tokenizer.hf.convert_tokens_to_ids(c)) for c in "aSTaSTO"]
    assert pieces == ["a", "", "", "STa", "", "", ""]
    assert stream.push(tokenizer.hf.convert_tokens_to_ids("P")) == ""
    assert stream.stopped
    assert stream.finish() == ""
    assert stream.text == "aSTa"


def test_what_could_have_become_a_stop_string_comes_out_at_the_end(tokenizer: ChatTokenizer) -> None:
    stream = TextStream(tokenizer, ["STOP"])
    for character in "aST":
        stream.push(tokenizer.hf.convert_tokens_to_ids(character))
    assert stream.finish() == "ST"


def test_an_incomplete_character_at_the_end_is_shown_as_such(tokenizer: ChatTokenizer) -> None:
    stream = TextStream(tokenizer, ())
    for token in tokenizer.encode("🙂")[:2]:
        assert stream.push(token) == ""
    assert set(stream.finish()) == {"\ufffd"}
