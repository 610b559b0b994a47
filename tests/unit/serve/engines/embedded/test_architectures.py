"""Other architectures than the embedded base's: tiny random weights of each, against transformers itself."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.tiny.architectures import ARCHITECTURES, build_architecture
from tunery.core.engine import GenerationRequest, Sampling
from tunery.serve.engines import engine_settings, open_engine


@pytest.fixture(params=ARCHITECTURES)
def base(request: pytest.FixtureRequest, tiny_model: Path, tmp_path: Path) -> Path:
    """Return a folder with random weights of an architecture and the tiny base's tokenizer."""
    name, more = ARCHITECTURES[request.param]
    return build_architecture(tiny_model, tmp_path / "base", name, **more)


def test_it_answers_and_scores_as_transformers_does(base: Path) -> None:
    draw = random.Random(1)
    prompts = [tuple(draw.choices(range(3, 300), k=size)) for size in (3, 30, 45, 12)]
    ours = open_engine(base, engine_settings({"device": "cpu", "threads": 1, "prefill_chunk_tokens": 16}))
    plain = open_engine(base, engine_settings({"kind": "transformers", "device": "cpu"}))
    try:
        rows = [(prompt, tuple(draw.choices(range(3, 300), k=6))) for prompt in prompts]
        for a, b in zip(ours.score(rows), plain.score(rows), strict=True):
            assert a.logprob == pytest.approx(b.logprob, abs=1e-4)
        requests = [GenerationRequest(prompt, sampling=Sampling(max_tokens=24)) for prompt in prompts]
        for a, b in zip(ours.generate(requests), plain.generate(requests), strict=True):
            assert a.token_ids == b.token_ids
    finally:
        ours.close()
        plain.close()
