"""The gateway's idea of a valid answer, and how a call ends whatever happens to it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from typing import Any

import pytest
from tests.unit.evaluate.scripted import CharTokenizer, ScriptedEngine, example

from tunery.core.access import WITHOUT_KEY
from tunery.core.engine import Constraint, Engine, Generation, TokenEvent
from tunery.core.errors import ConfigError, NotFoundError, ResourceError
from tunery.core.example import Message
from tunery.core.registry import ModelVersion
from tunery.core.rollout import RequestRecord
from tunery.core.training import BaseModelInfo
from tunery.evaluate.scorers import ScorerOptions, make_scorer
from tunery.pipeline.gateway.bases import BasePool, Opened
from tunery.pipeline.gateway.call import CompletionCall, subject_of
from tunery.pipeline.gateway.form import AnswerForms
from tunery.pipeline.gateway.gateway import Gateway
from tunery.pipeline.gateway.log import RequestLog
from tunery.store.workspace import Workspace
from tunery.traffic.config import TrafficSettings

INFO = BaseModelInfo(name="tiny", sha256="0" * 64, path="/nowhere", parameters=1)
SCHEMA = {
    "type": "object",
    "properties": {"total": {"type": "number"}},
    "required": ["total"],
    "additionalProperties": False,
}


def version(
    workspace: Workspace,
    *,
    labels: tuple[str, ...] | None = None,
    metrics: Sequence[str] = (),
    config: Mapping[str, Any] | None = None,
) -> ModelVersion:
    return ModelVersion(
        name="bot",
        version=1,
        adapter_id="adapter-0",
        base=INFO.label,
        dataset_version="ds-0",
        evaluation_id="eval-0",
        gate_id="gate-0",
        gate_passed=True,
        run_id="run-0",
        system_prompt=None,
        labels=labels,
        config=config or {},
        metrics=dict.fromkeys(metrics, 1.0),
        created_at=workspace.clock.now(),
    )


ANSWERS = (
    "card_arrival",
    " Card arrival.\n",
    "**REFUND**",
    "The label is refund",
    "cards",
    "",
    '{"total": 1}',
    '{"total": "1"}',
    '{"total": 1, "tip": 2}',
    '{"total": NaN}',
    '{"total": 1',
    "[1]",
    "null",
    '"text"',
    "[" * 100_000,
    "\ud800",
)
LABELS = ("card_arrival", "refund")
TASKS: dict[str, tuple[dict[str, Any], str]] = {
    "labels": ({"labels": LABELS, "metrics": ("accuracy", "exact_match")}, "accuracy"),
    "labels by exact match alone": ({"labels": LABELS, "metrics": ("exact_match",)}, "accuracy"),
    "JSON": ({"metrics": ("valid_json", "field_match")}, "valid_json"),
    "JSON by its fields alone": ({"metrics": ("field_match", "field_match.total")}, "valid_json"),
    "JSON of a schema": (
        {"metrics": ("valid_json", "field_match"), "config": {"evaluate": {"json_schema": SCHEMA}}},
        "valid_json",
    ),
}


@pytest.mark.parametrize("task", TASKS)
def test_an_answer_is_valid_online_where_the_versions_own_scorer_says_so(
    workspace: Workspace, task: str
) -> None:
    parts, name = TASKS[task]
    schema = parts.get("config", {}).get("evaluate", {}).get("json_schema")
    scorer = make_scorer(name, ScorerOptions(labels=parts.get("labels"), json_schema=schema))
    check = AnswerForms().check(version(workspace, **parts), None)
    assert check is not None
    references = LABELS if name == "accuracy" else ("{}",)
    judged = {a: any(scorer.correct(a, example("q", r)) for r in references) for a in ANSWERS}
    assert {a: check(a) for a in ANSWERS} == judged
    assert set(judged.values()) == {True, False}


def test_no_form_is_expected_of_open_text_or_of_a_base(workspace: Workspace) -> None:
    assert AnswerForms().check(version(workspace, metrics=("exact_match", "perplexity")), None) is None
    assert AnswerForms().check(version(workspace, metrics=("a_scorer_that_is_gone",)), None) is None
    assert AnswerForms().check(None, None) is None


@pytest.mark.parametrize(
    ("constraint", "text", "valid"),
    [
        (Constraint(labels=("yes",)), "yes", True),
        (Constraint(labels=("yes",)), "card", False),
        (Constraint(json_schema={}), "[1]", True),
        (Constraint(json_schema={}), "card", False),
        (Constraint(json_schema={"type": "object"}), '{"a": 1', False),
    ],
)
def test_what_the_request_asks_for_counts_before_what_the_version_was_trained_on(
    workspace: Workspace, constraint: Constraint, text: str, valid: bool
) -> None:
    check = AnswerForms().check(version(workspace, labels=("card",)), constraint)
    assert check is not None
    assert check(text) is valid


def test_a_versions_check_is_made_once(workspace: Workspace) -> None:
    forms, config = AnswerForms(), {"evaluate": {"json_schema": SCHEMA}}
    made = [forms.check(version(workspace, metrics=("valid_json",), config=config), None) for _ in range(2)]
    assert made[0] is made[1]


def test_a_subject_is_one_user_or_one_key_and_tells_neither() -> None:
    assert subject_of("jane", "key-1") == subject_of("jane", "key-2")
    assert subject_of(None, "key-1") != subject_of(None, "key-2")
    assert subject_of("key-1", None) != subject_of(None, "key-1")
    assert "jane" not in subject_of("jane", None)


class SlowEngine(ScriptedEngine):
    """Holds every request back while it is checked until it is let go, or refuses it."""

    def __init__(self) -> None:
        super().__init__({})
        self.futures: list[Future[Generation]] = []
        self.submitted, self.go_on, self.queued = (threading.Event() for _ in range(3))
        self.begins = True
        self.error: Exception | None = None

    def prepare(self, request, on_token=None):  # type: ignore[no-untyped-def]
        self.submitted.set()
        self.go_on.wait(10)
        if self.error:
            raise self.error

        def queue() -> Future[Generation]:
            self.futures.append(Future())
            self.queued.set()
            if self.begins:
                on_token(TokenEvent(5, "a", None, ()))
            return self.futures[-1]

        return queue


CALL = CompletionCall(
    id="chatcmpl-1",
    model="tiny",
    caller=WITHOUT_KEY,
    subject="s",
    messages=(Message(role="user", content="hi"),),
)


@pytest.fixture
def engine() -> SlowEngine:
    return SlowEngine()


@pytest.fixture
def records() -> list[RequestRecord]:
    return []


@pytest.fixture
def gateway(workspace: Workspace, engine: SlowEngine, records: list[RequestRecord]) -> Iterator[Gateway]:
    def open_base(info: BaseModelInfo) -> Opened:
        opened: Engine = engine
        return Opened(opened, CharTokenizer())

    log = RequestLog(workspace, list, observe=records.append)
    traffic = TrafficSettings(retries=0)
    yield Gateway(workspace, BasePool(INFO, open_base), log, max_in_flight=1, traffic=traffic)
    log.close()


def test_a_client_that_leaves_while_its_call_is_started_leaves_nothing_running(
    gateway: Gateway, engine: SlowEngine, records: list[RequestRecord]
) -> None:
    async def leave() -> None:
        starting = asyncio.ensure_future(gateway.start(CALL, stream=True))
        await asyncio.to_thread(engine.submitted.wait, 10)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert gateway.in_flight == 1  # the thread is still at work for it
        engine.go_on.set()
        while gateway.in_flight:
            await asyncio.sleep(0.001)

    asyncio.run(leave())
    assert [f.cancelled() for f in engine.futures] == [True]
    assert [r.status for r in records] == ["cancelled"]


def test_a_client_that_leaves_a_stream_before_its_first_piece_is_recorded_once(
    gateway: Gateway, engine: SlowEngine, records: list[RequestRecord]
) -> None:
    async def leave() -> None:
        engine.go_on.set()
        running = await gateway.start(CALL, stream=True)
        with pytest.raises(ResourceError, match="1 requests are being answered or wait"):
            await gateway.start(CALL, stream=True)
        running.end(None)
        running.end(RuntimeError("again"))

    asyncio.run(leave())
    assert gateway.in_flight == 0
    (future,) = engine.futures
    with pytest.raises(CancelledError):  # at the latest once the queue that hands it over has it
        future.result(5)
    assert [r.status for r in records] == ["cancelled"]


def test_a_call_that_the_engine_refuses_is_the_versions_error_and_one_without_a_model_is_nobodys(
    gateway: Gateway, engine: SlowEngine, records: list[RequestRecord]
) -> None:
    engine.go_on.set()
    engine.error = ConfigError("the prompt is too long")
    with pytest.raises(ConfigError, match="too long"):
        asyncio.run(gateway.start(CALL, stream=False))
    assert [(r.status, r.model, r.messages, r.text) for r in records] == [("error", "tiny", (), "no_answer")]
    with pytest.raises(NotFoundError):
        asyncio.run(
            gateway.start(
                CompletionCall(id="x", model="nobody", caller=WITHOUT_KEY, subject="s", messages=()),
                stream=False,
            )
        )
    assert len(records) == 1
    assert gateway.in_flight == 0


def test_an_engine_that_stops_in_the_middle_is_an_error_with_a_reason(
    gateway: Gateway, engine: SlowEngine, records: list[RequestRecord]
) -> None:
    async def stopped() -> None:
        starting = asyncio.ensure_future(gateway.start(CALL, stream=False))
        await asyncio.to_thread(engine.queued.wait, 10)
        engine.futures[0].cancel()
        await starting

    engine.go_on.set()
    with pytest.raises(ResourceError, match="stopped before this request was answered"):
        asyncio.run(stopped())
    assert [r.status for r in records] == ["error"]
