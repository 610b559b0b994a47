"""Memory that fails ends the requests that asked for it, and nobody else's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.unit.serve.engines.embedded.conftest import EngineFactory
from tests.unit.serve.engines.embedded.prompts import prompt
from tunery.core.engine import GenerationRequest, Sampling
from tunery.core.errors import ResourceError
from tunery.serve.engines.embedded.engine import EmbeddedEngine

SOON = 30
SHORT = GenerationRequest(prompt(5), sampling=Sampling(max_tokens=4))
UNDER_A_LIMIT = """
import resource, sys
from pathlib import Path
from tunery.core.engine import GenerationRequest, Sampling
from tunery.core.errors import ResourceError
from tunery.serve.engines.embedded.engine import EmbeddedEngine
from tunery.serve.engines.embedded.settings import EmbeddedSettings

engine = EmbeddedEngine(Path(sys.argv[1]), settings=EmbeddedSettings(max_cache_tokens=10**9, threads=1))
short = GenerationRequest((5, 6, 7), sampling=Sampling(max_tokens=4))
expected = engine.generate([short])[0].token_ids
size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 24 * 2**20, resource.RLIM_INFINITY))
refused = 0
for length in (300, 500):
    ids = tuple(5 + i % 400 for i in range(length))
    long = GenerationRequest(ids, sampling=Sampling(max_tokens=8, logprobs=5))
    futures = [engine.submit(long) for _ in range(64)]
    for future in futures:
        try:
            future.result(60)
        except ResourceError as error:
            assert "not enough memory" in error.message, error
            refused += 1
        except MemoryError:
            refused += 1
    assert engine.healthy(), engine.healthy().reason
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert engine.generate([short])[0].token_ids == expected
engine.close()
print("refused", refused)
"""


@pytest.mark.slow
def test_requests_that_no_memory_is_left_for_end_alone(tiny_model: Path) -> None:
    """The system limits a process of its own: real allocations fail, wherever they happen to."""
    done = subprocess.run(
        [sys.executable, "-c", UNDER_A_LIMIT, str(tiny_model)], capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("refused"), done.stdout


class Short:
    """Makes a method fail for want of memory, so many times, where a condition holds."""

    def __init__(self, real: Any, times: int, error: BaseException) -> None:
        self.real, self.times, self.error = real, times, error

    def __call__(self, *given: Any, **named: Any) -> Any:
        if self.times > 0:
            self.times -= 1
            raise self.error
        return self.real(*given, **named)


ERRORS = [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 9 bytes")]


@pytest.mark.parametrize("error", ERRORS, ids=["Python", "PyTorch"])
def test_a_step_without_memory_is_tried_again_without_stored_prompts(
    make_engine: EngineFactory, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    engine: EmbeddedEngine = make_engine()
    engine.generate([GenerationRequest(prompt(80), sampling=Sampling(max_tokens=1))])
    (expected,) = engine.generate([SHORT])
    assert len(engine._cache)
    monkeypatch.setattr(engine._model, "forward", Short(engine._model.forward, 1, error))
    assert engine.submit(SHORT).result(SOON).token_ids == expected.token_ids
    assert len(engine._cache) == 0


@pytest.mark.parametrize("error", ERRORS, ids=["Python", "PyTorch"])
def test_where_there_still_is_none_the_largest_request_ends_and_its_neighbours_go_on(
    make_engine: EngineFactory, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    engine: EmbeddedEngine = make_engine(prefix_cache_bytes=0, prefill_chunk_tokens=512)
    (expected,) = engine.generate([SHORT])
    real = engine._model.forward

    def fail(ids: Any, *given: Any, **named: Any) -> Any:
        if len(ids) > 300:
            raise error
        return real(ids, *given, **named)

    monkeypatch.setattr(engine._model, "forward", fail)
    large = engine.submit(GenerationRequest(prompt(400), sampling=Sampling(max_tokens=4)))
    small = [engine.submit(SHORT) for _ in range(3)]
    with pytest.raises(ResourceError, match=r"not enough memory for this request of 400 tokens"):
        large.result(SOON)
    assert [s.result(SOON).token_ids for s in small] == [expected.token_ids] * 3
    assert engine.healthy()
    with pytest.raises(ResourceError, match="not enough memory"):
        engine.score([(prompt(200), prompt(200))])


def test_storage_that_cannot_grow_refuses_who_needs_it_to(
    make_engine: EngineFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine: EmbeddedEngine = make_engine(prefix_cache_bytes=0)
    (expected,) = engine.generate([SHORT])
    arena = engine._scheduler._arena
    most = arena.capacity
    real = arena._allocate

    def fail(slots: int, capacity: int) -> Any:
        if capacity > most:
            raise MemoryError
        return real(slots, capacity)

    monkeypatch.setattr(arena, "_allocate", fail)
    longer = most + 1
    if longer < engine.context_window:
        with pytest.raises(ResourceError, match="not enough memory"):
            engine.submit(GenerationRequest(prompt(longer), sampling=Sampling(max_tokens=2))).result(SOON)
    assert engine.submit(SHORT).result(SOON).token_ids == expected.token_ids
    assert engine.healthy()


def test_a_prompt_that_cannot_be_stored_is_answered_all_the_same(
    make_engine: EngineFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine: EmbeddedEngine = make_engine()
    request = GenerationRequest(prompt(90), sampling=Sampling(max_tokens=4))
    monkeypatch.setattr(engine._scheduler._arena, "copy", Short(None, 10**6, MemoryError()))
    first, again = engine.generate([request])[0], engine.generate([request])[0]
    assert first.token_ids == again.token_ids
    assert again.cached_tokens == 0
