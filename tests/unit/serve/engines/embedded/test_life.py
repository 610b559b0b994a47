"""The engine refuses, streams, cancels, fails and closes without ever hanging."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest

from tests.tiny.build import build_tiny
from tests.unit.serve.engines.embedded.conftest import EngineFactory
from tests.unit.serve.engines.embedded.prompts import prompt
from tunery.core.engine import GenerationRequest, Sampling, Score, TokenEvent
from tunery.core.errors import ConfigError, NotFoundError, ResourceError
from tunery.serve.engines.embedded.engine import EmbeddedEngine
from tunery.serve.engines.embedded.settings import EmbeddedSettings

LONG = Sampling(max_tokens=400)
SOON = 30  # seconds: nothing here takes one, but a hang must fail


def endless(seed: int = 0) -> GenerationRequest:
    """A request whose completion is long: sampled hot, so that it does not stop early."""
    return GenerationRequest(prompt(5, seed), sampling=Sampling(max_tokens=400, temperature=5.0, seed=seed))


def test_an_unknown_adapter_is_never_answered_by_the_base(make_engine: EngineFactory) -> None:
    engine = make_engine()
    request = GenerationRequest(prompt(4), adapter="aa")
    with pytest.raises(NotFoundError, match="did you mean 'a'"):
        engine.submit(request)
    with pytest.raises(NotFoundError):
        engine.generate([request])
    with pytest.raises(NotFoundError):
        engine.score([(prompt(2), prompt(2))], "aa")
    engine.unload_adapter("b")
    engine.unload_adapter("never there")
    with pytest.raises(NotFoundError):
        engine.submit(GenerationRequest(prompt(4), adapter="b"))
    assert engine.adapters() == ("a", "c")


@pytest.mark.parametrize(
    ("request_", "word"),
    [
        (GenerationRequest(()), "empty"),
        (GenerationRequest(prompt(512)), "512 tokens leave no room"),
        (GenerationRequest((3, 99999)), "token ids"),
        (GenerationRequest((3, -1)), "token ids"),
        (GenerationRequest((3,), sampling=Sampling(max_tokens=-1)), "max_tokens"),
        (GenerationRequest((3,), sampling=Sampling(temperature=-1)), "temperature"),
        (GenerationRequest((3,), sampling=Sampling(temperature=float("nan"))), "temperature"),
        (GenerationRequest((3,), sampling=Sampling(top_p=0)), "top_p"),
        (GenerationRequest((3,), sampling=Sampling(logprobs=-1)), "logprobs"),
    ],
)
def test_a_request_that_cannot_run_is_refused_before_it_waits(
    make_engine: EngineFactory, request_: GenerationRequest, word: str
) -> None:
    engine = make_engine()
    with pytest.raises(ConfigError, match=word):
        engine.submit(request_)
    assert engine.healthy()


def test_score_names_every_row_at_fault(make_engine: EngineFactory) -> None:
    engine = make_engine()
    with pytest.raises(ConfigError, match="2 problems") as refused:
        engine.score([((), (1,)), (prompt(3), prompt(3)), (prompt(300), prompt(300))])
    assert "row 0" in str(refused.value)
    assert "row 2" in str(refused.value)
    assert engine.score([(prompt(3), ())])[0] == Score(0.0, 0)


def test_max_tokens_is_clipped_to_the_context_window(make_engine: EngineFactory) -> None:
    generation = make_engine().generate([GenerationRequest(prompt(509), sampling=endless().sampling)])[0]
    assert generation.finish_reason in ("length", "stop")
    assert generation.completion_tokens <= 3


def test_streamed_pieces_join_to_the_text_and_times_make_sense(make_engine: EngineFactory) -> None:
    events: list[TokenEvent] = []
    generation = make_engine().submit(endless(), events.append).result(SOON)
    assert "".join(event.text for event in events) == generation.text
    assert len(events) == generation.completion_tokens
    assert 0 < generation.ttft_ms <= generation.latency_ms


def test_a_stop_string_ends_the_completion_and_is_not_in_it(make_engine: EngineFactory) -> None:
    engine = make_engine()
    free = engine.generate([endless()])[0]
    stop = free.text[10:13]
    events: list[TokenEvent] = []
    request = GenerationRequest(
        prompt(5), sampling=Sampling(max_tokens=400, temperature=5.0, seed=0, stop=(stop,))
    )
    stopped = engine.submit(request, events.append).result(SOON)
    assert stopped.finish_reason == "stop"
    assert stopped.text == free.text[: free.text.index(stop)]
    assert "".join(event.text for event in events) == stopped.text
    assert stopped.completion_tokens == len(events)


def test_alternatives_come_with_the_chosen_tokens_likelihood(make_engine: EngineFactory) -> None:
    engine = make_engine()
    request = GenerationRequest(prompt(6), sampling=Sampling(max_tokens=5, logprobs=3))
    for event in engine.generate([request])[0].tokens:
        assert len(event.top) == 3
        assert event.top[0].token_id == event.token_id
        assert event.logprob == pytest.approx(event.top[0].logprob)
        assert event.top[0].token == engine.tokenizer.token_text(event.token_id)


def test_a_cancelled_request_frees_its_slot_while_running_and_while_waiting(
    make_engine: EngineFactory,
) -> None:
    engine = make_engine(max_batch=1)
    started = threading.Event()
    running = engine.submit(endless(), lambda _: started.set())
    waiting = engine.submit(endless(1))
    assert started.wait(SOON)
    assert waiting.cancel()
    assert running.cancel()
    with pytest.raises(CancelledError):
        running.result(SOON)
    assert engine.generate([GenerationRequest(prompt(3), sampling=Sampling(max_tokens=2))])


def test_a_cancelled_request_leaves_the_answers_of_its_neighbours_as_they_were(
    make_engine: EngineFactory,
) -> None:
    alone = GenerationRequest(prompt(90, 3), sampling=Sampling(max_tokens=60))
    (expected,) = make_engine(max_batch=3).generate([alone])
    engine = make_engine(max_batch=3)
    for seed in range(3):  # the storage grows in between, and the last row takes the place of the first
        started = threading.Event()
        first = engine.submit(endless(seed), lambda _, started=started: started.set())
        assert started.wait(SOON)
        joined = threading.Event()
        neighbour = engine.submit(alone, lambda _, joined=joined: joined.set())
        assert joined.wait(SOON)
        longer = GenerationRequest(prompt(150 + 100 * seed, 5), sampling=Sampling(max_tokens=40))
        other = engine.submit(longer)
        first.cancel()
        assert neighbour.result(SOON).token_ids == expected.token_ids
        assert other.result(SOON).token_ids
    assert engine.healthy()


def test_closing_cancels_who_waits_and_ends_who_runs(make_engine: EngineFactory) -> None:
    engine = make_engine(max_batch=1)
    started = threading.Event()
    running = engine.submit(endless(), lambda _: started.set())
    waiting = engine.submit(endless(1))
    assert started.wait(SOON)
    engine.close()
    generation = running.result(SOON)
    assert generation.finish_reason in ("cancelled", "stop", "length")
    assert waiting.cancelled() or waiting.done()
    assert not engine.healthy()
    with pytest.raises(ResourceError, match="closed"):
        engine.submit(endless())
    engine.close()


def test_a_dead_engine_fails_everyone_and_says_so(
    make_engine: EngineFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine(max_batch=1)

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("the memory burnt down")

    monkeypatch.setattr(engine._model, "forward", broken)
    futures = []
    for seed in range(3):
        try:
            futures.append(engine.submit(endless(seed)))
        except ResourceError:  # it may be dead before the last is in
            break
    assert futures
    for future in futures:
        with pytest.raises(ResourceError, match="the memory burnt down"):
            future.result(SOON)
    assert not engine.healthy()
    with pytest.raises(ResourceError, match="the memory burnt down"):
        engine.submit(endless())
    with pytest.raises(ResourceError, match="the memory burnt down"):
        engine.load_adapter("new", str(next(iter(engine._adapters.values())).folder.parent / "b"))


def test_a_callback_that_raises_hurts_its_own_request_only(make_engine: EngineFactory) -> None:
    engine = make_engine()

    def broken(_: TokenEvent) -> None:
        raise ValueError("client went away")

    bad, good = engine.submit(endless(), broken), engine.submit(endless(1))
    with pytest.raises(ValueError, match="client went away"):
        bad.result(SOON)
    assert good.result(SOON).text
    assert engine.healthy()


def test_an_adapter_whose_numbers_explode_fails_its_own_request_only(
    make_engine: EngineFactory, tiny_adapters: dict[str, Path], tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    weights = {k: v * 1e30 for k, v in load_file(tiny_adapters["a"] / "adapter_model.safetensors").items()}
    folder = tmp_path / "huge"
    folder.mkdir()
    save_file(weights, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_bytes((tiny_adapters["a"] / "adapter_config.json").read_bytes())
    engine = make_engine(max_batch=2)
    engine.load_adapter("huge", str(folder))
    request = GenerationRequest(prompt(30), adapter="b", sampling=Sampling(max_tokens=30))
    expected = engine.generate([request])[0].token_ids
    for _ in range(3):
        sane = engine.submit(request)
        insane = engine.submit(GenerationRequest(prompt(60), adapter="huge", sampling=LONG))
        with pytest.raises(ConfigError, match="not finite"):
            insane.result(SOON)
        assert sane.result(SOON).token_ids == expected
    with pytest.raises(ConfigError, match="not finite"):
        engine.score([(prompt(9), prompt(9))], "huge")
    assert engine.generate([request, request, request])[2].token_ids == expected


def test_unloading_lets_running_requests_end_on_the_weights_they_began_with(
    make_engine: EngineFactory,
) -> None:
    engine = make_engine()
    request = GenerationRequest(
        prompt(5), adapter="a", sampling=Sampling(max_tokens=200, temperature=3.0, seed=4)
    )
    expected = engine.generate([request])[0].token_ids
    started = threading.Event()
    running = engine.submit(request, lambda _: started.set())
    assert started.wait(SOON)
    engine.unload_adapter("a")
    assert running.result(SOON).token_ids == expected
    engine.generate([GenerationRequest(prompt(3), sampling=Sampling(max_tokens=2))])
    assert len(engine._model.adapters._loaded) == 2


def test_loading_the_same_folder_again_is_free_and_changed_weights_are_noticed(
    make_engine: EngineFactory, tiny_adapters: dict[str, Path], tmp_path: Path
) -> None:
    import shutil

    engine = make_engine()
    before = engine._adapters["a"].number
    engine.load_adapter("a", str(tiny_adapters["a"]))
    assert engine._adapters["a"].number == before
    folder = tmp_path / "moving"
    shutil.copytree(tiny_adapters["a"], folder)
    engine.load_adapter("moving", str(folder))
    score = engine.score([(prompt(9), prompt(9))], "moving")
    shutil.rmtree(folder)
    shutil.copytree(tiny_adapters["b"], folder)
    (folder / "adapter_model.safetensors").touch()
    engine.load_adapter("moving", str(folder))
    assert engine.score([(prompt(9), prompt(9))], "moving") != score


def test_a_long_prompt_does_not_starve_who_is_answering(make_engine: EngineFactory) -> None:
    engine = make_engine(prefill_chunk_tokens=8, prefix_cache_bytes=0)
    seen: list[str] = []
    started = threading.Event()

    def short(_: TokenEvent) -> None:
        seen.append("short")
        started.set()

    first = engine.submit(endless(), short)
    assert started.wait(SOON)
    before = len(seen)
    engine.submit(
        GenerationRequest(prompt(400), sampling=Sampling(max_tokens=1)), lambda _: seen.append("long")
    ).result(SOON)
    first.cancel()
    # 400 tokens in chunks of 8 are 50 steps, and the running request got a token in each.
    assert "long" in seen
    assert seen[before : seen.index("long")].count("short") >= 40


def test_a_base_without_safetensors_or_of_a_foreign_architecture_is_refused(tmp_path: Path) -> None:
    folder = build_tiny(tmp_path / "base")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ConfigError, match="pickles are never loaded"):
        EmbeddedEngine(folder)
    (folder / "pytorch_model.bin").rename(folder / "model.safetensors")
    (folder / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        EmbeddedEngine(folder)
    with pytest.raises(ConfigError, match="device"):
        EmbeddedEngine(build_tiny(tmp_path / "good"), settings=EmbeddedSettings(device="abacus"))
