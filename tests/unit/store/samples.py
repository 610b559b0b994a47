"""Records to store; every field that a test does not speak of has a plain value."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from tunery.core.dataset import DatasetVersion, SourceFile
from tunery.core.evaluation import Evaluation, GateResult, Metric, RuleOutcome
from tunery.core.example import Message
from tunery.core.job import Job, StoredFile
from tunery.core.registry import ModelVersion
from tunery.core.rollout import Feedback, RequestRecord, Rollout
from tunery.core.run import Run
from tunery.core.training import Adapter, BaseModelInfo, StepLog

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

BASE = BaseModelInfo(name="tiny", sha256="ab" * 32, path="models/tiny", parameters=1000)


def dataset(id: str = "ds-0000000000000001", **fields: Any) -> DatasetVersion:
    source = SourceFile(path="train.csv", sha256="0" * 64, rows=3, shape="columns")
    plain = DatasetVersion(
        id=id,
        name="support-bot",
        content_sha256="1" * 64,
        created_at=NOON,
        sources=(source,),
        config={"seed": 7},
        rows_read=3,
        rows_kept=2,
        dropped={"exact_duplicate": 1},
        masked={},
        splits={"train": 1, "test": 1},
        labels=("billing", "refund"),
    )
    return plain.with_(**fields)


def adapter(id: str = "adapter-0000000000000001", **fields: Any) -> Adapter:
    plain = Adapter(
        id=id,
        base=BASE,
        dataset_version="ds-0000000000000001",
        config={"rank": 8},
        sha256="2" * 64,
        chat_template_sha256="3" * 64,
        system_prompt="Answer with one word.",
        trainable_parameters=10,
        steps=2,
        best_step=2,
        trained_tokens=100,
        seconds=1.5,
        history=(StepLog(step=1, epoch=0.5, train_loss=2.0), StepLog(step=2, epoch=1.0, train_loss=1.0)),
        created_at=NOON,
    )
    return plain.with_(**fields)


def metric(value: float = 0.9, **fields: Any) -> Metric:
    plain = Metric(name="exact_match", value=0.5, n=10, ci95=(0.1, 0.95), method="wilson")
    return plain.with_(value=value, **fields)


def evaluation(id: str = "eval-0000000000000001", **fields: Any) -> Evaluation:
    plain = Evaluation(
        id=id,
        subject="tuned",
        base=BASE.label,
        adapter="adapter-0000000000000001",
        data="ds-0000000000000001/test",
        main_metric="exact_match",
        metrics={"exact_match": metric()},
        config={},
        created_at=NOON,
        seconds=2.0,
    )
    return plain.with_(**fields)


def gate(id: str = "gate-0000000000000001", **fields: Any) -> GateResult:
    passed = bool(fields.get("passed", True))
    outcome = RuleOutcome(
        rule={"min": 0.7},
        passed=passed,
        observed=0.9,
        required=0.7,
        sentence="exact match is 0.9, 0.7 asked.",
    )
    return GateResult(id=id, passed=passed, rules=(outcome,), created_at=NOON)


def run(id: str = "run-0000000000000001", **fields: Any) -> Run:
    plain = Run(id=id, name="support-bot", recipe={"name": "support-bot"}, status="running", created_at=NOON)
    return plain.with_(**fields)


def version(name: str = "support-bot", **fields: Any) -> ModelVersion:
    plain = ModelVersion(
        name=name,
        version=1,
        adapter_id="adapter-0000000000000001",
        base=BASE.label,
        dataset_version="ds-0000000000000001",
        evaluation_id="eval-0000000000000001",
        gate_id="gate-0000000000000001",
        gate_passed=True,
        run_id="run-0000000000000001",
        system_prompt=None,
        config={},
        metrics={"exact_match": 0.9},
        created_at=NOON,
    )
    return plain.with_(**fields)


def job(id: str = "ftjob-1", **fields: Any) -> Job:
    plain = Job(id=id, kind="run", status="queued", recipe={"name": "x"}, request={}, created_at=NOON)
    return plain.with_(**fields)


def stored_file(id: str = "file-1", **fields: Any) -> StoredFile:
    plain = StoredFile(
        id=id,
        filename="rows.jsonl",
        purpose="fine-tune",
        bytes=10,
        sha256="4" * 64,
        status="processed",
        created_at=NOON,
    )
    return plain.with_(**fields)


def rollout(id: str = "rollout-1", **fields: Any) -> Rollout:
    plain = Rollout(
        id=id,
        name="support-bot",
        champion=1,
        challenger=2,
        traffic_percent=10,
        rule={},
        status="running",
        actor="cli",
        created_at=NOON,
    )
    return plain.with_(**fields)


def request(id: str = "chatcmpl-1", **fields: Any) -> RequestRecord:
    plain = RequestRecord(
        id=id,
        created_at=NOON,
        endpoint="support-bot",
        model="support-bot@1",
        subject="5" * 64,
        messages=(Message(role="user", content="Where is my refund?"),),
        completion="refund",
        status="ok",
        latency_ms=12.5,
    )
    return plain.with_(**fields)


def feedback(id: str = "fb-1", **fields: Any) -> Feedback:
    plain = Feedback(id=id, request_id="chatcmpl-1", kind="rating", rating=1, author="ann", created_at=NOON)
    return plain.with_(**fields)
