"""Penalties, bias and ends that are put off: equal to transformers' processors and to OpenAI's formula."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from tests.unit.serve.engines.embedded.conftest import EngineFactory
from tests.unit.serve.engines.embedded.prompts import prompt
from tunery.core.engine import Constraint, Engine, GenerationRequest, Sampling
from tunery.core.errors import ConfigError
from tunery.serve.engines import engine_settings, open_engine
from tunery.serve.engines.embedded.adjustment import Adjustment
from tunery.serve.engines.embedded.sampling import generator, sample

LOGITS = torch.randn(40, generator=torch.Generator().manual_seed(3)) * 3
PROMPT, GENERATED = (1, 2, 3, 3), (5, 5, 5, 7, 2)
SETTINGS: tuple[dict[str, Any], ...] = (
    {"presence_penalty": 1.5},
    {"frequency_penalty": 0.8},
    {"frequency_penalty": -0.7, "presence_penalty": -0.5},
    {"repetition_penalty": 1.4},
    {"logit_bias": ((4, 100.0), (9, -100.0))},
    {"min_tokens": 20},
    {"repetition_penalty": 1.3, "presence_penalty": 0.9, "frequency_penalty": 0.4, "logit_bias": ((4, 3.0),)},
)


def adjusted(**settings: Any) -> torch.Tensor:
    adjustment = Adjustment.of(Sampling(**settings), prompt=PROMPT, ends={0}, vocab_size=40)
    assert adjustment is not None
    for token in GENERATED:
        adjustment.count(token)
    logits = LOGITS.clone()
    adjustment.apply_(logits)
    return logits


@pytest.mark.parametrize(("presence", "frequency"), [(0.5, 0), (0, 1.5), (-2, 0.3), (2, 2)])
def test_openais_penalties_are_its_formula_over_generated_tokens(presence: float, frequency: float) -> None:
    counts = [GENERATED.count(j) for j in range(40)]
    expected = [
        float(mu) - c * frequency - float(c > 0) * presence for mu, c in zip(LOGITS, counts, strict=True)
    ]
    ours = adjusted(presence_penalty=presence, frequency_penalty=frequency)
    assert ours.tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("penalty", [1.3, 0.7])
def test_repetition_and_bias_are_transformers_processors(penalty: float) -> None:
    ids = torch.tensor([[*PROMPT, *GENERATED]])
    scores = SequenceBiasLogitsProcessor({(4,): 7.0, (5,): -3.5})(ids, LOGITS[None])
    scores = RepetitionPenaltyLogitsProcessor(penalty)(ids, scores)
    ours = adjusted(repetition_penalty=penalty, logit_bias=((4, 7.0), (5, -3.5)))
    assert torch.allclose(ours, scores[0])


@pytest.mark.parametrize(
    ("settings", "warpers"),
    [
        ({"top_k": 5}, [TopKLogitsWarper(5)]),
        ({"min_p": 0.2}, [MinPLogitsWarper(0.2)]),
        (
            {"min_p": 0.05, "top_k": 6, "top_p": 0.8},
            [MinPLogitsWarper(0.05), TopKLogitsWarper(6), TopPLogitsWarper(0.8)],
        ),
    ],
)
def test_tokens_are_drawn_from_what_transformers_warpers_leave(
    settings: dict[str, Any], warpers: list[Any]
) -> None:
    scores = LOGITS[None]
    for warper in warpers:
        scores = warper(torch.tensor([[1]]), scores)
    expected = torch.softmax(scores[0], dim=-1)
    source, how = generator(1), {"temperature": 1.0, "top_p": 1.0, **settings}
    drawn = torch.bincount(
        torch.tensor([sample(LOGITS, source=source, **how) for _ in range(4000)]), minlength=40
    )
    assert set(drawn.nonzero()[:, 0].tolist()) <= set(expected.nonzero()[:, 0].tolist())
    # Four standard deviations of a share.
    assert (drawn / 4000 - expected).abs().max() < 4 * (0.25 / 4000) ** 0.5


def test_a_request_that_changes_nothing_has_no_adjustment() -> None:
    plain = Sampling(top_k=3, min_p=0.1, stop_token_ids=(4,), ignore_eos=True)
    assert Adjustment.of(plain, prompt=PROMPT, ends={0}, vocab_size=40) is None


def test_what_is_masked_stays_masked() -> None:
    logits = torch.full((40,), float("-inf"))
    logits[3] = 1.0
    adjustment = Adjustment.of(
        Sampling(logit_bias=((7, 100.0),), repetition_penalty=0.5), prompt=PROMPT, ends={0}, vocab_size=40
    )
    assert adjustment is not None
    adjustment.apply_(logits)
    assert torch.isfinite(logits).nonzero()[:, 0].tolist() == [3]


@pytest.fixture(scope="module")
def engines(tiny_model: Path) -> Iterator[tuple[Engine, Engine]]:
    found = [open_engine(tiny_model, engine_settings({"kind": k})) for k in ("embedded", "transformers")]
    yield found[0], found[1]
    for engine in found:
        engine.close()


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: "-".join(s))
def test_both_engines_write_the_same(engines: tuple[Engine, Engine], settings: dict[str, Any]) -> None:
    requests = [
        GenerationRequest(prompt(12, seed), sampling=Sampling(max_tokens=24, **settings)) for seed in range(3)
    ]
    plain = [GenerationRequest(r.prompt, sampling=Sampling(max_tokens=24)) for r in requests]
    ours, theirs = (engine.generate(requests) for engine in engines)
    assert [g.token_ids for g in ours] == [g.token_ids for g in theirs]
    assert [g.finish_reason for g in ours] == [g.finish_reason for g in theirs]
    if "min_tokens" not in settings:
        assert [g.token_ids for g in ours] != [g.token_ids for g in engines[0].generate(plain)]


def test_both_engines_end_where_they_are_to_end(engines: tuple[Engine, Engine]) -> None:
    plain = engines[0].generate([GenerationRequest(prompt(12), sampling=Sampling(max_tokens=12))])[0]
    stop = plain.token_ids[6]
    sampling = Sampling(max_tokens=12, stop_token_ids=(stop,))
    for engine in engines:
        done = engine.generate([GenerationRequest(prompt(12), sampling=sampling)])[0]
        assert done.finish_reason == "stop"
        assert done.token_ids == plain.token_ids[: plain.token_ids.index(stop)]
        forced = Sampling(max_tokens=12, logit_bias=((2, 100.0),), ignore_eos=True)  # 2 ends a turn
        done = engine.generate([GenerationRequest(prompt(12), sampling=forced)])[0]
        assert (done.finish_reason, len(done.token_ids)) == ("length", 12)


def test_bias_and_penalties_go_with_labels_and_with_neighbours_in_the_batch(
    make_engine: EngineFactory,
) -> None:
    engine = make_engine()
    alone = engine.generate([GenerationRequest(prompt(9), sampling=Sampling(max_tokens=8))])[0]
    biased = Sampling(max_tokens=20, logit_bias=tuple((i, 100.0) for i in range(3, 40)), min_tokens=15)
    both = engine.generate(
        [
            GenerationRequest(prompt(9), sampling=Sampling(max_tokens=8)),
            GenerationRequest(prompt(9), sampling=biased, constraint=Constraint(labels=("red", "blue"))),
        ]
    )
    assert both[0].token_ids == alone.token_ids
    assert both[1].text in ("red", "blue")


@pytest.mark.parametrize(
    ("settings", "param"),
    [
        ({"logit_bias": ((10**6, 1.0),)}, "logit_bias"),
        ({"stop_token_ids": (10**6,)}, "stop_token_ids"),
        ({"min_tokens": 9, "max_tokens": 8}, "min_tokens"),
        ({"repetition_penalty": 0.0}, "repetition_penalty"),
    ],
)
def test_what_no_token_can_have_is_refused(
    engines: tuple[Engine, Engine], settings: dict[str, Any], param: str
) -> None:
    with pytest.raises(ConfigError) as error:
        engines[0].submit(GenerationRequest(prompt(5), sampling=Sampling(**settings)))
    assert error.value.param == param
