"""A constrained completion is a label, or JSON of its schema, whatever the model would rather say."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.serve.engines.embedded.conftest import EngineFactory
from tests.unit.serve.engines.embedded.prompts import prompt
from tunery.core.engine import Calls, Constraint, GenerationRequest, Sampling, TokenEvent
from tunery.core.errors import ConfigError, TooLargeNowError
from tunery.core.tool_text import read_answer, write_answer
from tunery.model.tokenizer import ChatTokenizer, load_tokenizer
from tunery.serve.engines.embedded import constraints
from tunery.serve.engines.embedded.constraints import Grammars

SUMS = """
root ::= sum
sum ::= part (" + " part)*
part ::= [0-9]+ | "(" sum ")"
"""
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


def schema_of(order: tuple[str, ...]) -> dict[str, object]:
    fields = {name: {"type": "boolean"} for name in order}
    return {
        "type": "object",
        "properties": fields,
        "required": sorted(order),
        "additionalProperties": False,
    }


ORDERS = (("verdict", "grounds"), ("grounds", "verdict"), ("b", "a", "c"), ("c", "b", "a"), ("a", "b", "c"))


def within(order: tuple[str, ...], place: str) -> dict[str, object]:
    """Return a schema in which properties of this order stand at a place."""
    inner = schema_of(order)
    if place == "root":
        return inner
    if place == "nested":
        return schema_of(()) | {"properties": {"in": inner}, "required": ["in"]}
    if place == "defs":
        return {"$defs": {"x": inner}, "$ref": "#/$defs/x"}
    return {"anyOf": [inner]}


@pytest.mark.parametrize("place", ["root", "nested", "defs", "anyOf"])
def test_properties_are_written_in_the_schemas_order_whoever_asked_before(
    make_engine: EngineFactory, place: str
) -> None:
    constraints = [Constraint(json_schema=within(order, place)) for order in ORDERS]
    requests = [
        GenerationRequest(prompt(5), sampling=Sampling(max_tokens=480), constraint=c) for c in constraints
    ]
    for order, answer in zip(ORDERS, make_engine().generate(requests), strict=True):
        value = json.loads(answer.text)
        assert tuple(value["in"] if place == "nested" else value) == order


ZONE = {"type": "object", "properties": {"zone": {"enum": ["UTC", "CET"]}}, "required": ["zone"]}
REFERRING = {
    "$defs": {"day": {"enum": ["mon", "tue"]}},
    "type": "object",
    "properties": {"days": {"type": "array", "items": {"$ref": "#/$defs/day"}, "maxItems": 2}},
    "required": ["days"],
    "additionalProperties": False,
}
FUNCTIONS = (("now", {**ZONE, "additionalProperties": False}), ('odd "name"\n', REFERRING))


@pytest.mark.parametrize("parallel", [True, False])
@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_a_required_call_is_one_with_arguments_of_its_schema(
    make_engine: EngineFactory, parallel: bool, temperature: float
) -> None:
    calls = Calls(FUNCTIONS, required=True, parallel=parallel)
    batch = [
        GenerationRequest(
            prompt(9, seed=n),
            sampling=Sampling(max_tokens=300, temperature=temperature, seed=n),
            constraint=Constraint(calls=calls),
        )
        for n in range(8)
    ]
    finished = [g for g in make_engine().generate(batch) if g.finish_reason == "stop"]
    assert finished
    for generation in finished:
        answer = read_answer(generation.text)
        assert answer.text == ""
        assert len(answer.calls) >= 1 if parallel else len(answer.calls) == 1
        assert write_answer("", answer.calls) == generation.text, "in the words of training"
        for call in answer.calls:
            jsonschema.validate(json.loads(call.arguments), dict(FUNCTIONS)[call.name])


def accepts(grammars: Grammars, tokenizer: ChatTokenizer, constraint: Constraint, text: str) -> bool:
    """Return whether a text is a whole answer under a constraint."""
    state = grammars.start(constraint)
    ids = tokenizer.hf.encode(text, add_special_tokens=False)
    if not state.accepts(ids):
        return False
    for token in ids:
        state.accept(token)
    return state.complete or bool(state.allowed()[min(tokenizer.stop_ids)])


UTC = '<tool_call>{"name":"now","arguments":{"zone":"UTC"}}</tool_call>'
MARS = UTC.replace("UTC", "Mars")
TAGS = '<tool_call>{"name":"note","arguments":{"text":"a </tool_call> b"}}</tool_call>'


@pytest.mark.parametrize(
    ("constraint", "takes", "refuses"),
    [
        (
            Constraint(calls=Calls(FUNCTIONS[:1], required=True)),
            (UTC, f"{UTC}\n{UTC}"),
            ("", "Hi", MARS, f"Hi {UTC}", f"{UTC} Hi", UTC.replace('"zone":', '"zone": ')),
        ),
        (
            Constraint(calls=Calls(FUNCTIONS[:1], required=True, parallel=False)),
            (UTC,),
            (f"{UTC}\n{UTC}", f"{UTC}{UTC}"),
        ),
        (
            Constraint(calls=Calls(FUNCTIONS[:1])),
            ("", "Hi", "a <tool b", UTC, f"Hi\n{UTC}\n{UTC} bye"),
            (MARS, f"Hi {MARS}", "<tool_call>", "<tool_call>{}</tool_call>"),
        ),
        (
            Constraint(calls=Calls(FUNCTIONS[:1], parallel=False)),
            ("", "Hi", UTC, f"Hi\n{UTC}"),
            (f"{UTC}\n{UTC}", MARS),
        ),
        (
            Constraint(json_schema={"type": "object", "required": ["a"]}, calls=Calls(FUNCTIONS[:1])),
            (UTC, f"{UTC}\n{UTC}", '{"a": 1}'),
            ("Hi", "{}", MARS, f'{{"a": 1}}{UTC}'),
        ),
        (Constraint(labels=("yes", "no"), calls=Calls(FUNCTIONS[:1])), (UTC, "yes"), ("maybe", MARS)),
        (Constraint(calls=Calls((("note", {"type": "object"}),), required=True)), (TAGS,), ("Hi",)),
        (Constraint(regex="[0-9]{3}/[a-z]"), ("123/a",), ("12/a", "123/a ", "123/ab")),
        (Constraint(grammar=SUMS), ("1", "1 + 23", "(1 + 2) + 3"), ("", "1 +", "(1", "1 + 2)")),
        (Constraint(grammar='start: "a" B\nB: /b+/'), ("ab", "abbb"), ("a", "b", "aba")),
    ],
)
def test_what_a_form_takes_and_refuses(
    grammars: Grammars,
    tokenizer: ChatTokenizer,
    constraint: Constraint,
    takes: tuple[str, ...],
    refuses: tuple[str, ...],
) -> None:
    assert [t for t in takes if not accepts(grammars, tokenizer, constraint, t)] == []
    assert [t for t in refuses if accepts(grammars, tokenizer, constraint, t)] == []


BAD_GRAMMARS = (
    "hello",
    "root ::= \\",
    'root ::= "\\',
    'other ::= "a"',
    'root ::= nowhere "a"',
    "root ::= " + "(" * 4900 + '"a"' + ")" * 4900,
    "start: " + "(" * 4000 + '"a"' + ")" * 4000,
    'root ::= (("a"{1,9999}){1,9999}){1,9999}',
    "%import .etc.passwd.X\nstart: X",
    "start: /(?=a)b/",
)


@pytest.mark.parametrize("grammar", BAD_GRAMMARS)
def test_a_grammar_that_cannot_be_followed_is_refused_soon_with_its_field(
    grammars: Grammars, grammar: str
) -> None:
    begun = time.monotonic()
    with pytest.raises(ConfigError, match="cannot be followed") as error:
        grammars.start(Constraint(grammar=grammar, field="guided_grammar"))
    assert error.value.param == "guided_grammar"
    assert len(error.value.message) < 400
    assert time.monotonic() - begun < 5


BAD_SCHEMAS = (
    {"type": "integer", "minimum": float("inf")},
    {"enum": ["\ud800"]},
    {"type": "string", "pattern": "["},
    {"type": "string", "pattern": "(?=a)b"},
    {"$ref": "http://example.invalid/x.json"},
    {"$ref": "file:///etc/passwd"},
    {"$ref": "#/$defs/nowhere"},
    {"type": 17},
    {"type": "integer", "multipleOf": 999_999_937},
    {"enum": [str(i) for i in range(100_000)]},
)


def deep(levels: int) -> dict[str, object]:
    schema: dict[str, object] = {"type": "integer"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


@pytest.mark.parametrize("schema", [*BAD_SCHEMAS, deep(64), deep(400), deep(3000)])
def test_a_schema_that_cannot_be_followed_is_refused_soon_with_its_field(
    grammars: Grammars, schema: dict[str, object]
) -> None:
    begun = time.monotonic()
    functions = (("f", {"type": "object", "properties": {"x": schema}}),)
    for constraint in (
        Constraint(json_schema=schema, field="guided_json"),
        Constraint(calls=Calls(functions, required=True), field="tools"),
    ):
        with pytest.raises(ConfigError, match="cannot be followed") as error:
            grammars.start(constraint)
        assert error.value.param == constraint.field
    assert time.monotonic() - begun < 20


def test_long_grammars_are_bounded_one_by_one_and_together(
    tokenizer: ChatTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constraints, "_SMALL", 500)
    monkeypatch.setattr(constraints, "_LONGEST", 3_000)
    monkeypatch.setattr(constraints, "_MOST", 5_000)
    grammars = Grammars(tokenizer.hf, tokenizer.stop_ids)

    def of(length: int, name: str) -> Constraint:
        return Constraint(json_schema={"enum": [name * length]})

    with pytest.raises(ConfigError, match="characters, and 3,000 is the most"):
        grammars.start(of(4_000, "a"))
    first, second = grammars.start(of(2_000, "a")), grammars.start(of(2_000, "b"))
    again = grammars.start(of(2_000, "a"))  # compiled once, counted once
    small = grammars.start(of(50, "d"))
    with pytest.raises(TooLargeNowError, match="so many long schemas"):
        grammars.start(of(2_000, "c"))
    del first, again
    assert grammars.start(of(2_000, "c")).allowed().any()
    assert second.allowed().any()
    assert small.allowed().any()
