"""Quality scores: the formulas, the table, and what is told without a model."""

import math
from pathlib import Path

import numpy as np
import pytest

from tests.unit.data.select.test_select import columns, questions
from tunery.core.engine import Score
from tunery.core.errors import ConfigError, NotFoundError
from tunery.data.select.scores import (
    QUALITY,
    quality_score,
    quality_scores,
    read_quality,
    row_quality,
    write_quality,
)
from tunery.data.select.signals import intact, signals
from tunery.text.features import hashed_tfidf


def test_difficulty_is_the_ratio_of_the_two_losses() -> None:
    row = row_quality("ex-1", given=Score(-3.0, 4), alone=Score(-12.0, 4))
    assert (row.loss, row.loss_alone, row.ifd) == (0.75, 3.0, 0.25)
    assert row.perplexity == pytest.approx(math.exp(0.75))


def test_losses_of_nothing_and_of_everything_stay_numbers() -> None:
    certain = row_quality("ex-1", given=Score(0.0, 2), alone=Score(0.0, 2))
    assert (certain.perplexity, certain.ifd) == (1.0, 1.0)
    hopeless = row_quality("ex-2", given=Score(-1e6, 2), alone=Score(-1.0, 2))
    assert math.isfinite(hopeless.perplexity)
    assert math.isfinite(hopeless.ifd)


@pytest.mark.parametrize(("given", "alone"), [(3, 4), (0, 0)])
def test_likelihoods_of_different_tokens_are_no_quality(given: int, alone: int) -> None:
    with pytest.raises(ValueError, match="tokens scored"):
        row_quality("ex-1", Score(-1.0, given), Score(-1.0, alone))


def test_merit_rises_with_difficulty_until_the_prompt_misleads() -> None:
    rows = [
        row_quality(str(i), Score(-x, 1), Score(-1.0, 1)) for i, x in enumerate((0.1, 0.6, 0.99, 1.0, 1.5))
    ]
    ordered = sorted(rows, key=quality_score)
    assert [r.id for r in ordered] == ["4", "3", "0", "1", "2"]
    scores = quality_scores(rows, ["1", "unknown"])
    assert scores[0] == pytest.approx(0.6)
    assert math.isnan(scores[1])


def test_the_table_gives_back_what_was_written(tmp_path: Path) -> None:
    rows = [row_quality(f"ex-{i}", Score(-i / 3, 3), Score(-i, 3)) for i in range(1, 5)]
    write_quality(rows, tmp_path)
    assert read_quality(tmp_path) == rows
    with pytest.raises(NotFoundError, match="no quality scores"):
        read_quality(tmp_path / "elsewhere")
    (tmp_path / QUALITY).write_text("not a table")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_quality(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "Where is my card?",
        "I was charged £1.50 at 10:30pm in NYC, why?!",
        "¿Dónde está mi tarjeta?",
        "我的卡在哪里",
        "Мой платёж не прошёл",
        "Transfer to DE89370400440532013000 failed",
        "no no no, it is not that",
    ],
)
def test_plain_text_in_any_script_is_intact(text: str) -> None:
    assert intact(text) > 0.5


@pytest.mark.parametrize(
    "text",
    [
        "",
        "????????",
        "<div><p>&nbsp;</p></div>",
        "xkqz wrtp sdfgh zxcvb",
        "card " * 20,
        "where\ufffdis\ufffdâ€™Ã©",
    ],
)
def test_noise_is_not_intact(text: str) -> None:
    assert intact(text) < 0.8


def test_a_copy_of_a_wrong_label_cannot_vouch_for_it() -> None:
    texts, labels = questions(40)
    own = [f"g{i}" for i in range(len(texts))]
    labels = [*labels, "rate", "rate", "rate"]
    lost = "card waiting delivery post week"
    data = columns([*texts, lost, lost, f"{lost} please"], labels, groups=[*own, "same", "same", "same"])
    agreement = signals(data, hashed_tfidf(data.prompts)).agreement
    assert (agreement[-3:] < 0.5).all()
    assert np.mean(agreement[:-3] > 0.5) > 0.95


def test_only_the_later_of_two_copies_is_not_fresh() -> None:
    texts, labels = questions(40)
    data = columns([*texts, texts[5].upper() + "!"], [*labels, labels[5]])
    fresh = signals(data, hashed_tfidf(data.prompts)).fresh
    assert fresh[5] == 1.0
    assert fresh[-1] < 1.0


def test_lengths_far_from_the_others_are_unusual() -> None:
    data = columns([*(f"word number {i} of a few" for i in range(50)), "word " * 3000])
    usual = signals(data, hashed_tfidf(data.prompts)).usual
    assert (usual[:-1] == 1).all()
    assert usual[-1] < 0.5
