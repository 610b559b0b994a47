"""Likelihoods of a prompt are those of PEFT's own model, and tokens carry the bytes of the text."""

from __future__ import annotations

import numpy as np
import pytest

from tests.unit.serve.engines.embedded.conftest import EngineFactory, PeftReference
from tests.unit.serve.engines.embedded.prompts import prompt
from tunery.core.engine import GenerationRequest, Sampling
from tunery.core.errors import ConfigError


@pytest.mark.parametrize("chunk", [7, 256])
def test_likelihoods_of_prompts_are_pefts(
    make_engine: EngineFactory, peft_reference: PeftReference, chunk: int
) -> None:
    engine = make_engine(prefill_chunk_tokens=chunk)
    batch = [
        GenerationRequest(
            prompt(length, seed=length),
            adapter=(None, "a", "b")[length % 3],
            sampling=Sampling(max_tokens=most, logprobs=2),
            prompt_logprobs=2,
        )
        for length, most in ((1, 0), (2, 3), (40, 0), (90, 4), (90, 0), (17, 1))
    ]
    for request, generation in zip(batch, engine.generate(batch), strict=True):
        assert [event.token_id for event in generation.prompt] == list(request.prompt)
        assert (generation.prompt[0].logprob, generation.prompt[0].top) == (None, ())
        assert len(generation.token_ids) <= request.sampling.max_tokens
        expected = peft_reference.logprobs(request.prompt, request.adapter)
        for position, event in enumerate(generation.prompt[1:]):
            assert event.logprob == pytest.approx(float(expected[position, event.token_id]), abs=1e-4)
            best = expected[position].topk(2)
            assert [t.token_id for t in event.top] == best.indices.tolist()
            np.testing.assert_allclose([t.logprob for t in event.top], best.values, atol=1e-4)
        if request.sampling.max_tokens == 0:
            assert (generation.text, generation.finish_reason, generation.tokens) == ("", "length", ())


def test_a_prompt_in_the_prefix_cache_is_read_all_the_same(make_engine: EngineFactory) -> None:
    engine = make_engine()
    ids = prompt(80)
    plain, read = (
        GenerationRequest(ids, sampling=Sampling(max_tokens=2), prompt_logprobs=wanted)
        for wanted in (None, 0)
    )
    first = engine.generate([plain])[0]
    again = engine.generate([read])[0]
    assert engine.generate([plain])[0].cached_tokens > 0
    assert len(again.prompt) == 80
    assert again.text == first.text


def test_reading_gives_way_and_starts_again(make_engine: EngineFactory) -> None:
    """With too little room for both, the younger row is computed anew; no token is told of twice."""
    engine = make_engine(max_cache_tokens=128, prefill_chunk_tokens=16, max_batch=4)
    batch = [
        GenerationRequest(prompt(60, seed=n), sampling=Sampling(max_tokens=30, logprobs=0), prompt_logprobs=0)
        for n in range(4)
    ]
    for request, generation in zip(batch, engine.generate(batch), strict=True):
        assert [event.token_id for event in generation.prompt] == list(request.prompt)


def test_a_prompt_may_fill_the_window_when_nothing_is_to_follow(make_engine: EngineFactory) -> None:
    engine = make_engine()
    full = prompt(engine.context_window)
    answered = engine.generate([GenerationRequest(full, sampling=Sampling(max_tokens=0), prompt_logprobs=0)])
    assert len(answered[0].prompt) == engine.context_window
    with pytest.raises(ConfigError, match="no room"):
        engine.generate([GenerationRequest(full, sampling=Sampling(max_tokens=1), prompt_logprobs=0)])


def test_nothing_at_all_to_compute_but_the_prompt(make_engine: EngineFactory) -> None:
    generation = make_engine().generate([GenerationRequest(prompt(5), sampling=Sampling(max_tokens=0))])[0]
    assert (generation.text, generation.completion_tokens, generation.prompt) == ("", 0, ())


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("stop", [(), ("e",), ("a", "th")])
def test_bytes_of_the_tokens_join_to_the_answer(
    make_engine: EngineFactory, seed: int, stop: tuple[str, ...]
) -> None:
    """At this temperature most tokens are pieces of characters, and many of them are none at all."""
    engine = make_engine()
    how = Sampling(max_tokens=30, temperature=1.8, seed=seed, stop=stop, logprobs=3)
    events = []
    generation = engine.submit(GenerationRequest(prompt(8), sampling=how), events.append).result(30)
    text = b"".join(event.raw for event in generation.tokens).decode("utf-8", "replace")
    if generation.text and generation.finish_reason == "stop" and generation.tokens[-1].raw:
        assert text.startswith(generation.text), "the token that completed a stop string"
    else:
        assert text == generation.text
    for event in generation.tokens:
        assert len({(t.token_id, t.raw) for t in event.top}) == 3
