"""Preflight refuses what would be discovered hours later."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tunery.core.errors import ConfigError
from tunery.core.example import Example, Message, example_id
from tunery.model.render import Rendered, render
from tunery.model.tokenizer import ChatTokenizer, load_tokenizer
from tunery.train.methods.method import TrainingRow
from tunery.train.methods.sft import METHOD, SftConfig
from tunery.train.preflight import Preflight, preflight


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> ChatTokenizer:
    return load_tokenizer(tiny_model)


def example(question: str, answer: str, *, weight: int = 1) -> Example:
    messages = (
        Message(role="user", content=question),
        Message.model_validate({"role": "assistant", "content": answer, "weight": weight}),
    )
    identity = example_id(messages)
    return Example(id=identity, messages=messages, group=identity)


EXAMPLES = [example(f"row {i}", f"answer {i}") for i in range(4)]


def rows_of(tokenizer: ChatTokenizer) -> list[TrainingRow]:
    return list(METHOD.rows(SftConfig(), tokenizer, EXAMPLES, []).train)


def changed(tokenizer: ChatTokenizer, change: Callable[[Rendered], Rendered]) -> list[TrainingRow]:
    return [TrainingRow(tuple(map(change, row.sequences))) for row in rows_of(tokenizer)]


def look(tokenizer: ChatTokenizer, rows: Sequence[TrainingRow], **changes: object) -> Preflight:
    options = {"max_tokens": 512, "serving_template_sha256": tokenizer.chat_template_sha256, **changes}
    return preflight(tokenizer, EXAMPLES[: len(rows)], rows, **options)  # type: ignore[arg-type]


def failed(result: Preflight) -> list[str]:
    return [check.name for check in result.checks if not check.passed]


def test_good_rows_pass_every_check(tokenizer: ChatTokenizer) -> None:
    result = look(tokenizer, rows_of(tokenizer))
    assert result.passed
    assert [c.name for c in result.checks] == [
        "stop_token_trained",
        "has_trained_tokens",
        "not_truncated",
        "serving_template",
        "answer_as_given",
    ]
    result.require()


def test_a_mask_that_misses_the_stop_token_is_refused(tokenizer: ChatTokenizer) -> None:
    rows = changed(tokenizer, lambda r: r._replace(mask=(*r.mask[:-1], 0)))
    result = look(tokenizer, rows)
    assert failed(result) == ["stop_token_trained"]
    with pytest.raises(ConfigError, match="would never learn to stop"):
        result.require()


def test_a_row_that_trains_nothing_is_refused_and_named(tokenizer: ChatTokenizer) -> None:
    silent = example("row", "answer", weight=0)
    result = preflight(
        tokenizer,
        [silent],
        [TrainingRow(render(tokenizer, silent.messages))],
        max_tokens=512,
        serving_template_sha256=tokenizer.chat_template_sha256,
    )
    assert "has_trained_tokens" in failed(result)
    assert silent.id in next(c.sentence for c in result.checks if c.name == "has_trained_tokens")


def test_rows_that_would_be_cut_are_counted_and_named(tokenizer: ChatTokenizer) -> None:
    rows = rows_of(tokenizer)
    result = look(tokenizer, rows, max_tokens=rows[0].tokens - 1)
    check = next(c for c in result.checks if c.name == "not_truncated")
    assert not check.passed
    assert check.rows == 4


def test_another_serving_template_is_refused(tokenizer: ChatTokenizer) -> None:
    result = look(tokenizer, rows_of(tokenizer), serving_template_sha256="0" * 64)
    assert failed(result) == ["serving_template"]


def test_rows_tokenised_otherwise_than_serving_are_refused(tokenizer: ChatTokenizer) -> None:
    rows = changed(
        tokenizer,
        lambda r: r._replace(ids=(r.ids[0], *r.ids), mask=(0, *r.mask), prompt_tokens=r.prompt_tokens + 1),
    )
    assert failed(look(tokenizer, rows)) == ["serving_template"]


def test_a_template_that_writes_into_the_answer_is_refused(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    # As templates of reasoning models do: an empty thought before the last answer.
    tokenizer.hf.chat_template = tokenizer.hf.chat_template.replace(
        "m['content'] +", "('(thinks)' if m['role'] == 'assistant' else '') + m['content'] +"
    )
    assert failed(look(tokenizer, rows_of(tokenizer))) == ["answer_as_given"]


def test_samples_mark_exactly_the_trained_tokens(tokenizer: ChatTokenizer) -> None:
    sample = look(tokenizer, rows_of(tokenizer)).samples[0]
    assert "".join(t.text for t in sample.tokens if t.trained) == "answer 0<|im_end|>"


def test_preference_pairs_are_not_silently_trained_as_answers(tokenizer: ChatTokenizer) -> None:
    pair = EXAMPLES[0].with_(rejected="worse")
    with pytest.raises(ConfigError, match="1 of 4 rows are preference pairs, and supervised fine-tuning"):
        METHOD.rows(SftConfig(), tokenizer, EXAMPLES[1:], [pair])
