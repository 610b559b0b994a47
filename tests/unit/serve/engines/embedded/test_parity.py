"""The engine gives what PEFT gives, whatever else is in the batch and however it was computed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.serve.engines.embedded.conftest import EngineFactory, PeftReference
from tests.unit.serve.engines.embedded.prompts import prompt
from tunery.core.engine import Generation, GenerationRequest, Sampling
from tunery.model.load import load_for_packing

ADAPTERS = (None, "a", "b", "c")


def requests(lengths: tuple[int, ...], *, logprobs: int | None = None) -> list[GenerationRequest]:
    return [
        GenerationRequest(
            prompt(length, seed=number),
            adapter=ADAPTERS[number % 4],
            sampling=Sampling(max_tokens=12, logprobs=logprobs),
        )
        for number, length in enumerate(lengths)
    ]


def all_logprobs(generation: Generation) -> np.ndarray:
    """Return what each step gave every token, shape ``(steps, vocabulary)``."""
    return np.array([[t.logprob for t in sorted(event.top)] for event in generation.tokens])


def assert_equal_steps(left: Generation, right: Generation) -> None:
    assert left.token_ids == right.token_ids
    assert left.finish_reason == right.finish_reason
    np.testing.assert_allclose(all_logprobs(left), all_logprobs(right), atol=1e-4)


@pytest.mark.parametrize("chunk", [7, 256])
def test_base_and_three_adapters_in_one_batch_give_pefts_probabilities_and_tokens(
    make_engine: EngineFactory, peft_reference: PeftReference, chunk: int
) -> None:
    engine = make_engine(prefill_chunk_tokens=chunk)
    batch = requests((5, 40, 90, 7, 1, 64, 33, 12), logprobs=engine.vocab_size)
    for request, generation in zip(batch, engine.generate(batch), strict=True):
        expected = peft_reference.generate(request.prompt, request.adapter, 12, engine.tokenizer.stop_ids)
        assert list(generation.token_ids) == expected[: len(generation.token_ids)]
        assert generation.completion_tokens == len(expected)
        whole = [*request.prompt, *expected]
        logprobs = peft_reference.logprobs(whole, request.adapter)[len(request.prompt) - 1 : -1]
        np.testing.assert_allclose(all_logprobs(generation), logprobs, atol=1e-4)


def test_a_batch_of_many_equals_each_request_alone(make_engine: EngineFactory) -> None:
    engine = make_engine(prefix_cache_bytes=0)
    batch = requests((30, 3, 17, 55, 8, 41), logprobs=engine.vocab_size)
    for together, request in zip(engine.generate(batch), batch, strict=True):
        assert_equal_steps(together, engine.generate([request])[0])


def test_the_prefix_cache_changes_nothing_but_the_time(make_engine: EngineFactory) -> None:
    without, having = make_engine(prefix_cache_bytes=0), make_engine()
    shared = prompt(100, seed=50)
    batch = [
        GenerationRequest(
            shared + prompt(10 + number, seed=number),
            adapter=ADAPTERS[number % 4],
            sampling=Sampling(max_tokens=6, logprobs=having.vocab_size),
        )
        for number in range(12)
    ]
    plain, cached = without.generate(batch), having.generate(batch)
    again = having.generate(batch)
    for one, two, three in zip(plain, cached, again, strict=True):
        assert_equal_steps(one, two)
        assert_equal_steps(one, three)
    assert all(g.cached_tokens == 0 for g in plain)
    # One of each adapter computes the shared part, the others find it.
    assert sorted(g.cached_tokens >= 100 for g in cached) == [False] * 4 + [True] * 8
    assert all(g.cached_tokens >= 100 for g in again)


def test_rows_that_had_to_give_way_end_with_the_same_tokens(make_engine: EngineFactory) -> None:
    batch = requests((60, 60, 60, 60, 60, 60))
    roomy = make_engine().generate(batch)
    cramped_engine = make_engine(max_cache_tokens=140, prefix_cache_bytes=0)
    assert [g.token_ids for g in cramped_engine.generate(batch)] == [g.token_ids for g in roomy]


def test_more_requests_than_slots_are_all_answered_in_order(make_engine: EngineFactory) -> None:
    batch = requests(tuple(range(2, 42)))
    expected = make_engine().generate(batch)
    given = make_engine(max_batch=3, prefill_chunk_tokens=5).generate(batch)
    assert [g.token_ids for g in given] == [g.token_ids for g in expected]


def test_score_is_pefts_likelihood_of_the_completion(
    make_engine: EngineFactory, peft_reference: PeftReference
) -> None:
    engine = make_engine(prefill_chunk_tokens=16)
    rows = [(prompt(n, seed=n), prompt(m, seed=100 + m)) for n, m in ((1, 1), (20, 9), (50, 30), (20, 3))]
    for adapter in ADAPTERS:
        for (before, after), score in zip(rows, engine.score(rows, adapter), strict=True):
            logprobs = peft_reference.logprobs([*before, *after], adapter)[len(before) - 1 : -1]
            expected = sum(float(logprobs[i, token]) for i, token in enumerate(after))
            assert score.tokens == len(after)
            assert score.logprob == pytest.approx(expected, abs=1e-3)


def test_completions_of_one_stored_prompt_are_scored_in_full(make_engine: EngineFactory) -> None:
    engine, plain = make_engine(), make_engine(prefix_cache_bytes=0)
    rows = [(prompt(100), prompt(n, seed=n)) for n in range(1, 9)]
    expected = [s.logprob for s in plain.score(rows, "c")]
    for _ in range(2):
        scores = engine.score(rows, "c")
        assert [s.tokens for s in scores] == [len(completion) for _, completion in rows]
        assert [s.logprob for s in scores] == pytest.approx(expected, abs=1e-3)


def test_scores_and_completions_share_a_cramped_cache(make_engine: EngineFactory) -> None:
    """Completions grow and push rows out; a score that had to start again counts nothing twice."""
    batch = requests((40, 40, 40))
    rows = [(prompt(30, seed=n), prompt(20, seed=n)) for n in range(6)]
    roomy = make_engine(prefix_cache_bytes=0)
    expected = [s.logprob for s in roomy.score(rows)], [g.token_ids for g in roomy.generate(batch)]
    cramped = make_engine(prefix_cache_bytes=0, max_cache_tokens=110, prefill_chunk_tokens=3)
    futures = [cramped.submit(request) for request in batch]
    scores = cramped.score(rows)
    assert [s.logprob for s in scores] == pytest.approx(expected[0], abs=1e-3)
    assert [s.tokens for s in scores] == [20] * 6
    assert [f.result(60).token_ids for f in futures] == expected[1]


def test_score_agrees_with_the_log_probabilities_of_generation(make_engine: EngineFactory) -> None:
    engine = make_engine()
    request = GenerationRequest(prompt(25), adapter="b", sampling=Sampling(max_tokens=9, logprobs=0))
    generation = engine.generate([request])[0]
    spoken = [event for event in generation.tokens if event.token_id not in engine.tokenizer.stop_ids]
    score = engine.score([(request.prompt, generation.token_ids)], "b")[0]
    assert score.logprob == pytest.approx(sum(event.logprob or 0.0 for event in spoken), abs=1e-4)


def test_a_reloaded_name_never_meets_the_keys_of_the_weights_before_it(
    make_engine: EngineFactory, tiny_adapters: dict[str, object], peft_reference: PeftReference
) -> None:
    engine = make_engine()
    request = GenerationRequest(prompt(80), adapter="a", sampling=Sampling(max_tokens=8))
    as_a = engine.generate([request])[0]
    assert engine.generate([request])[0].cached_tokens == 79
    engine.unload_adapter("a")
    engine.load_adapter("a", str(tiny_adapters["b"]))
    reloaded = engine.generate([request])[0]
    assert reloaded.cached_tokens == 0
    assert reloaded.token_ids != as_a.token_ids
    expected = peft_reference.generate(request.prompt, "b", 8, engine.tokenizer.stop_ids)
    assert list(reloaded.token_ids) == expected[: len(reloaded.token_ids)]


def test_a_seeded_completion_is_the_same_in_any_company(make_engine: EngineFactory) -> None:
    engine = make_engine()
    seeded = GenerationRequest(
        prompt(20), adapter="a", sampling=Sampling(max_tokens=20, temperature=1.0, top_p=0.9, seed=7)
    )
    alone = engine.generate([seeded])[0]
    company = requests((4, 70, 33, 12, 9))
    assert engine.generate([*company, seeded])[-1].token_ids == alone.token_ids
    other = GenerationRequest(
        seeded.prompt, adapter="a", sampling=Sampling(max_tokens=20, temperature=1.0, seed=8)
    )
    assert engine.generate([other])[0].token_ids != alone.token_ids


def test_training_in_the_same_process_does_not_take_the_attention_away(
    make_engine: EngineFactory, tiny_model: Path
) -> None:
    engine = make_engine()
    row = (prompt(30), prompt(10, seed=1))
    before = engine.score([row])
    load_for_packing(tiny_model)
    assert engine.score([row])[0].logprob == pytest.approx(before[0].logprob, abs=1e-4)


def test_every_position_counts_its_own_context_only(make_engine: EngineFactory) -> None:
    """A foreign row's tokens must not change a row's probabilities, even by a little."""
    engine = make_engine(prefix_cache_bytes=0)
    row = (prompt(30), prompt(10, seed=1))
    alone = engine.score([row])[0].logprob
    crowded = engine.score([row, *[(prompt(30 + i, seed=i), prompt(7)) for i in range(2, 9)]])[0].logprob
    assert crowded == pytest.approx(alone, abs=1e-4)


def test_completions_that_differ_in_their_last_token_are_scored_in_one_pass(
    make_engine: EngineFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The letters of a choice: one pass over question and common beginning gives the likelihood of each."""
    engine = make_engine(prefix_cache_bytes=0)
    pairs = [(prompt(40, seed=q), (7, 8, letter)) for q in (1, 2) for letter in (11, 12, 13, 14)]
    alone = [engine.score([pair], "a")[0] for pair in pairs]
    computed: list[int] = []
    forward = engine._model.forward

    def counting(ids: Sequence[int], *args: Any, **named: Any) -> Any:
        computed.append(len(ids))
        return forward(ids, *args, **named)

    monkeypatch.setattr(engine._model, "forward", counting)
    together = engine.score(pairs, "a")
    assert sum(computed) == 2 * (40 + 2)
    assert [s.logprob for s in together] == pytest.approx([s.logprob for s in alone], abs=1e-4)
    assert [s.tokens for s in together] == [3] * 8


def test_questions_behind_one_beginning_compute_it_once(
    make_engine: EngineFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, plain = make_engine(), make_engine(prefix_cache_bytes=0)
    pairs = [((*prompt(200), *prompt(20, seed=q)), prompt(4, seed=q)) for q in range(1, 11)]
    computed: list[int] = []
    forward = engine._model.forward

    def counting(ids: Sequence[int], *args: Any, **named: Any) -> Any:
        computed.append(len(ids))
        return forward(ids, *args, **named)

    monkeypatch.setattr(engine._model, "forward", counting)
    found = [s.logprob for s in engine.score(pairs)]
    assert sum(computed) <= 200 + 10 * 24
    assert found == pytest.approx([s.logprob for s in plain.score(pairs)], abs=1e-3)


def test_a_score_says_whether_greedy_decoding_writes_the_completion(make_engine: EngineFactory) -> None:
    engine = make_engine()
    request = GenerationRequest(prompt(25), adapter="b", sampling=Sampling(max_tokens=6))
    written = engine.generate([request])[0].token_ids
    other = (*written[:-1], (written[-1] + 1) % 500)
    early = ((written[0] + 1) % 500, *written[1:])
    pairs = [(request.prompt, ids) for ids in (written, other, early)]
    assert [s.greedy for s in engine.score(pairs, "b")] == [True, False, False]
