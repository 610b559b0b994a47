"""What a failing version costs its users: nothing where another stands in, and the failure is its own."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from tests.integration.live_api import register
from tests.unit.evaluate.scripted import CharTokenizer, ScriptedEngine

from tunery.core.access import WITHOUT_KEY
from tunery.core.engine import Generation, GenerationRequest, TokenEvent
from tunery.core.errors import CircuitOpenError, OverdueError, OverloadError, ResourceError
from tunery.core.example import Message
from tunery.core.rollout import RequestRecord
from tunery.deploy import canary
from tunery.deploy.config import CanaryConfig
from tunery.model.bases import describe_base
from tunery.pipeline.gateway.answer import Running
from tunery.pipeline.gateway.bases import BasePool, Opened
from tunery.pipeline.gateway.call import CompletionCall
from tunery.pipeline.gateway.gateway import Gateway
from tunery.pipeline.gateway.log import RequestLog
from tunery.store.workspace import Workspace
from tunery.traffic.config import BreakerSettings, TrafficSettings
from tunery.traffic.fair_queue import Capacity

Act = Callable[[GenerationRequest, Callable[[TokenEvent], None]], Future[Generation]]


class ActingEngine(ScriptedEngine):
    """Does with a request what the test says of its adapter; answers all others."""

    def __init__(self) -> None:
        super().__init__({})
        self.acts: dict[str | None, Act] = {}
        self.asked: list[str | None] = []

    def submit(self, request, on_token=None):  # type: ignore[no-untyped-def]
        self.asked.append(request.adapter)
        return self.acts.get(request.adapter, answers)(request, on_token)


def answers(request: GenerationRequest, on_token: Callable[[TokenEvent], None]) -> Future[Generation]:
    on_token(TokenEvent(5, "fine", None, ()))
    done: Future[Generation] = Future()
    done.set_result(Generation("fine", (5,), "stop", len(request.prompt), 0, 1.0, 1.0))
    return done


def fails(request: GenerationRequest, on_token: object) -> Future[Generation]:
    raise ResourceError("the upstream answered 502")


def hangs(request: GenerationRequest, on_token: object) -> Future[Generation]:
    return Future()


class Served:
    """A gateway over two versions, of which the second challenges the first for every user."""

    def __init__(
        self, workspace: Workspace, base: Path, adapters: dict[str, Path], **traffic: object
    ) -> None:
        self.engine, self.records = ActingEngine(), list[RequestRecord]()
        self.champion, self.challenger = (register(workspace, base, adapters[name], "bot") for name in "ab")
        workspace.models.set_alias("bot", "champion", 1, actor="test", reason="")
        self.rollout = canary.start(workspace, "bot@2", config=CanaryConfig(percent=99.99), actor="test")
        settings = TrafficSettings(**traffic)  # type: ignore[arg-type]
        bases = BasePool(
            describe_base(base, name="tiny"),
            lambda _: Opened(self.engine, CharTokenizer(), Capacity(slots=2)),
            breaker=settings.breaker,
        )
        log = RequestLog(workspace, list, observe=self.records.append)
        self.gateway = Gateway(workspace, bases, log, max_in_flight=4, traffic=settings)
        self.bases = bases

    def ask(self, model: str = "bot", *, stream: bool = False, timeout_s: float | None = None) -> Running:
        call = CompletionCall(
            id="chatcmpl-1",
            model=model,
            caller=WITHOUT_KEY,
            subject="s",
            messages=(Message(role="user", content="hi"),),
            timeout_s=timeout_s,
        )

        async def answered() -> Running:
            async with await self.gateway.start(call, stream=stream) as running:
                if stream:
                    assert "".join([piece.text async for piece in running.stream()]) == "fine"
                return running

        return asyncio.run(answered())


@pytest.fixture
def serve(workspace: Workspace, tiny_model: Path, tmp_path: Path) -> Iterator[Callable[..., Served]]:
    opened: list[Served] = []
    adapters = {name: tmp_path / name for name in "ab"}
    for name, folder in adapters.items():
        folder.mkdir()
        (folder / "adapter_model.safetensors").write_text(name)  # this engine reads none

    def make(**traffic: object) -> Served:
        opened.append(Served(workspace, tiny_model, adapters, **traffic))
        return opened[-1]

    yield make
    for served in opened:
        served.gateway.close()
        served.gateway.log.close()


@contextmanager
def refused(kind: type[ResourceError], words: str) -> Iterator[None]:
    with pytest.raises(kind, match=words):
        yield


@pytest.mark.parametrize("stream", [False, True])
def test_the_champion_stands_in_and_the_failure_is_the_challengers(
    serve: Callable[..., Served], workspace: Workspace, stream: bool
) -> None:
    served = serve(retries=0)
    served.engine.acts[served.challenger.adapter_id] = fails
    running = served.ask(stream=stream)
    assert running.headers == {
        "x-tunery-model-version": "bot@1",
        "x-tunery-fallback": "bot@2; resource_exhausted",
    }
    attempt, answer = served.records
    assert (attempt.model, attempt.arm, attempt.status) == ("bot@2", "challenger", "error")
    assert (attempt.attempt_of, attempt.rollout_id) == ("chatcmpl-1", served.rollout.id)
    assert (answer.id, answer.model, answer.arm, answer.status) == ("chatcmpl-1", "bot@1", None, "ok")
    assert (answer.fallback_from, answer.fallback_reason) == ("bot@2", "the upstream answered 502")
    served.gateway.log.flush()
    tallies = workspace.requests.tallies(served.rollout.id)
    assert {arm: (t.requests, t.errors) for arm, t in tallies.items()} == {
        "challenger": (1, 1),
        "champion": (0, 0),
    }


def test_a_failure_before_the_first_byte_is_tried_again_and_counts_for_nobody(
    serve: Callable[..., Served],
) -> None:
    served, failed = serve(retries=1), []

    def once(request: GenerationRequest, on_token: Callable[[TokenEvent], None]) -> Future[Generation]:
        if not failed:
            failed.append(True)
            raise ResourceError("the connection broke")
        return answers(request, on_token)

    served.engine.acts[served.challenger.adapter_id] = once
    assert served.ask().headers == {"x-tunery-model-version": "bot@2"}
    assert [(r.model, r.status, r.arm) for r in served.records] == [("bot@2", "ok", "challenger")]


def test_the_chain_ends_at_the_base_and_each_failure_is_kept(serve: Callable[..., Served]) -> None:
    served = serve(retries=0, fallback=("champion", "nobody", "base"))
    for version in (served.challenger, served.champion):
        served.engine.acts[version.adapter_id] = fails
    assert served.ask().headers["x-tunery-model-version"].startswith("tiny")
    assert [(r.model.partition("@")[0], r.status) for r in served.records][:2] == [("bot", "error")] * 2
    assert served.records[-1].fallback_from == "bot@1"


def test_a_pinned_name_is_answered_by_what_it_names_or_not_at_all(serve: Callable[..., Served]) -> None:
    served = serve(retries=0, fallback=("champion", "base"))
    served.engine.acts[served.challenger.adapter_id] = fails
    with refused(ResourceError, "502"):
        served.ask("bot@2")
    assert [(r.id, r.model, r.status) for r in served.records] == [("chatcmpl-1", "bot@2", "error")]


def test_an_engine_that_fails_again_and_again_is_left_alone_and_comes_back(
    serve: Callable[..., Served],
) -> None:
    served = serve(retries=0, fallback=(), breaker=BreakerSettings(failures=2, open_s=0.3))
    served.engine.acts[served.challenger.adapter_id] = fails
    for _ in range(2):
        with refused(ResourceError, "502"):
            served.ask()
    with refused(CircuitOpenError, "left alone.*502"):
        served.ask()
    assert len(served.engine.asked) == 2
    served.engine.acts.clear()
    asyncio.run(asyncio.sleep(0.35))
    served.ask()
    assert served.bases.served[0].breaker.circuit.state == "closed"


@pytest.mark.parametrize("stream", [False, True])
def test_what_does_not_come_in_time_is_ended_and_the_champion_answers(
    serve: Callable[..., Served], stream: bool
) -> None:
    served = serve(retries=0, first_token_s=0.2)
    served.engine.acts[served.challenger.adapter_id] = hangs
    assert served.ask(stream=stream).headers["x-tunery-fallback"] == "bot@2; timeout"


def test_a_client_is_not_answered_later_than_it_waits(serve: Callable[..., Served]) -> None:
    served = serve(retries=0, fallback=())
    served.engine.acts[served.challenger.adapter_id] = hangs
    for _ in range(6):  # as often as would open a circuit
        with refused(OverdueError, "took 0 s, which is longer than it may"):
            served.ask(timeout_s=0.05)
    assert served.bases.served[0].breaker.circuit.failures == 0
    assert served.gateway.in_flight == 0


def test_a_stream_that_takes_too_long_is_ended_with_an_error(serve: Callable[..., Served]) -> None:
    served = serve(total_s=0.3)

    def begins(request: GenerationRequest, on_token: Callable[[TokenEvent], None]) -> Future[Generation]:
        on_token(TokenEvent(5, "fi", None, ()))
        return Future()

    served.engine.acts[served.challenger.adapter_id] = begins
    with refused(OverdueError, "longer than it may"):
        served.ask(stream=True)
    assert [(r.model, r.status) for r in served.records] == [("bot@2", "error")]


def test_waiting_for_a_turn_is_not_the_engines_fault(serve: Callable[..., Served]) -> None:
    served = serve(retries=0, fallback=())
    served.engine.acts[served.challenger.adapter_id] = hangs

    async def crowd() -> None:
        call = CompletionCall(
            id="c",
            model="bot",
            caller=WITHOUT_KEY,
            subject="s",
            messages=(Message(role="user", content="x"),),
        )
        first = [asyncio.ensure_future(served.gateway.start(call, stream=False)) for _ in range(2)]
        while len(served.engine.asked) < 2:
            await asyncio.sleep(0.01)
        with refused(OverloadError, "waited 0 s for its turn"):
            await asyncio.wait_for(served.gateway.start(replace(call, timeout_s=0.2), stream=False), 5)
        for task in first:
            task.cancel()
        await asyncio.gather(*first, return_exceptions=True)

    asyncio.run(crowd())
    assert served.bases.served[0].breaker.circuit.failures == 0
    assert served.gateway.in_flight == 0
    assert sorted(r.status for r in served.records) == ["cancelled", "cancelled", "error"]


def test_what_waits_or_runs_when_the_server_ends_is_told_so_and_nobody_stands_in(
    serve: Callable[..., Served],
) -> None:
    served = serve(retries=1, fallback=("champion", "base"))
    served.engine.acts[served.challenger.adapter_id] = hangs

    def all_started() -> bool:
        return all(place.running is not None for place in served.gateway._places._taken)

    async def end() -> list[BaseException | Running]:
        messages = (Message(role="user", content="x"),)
        call = CompletionCall(id="c", model="bot", caller=WITHOUT_KEY, subject="s", messages=messages)
        calls = [asyncio.ensure_future(served.gateway.start(call, stream=n % 2 == 0)) for n in range(4)]
        while served.bases.served == () or served.bases.served[0].queue.waiting < 2 or not all_started():
            await asyncio.sleep(0.01)
        served.gateway.cut()
        return await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 5)

    assert [str(error).partition("\n")[0] for error in asyncio.run(end())] == [
        "the server is shutting down"
    ] * 4
    assert len(served.engine.asked) == 2  # two had their turn, two never did
    assert served.gateway.in_flight == 0
    assert served.bases.served[0].breaker.circuit.failures == 0


def test_a_challenger_whose_files_are_gone_is_made_up_for_and_counts(
    serve: Callable[..., Served], workspace: Workspace
) -> None:
    served = serve(retries=0)
    shutil.rmtree(workspace.artifacts.folder("adapters", served.challenger.adapter_id))
    assert served.ask().headers["x-tunery-fallback"] == "bot@2; damaged"
    assert [(r.model, r.arm, r.status) for r in served.records] == [
        ("bot@2", "challenger", "error"),
        ("bot@1", None, "ok"),
    ]
