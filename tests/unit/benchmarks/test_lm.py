"""Our engine gives lm-evaluation-harness what its own Hugging Face backend gives it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from tunery.benchmarks.lm import EngineLm
from tunery.model.tokenizer import load_tokenizer
from tunery.serve.engines.embedded.engine import EmbeddedEngine
from tunery.serve.engines.embedded.settings import EmbeddedSettings

PAIRS = [
    ("The capital of France is", " Paris."),
    ("The capital of France is ", "Paris."),  # its space belongs to what follows
    ("", "One two three"),
    ("<|im_start|>user\nhello", " there"),  # begins with the token that begins texts
    ("card arrival, " * 200, "exchange rate"),  # longer than the window
    ("one two", ""),
]
PAIRS += [("Question: which one?\nAnswer:", f" {letter}") for letter in "ABCD"]


def request(kind: str, *arguments: Any) -> Instance:
    return Instance(request_type=kind, doc={}, arguments=arguments, idx=0)


@pytest.fixture(scope="module")
def ours(tiny_model: Path) -> Iterator[EngineLm]:
    engine = EmbeddedEngine(tiny_model, settings=EmbeddedSettings(device="cpu", threads=1))
    yield EngineLm(engine, load_tokenizer(tiny_model))
    engine.close()


@pytest.fixture(scope="module")
def reference(tiny_model: Path) -> HFLM:
    return HFLM(str(tiny_model), device="cpu", dtype="float32", batch_size=2)


def test_log_likelihoods_are_those_of_the_harness_own_backend(ours: EngineLm, reference: HFLM) -> None:
    requests = [request("loglikelihood", *pair) for pair in PAIRS if pair[1]]
    expected = reference.loglikelihood(requests, disable_tqdm=True)
    found = ours.loglikelihood(requests, disable_tqdm=True)
    assert [value for value, _ in found] == pytest.approx([value for value, _ in expected], abs=1e-4)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]
    assert ours.cut == 1


def test_what_the_model_writes_itself_is_greedy_to_both(ours: EngineLm, reference: HFLM) -> None:
    context = "The capital of France is"
    ids = reference.tok_encode(context)
    own = ours._engine.generate([_greedy(tuple(ids))])[0].text
    requests = [request("loglikelihood", context, own[:end]) for end in (3, len(own))]
    expected = reference.loglikelihood(requests, disable_tqdm=True)
    assert [g for _, g in ours.loglikelihood(requests, disable_tqdm=True)] == [g for _, g in expected]


def test_whole_texts_get_the_same_likelihood_in_parts(ours: EngineLm, reference: HFLM) -> None:
    texts = ["One two three.", "top up failed, cash withdrawal charge. " * 60]
    requests = [request("loglikelihood_rolling", text) for text in texts]
    expected = reference.loglikelihood_rolling(requests, disable_tqdm=True)
    assert ours.loglikelihood_rolling(requests) == pytest.approx(expected, abs=1e-2, rel=1e-6)


def test_completions_end_where_the_harness_ends_them(ours: EngineLm, reference: HFLM) -> None:
    asked = [
        request("generate_until", "The capital of France is", {"until": [" a", "\n"], "max_gen_toks": 12}),
        request("generate_until", "One two three four five", {"until": ["zz"], "max_gen_toks": 20}),
    ]
    assert ours.generate_until(asked) == reference.generate_until(asked, disable_tqdm=True)


def test_chats_are_written_as_the_harness_writes_them(ours: EngineLm, reference: HFLM) -> None:
    chat = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "so"}]
    for opened in (chat[:1], chat):
        last = opened[-1]["role"] == "user"
        expected = reference.apply_chat_template(opened, add_generation_prompt=last)
        assert ours.apply_chat_template(opened, add_generation_prompt=last) == expected


def _greedy(prompt: tuple[int, ...]) -> Any:
    from tunery.core.engine import GenerationRequest, Sampling

    return GenerationRequest(prompt, sampling=Sampling(max_tokens=6))
