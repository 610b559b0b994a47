"""Filters say exactly why an example goes, and count tokens as training will."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunery.core.engine import Tokenizer
from tunery.core.example import Example, Message
from tunery.data.config import CleanConfig
from tunery.data.filters.filters import filters
from tunery.data.filters.length import LengthFilter
from tunery.data.filters.same_answers import SamePairFilter
from tunery.data.filters.tokens import TokenFilter, token_length
from tunery.model.render import render
from tunery.model.tokenizer import load_tokenizer


def example(
    prompt: str, answer: str, *, rejected: str | None = None, system: str | None = "Be kind."
) -> Example:
    turns = (Message(role="user", content=prompt), Message(role="assistant", content=answer))
    start = (Message(role="system", content=system),) if system else ()
    return Example(id="ex-1", messages=(*start, *turns), rejected=rejected, group="g")


def reasons(found: list[object]) -> list[str | None]:
    return [None if drop is None else drop[0] for drop in found]  # type: ignore[index]


def test_lengths_are_counted_without_the_system_turn() -> None:
    step = LengthFilter(inputs=(3, 5), outputs=(2, 4))
    given = [("abc", "ab"), ("abcde", "abcd"), ("ab", "ab"), ("abcdef", "ab"), ("abc", "a"), ("abc", "abcde")]
    assert reasons(list(step.judge([example(p, a) for p, a in given]))) == [
        None,
        None,
        "input_too_short",
        "input_too_long",
        "output_too_short",
        "output_too_long",
    ]
    (drop,) = step.judge([example("abcdef", "ab")])
    assert drop is not None
    assert drop.detail == "input of 6 characters, at most 5 allowed"


def test_what_cleaning_left_empty_goes() -> None:
    step = LengthFilter(inputs=(1, None), outputs=(1, None))
    assert reasons(list(step.judge([example("", "a"), example("a", "")]))) == ["empty_input", "empty_output"]


def test_a_pair_of_equal_answers_goes() -> None:
    found = SamePairFilter().judge([example("q", "a", rejected="a"), example("q", "a", rejected="b")])
    assert reasons(list(found)) == ["same_answers", None]


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Tokenizer:
    return load_tokenizer(tiny_model)


def test_the_length_is_that_of_the_rendered_conversation(tokenizer: Tokenizer) -> None:
    one = example("When will my card arrive?", "card arrival")
    assert token_length(one, tokenizer) == len(render(tokenizer, one.messages).ids)  # type: ignore[arg-type]
    pair = example("When will my card arrive?", "card", rejected="card arrival")
    assert token_length(pair, tokenizer) == token_length(one, tokenizer)


@pytest.mark.parametrize("limit", [30, 120, 400])
def test_the_shortcut_never_changes_the_verdict(tokenizer: Tokenizer, limit: int) -> None:
    texts = ["Where is my card? " * n for n in (1, 2, 3, 5, 8, 13, 21)] + ["žluťoučký kůň 漢字 🙂 " * 4]
    rows = [example(t, "card arrival", system=s) for t in texts for s in (None, "Be kind.")]
    verdicts = TokenFilter(tokenizer, limit).judge(rows)
    assert [v is not None for v in verdicts] == [token_length(r, tokenizer) > limit for r in rows]
    assert {v.reason for v in verdicts if v} <= {"too_long"}


def test_a_conversation_that_the_template_refuses_goes_with_its_words() -> None:
    from tunery.core.errors import ConfigError

    class Strict:
        stop_ids: frozenset[int] = frozenset()

        def render_prompt(self, messages: object) -> tuple[int, ...]:
            raise ConfigError("roles must alternate")

        def encode(self, text: str) -> tuple[int, ...]:
            return ()

        def decode(self, ids: object) -> str:
            return ""

    (drop,) = TokenFilter(Strict(), 100).judge([example("a", "b")])
    assert drop == ("refused_by_template", "roles must alternate")


def test_tokens_are_looked_at_only_with_a_tokenizer_and_a_limit(tokenizer: Tokenizer) -> None:
    assert len(filters(CleanConfig(), None, 100)) == len(filters(CleanConfig(), tokenizer, None)) == 2
    assert len(filters(CleanConfig(), tokenizer, 100)) == 3
