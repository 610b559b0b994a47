"""A constrained completion is a label, or JSON of its schema, whatever the model would rather say."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.serve.engines.embedded.conftest import EngineFactory
from tests.unit.serve.engines.embedded.prompts import prompt
from tunery.core.engine import Constraint, GenerationRequest, Sampling, TokenEvent
from tunery.core.errors import ConfigError
from tunery.model.tokenizer import ChatTokenizer, load_tokenizer
from tunery.serve.engines.embedded.constraints import Grammars

LABELS = ("card_arrival", "card_linking", "card", "exchange rate", 'lost "x"\\y\n/z', "été 🙂", " lead")
SCHEMA = {
    "type": "object",
    "properties": {"total": {"type": "integer"}, "paid": {"type": "boolean"}},
    "required": ["total", "paid"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> ChatTokenizer:
    return load_tokenizer(tiny_model)


@pytest.fixture(scope="module")
def grammars(tokenizer: ChatTokenizer) -> Grammars:
    return Grammars(tokenizer.hf, tokenizer.stop_ids)


a_label = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)


@settings(max_examples=60, deadline=None)
@given(labels=st.lists(a_label, min_size=1, max_size=4), seed=st.integers(0, 99))
def test_the_grammar_takes_every_label_and_nothing_else(
    tokenizer: ChatTokenizer, grammars: Grammars, labels: list[str], seed: int
) -> None:
    stop = min(tokenizer.stop_ids)
    for label in labels:
        state = grammars.start(Constraint(labels=tuple(labels)))
        assert not state.allowed()[stop]
        ids = tokenizer.hf.encode(label, add_special_tokens=False)
        assert state.accepts(ids)
        for token in ids:
            state.accept(token)
        assert state.allowed()[stop]
        assert state.complete != any(o != label and o.startswith(label) for o in labels)
    walk, source, state = [], random.Random(seed), grammars.start(Constraint(labels=tuple(labels)))
    while (token := source.choice(np.flatnonzero(state.allowed()).tolist())) != stop:
        walk.append(token)
        state.accept(token)
    assert tokenizer.decode(walk) in labels


@pytest.mark.parametrize("temperature", [0.0, 1.5])
@pytest.mark.parametrize("logprobs", [None, 0])
def test_every_completion_is_exactly_a_label(
    make_engine: EngineFactory, temperature: float, logprobs: int | None
) -> None:
    engine = make_engine()
    batch = [
        GenerationRequest(
            prompt(12, seed=n),
            adapter=(None, "a", "b", "c")[n % 4],
            sampling=Sampling(max_tokens=40, temperature=temperature, seed=n, logprobs=logprobs),
            constraint=Constraint(labels=LABELS),
        )
        for n in range(24)
    ]
    generations = engine.generate(batch)
    assert {g.text for g in generations} <= set(LABELS)
    assert {g.finish_reason for g in generations} == {"stop"}
    assert len({g.text for g in generations}) > 1
    for generation in generations:
        assert engine.tokenizer.decode(generation.token_ids) == generation.text


def test_writing_a_label_out_does_not_change_which_label_it_is(make_engine: EngineFactory) -> None:
    """With log-probabilities every token is computed; without them the rest of a sole label is written."""
    engine = make_engine()

    def texts(logprobs: int | None) -> list[str]:
        return [
            g.text
            for g in engine.generate(
                [
                    GenerationRequest(
                        prompt(20, seed=n),
                        adapter="a",
                        sampling=Sampling(max_tokens=40, logprobs=logprobs),
                        constraint=Constraint(labels=LABELS),
                    )
                    for n in range(16)
                ]
            )
        ]

    assert texts(None) == texts(0)


def test_streamed_pieces_join_to_the_label(make_engine: EngineFactory) -> None:
    pieces: list[TokenEvent] = []
    request = GenerationRequest(
        prompt(5), sampling=Sampling(max_tokens=40), constraint=Constraint(labels=LABELS)
    )
    generation = make_engine().submit(request, pieces.append).result(30)
    assert "".join(p.text for p in pieces) == generation.text


def test_json_follows_its_schema(make_engine: EngineFactory) -> None:
    batch = [
        GenerationRequest(
            prompt(9, seed=n),
            sampling=Sampling(max_tokens=400, temperature=1.0, seed=n),
            constraint=Constraint(json_schema=SCHEMA),
        )
        for n in range(6)
    ]
    finished = [g for g in make_engine().generate(batch) if g.finish_reason == "stop"]
    assert finished
    for generation in finished:
        value = json.loads(generation.text)
        assert set(value) == {"total", "paid"}
        assert isinstance(value["total"], int)
        assert isinstance(value["paid"], bool)


def test_the_length_limit_holds_inside_a_label(make_engine: EngineFactory) -> None:
    request = GenerationRequest(
        prompt(5), sampling=Sampling(max_tokens=2), constraint=Constraint(labels=("abcdefghijklmnop",))
    )
    generation = make_engine().generate([request])[0]
    assert generation.finish_reason == "length"
    assert len(generation.token_ids) == 2


@pytest.mark.parametrize(
    ("constraint", "word"),
    [
        (Constraint(), "one of"),
        (Constraint(labels=("a",), json_schema={}), "one of"),
        (Constraint(labels=()), "at least one label"),
        (Constraint(labels=("a", "")), "empty"),
        (Constraint(labels=("a\ud800",)), "surrogate"),
        (Constraint(json_schema={"type": "nonsense"}), "nonsense"),
    ],
)
def test_a_constraint_that_cannot_be_followed_is_refused_at_once(
    make_engine: EngineFactory, constraint: Constraint, word: str
) -> None:
    engine = make_engine()
    with pytest.raises(ConfigError, match=word):
        engine.submit(GenerationRequest(prompt(3), constraint=constraint))
    assert engine.healthy()
