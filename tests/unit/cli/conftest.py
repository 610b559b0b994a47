"""The command line in process, and a workspace with a champion, a challenger and a refused version."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.fixtures_cli import home, tunery
from tunery.core.evaluation import GateResult, RuleOutcome
from tunery.core.example import Message
from tunery.core.registry import ModelVersion
from tunery.core.rollout import RequestRecord
from tunery.store.workspace import Workspace

__all__ = ["home", "tunery"]

AT = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def bots(home: Path) -> Iterator[Workspace]:
    """``bot@1`` is champion, ``bot@2`` passed its gate, ``bot@3`` was refused; one request was served."""
    workspace = Workspace.open(home)
    for gate, passed in (("gate-1", True), ("gate-2", True), ("gate-3", False)):
        rule = RuleOutcome(rule={}, passed=passed, observed=0.5, required=0.6, sentence=f"{gate} has spoken.")
        workspace.gates.add(GateResult(id=gate, passed=passed, rules=(rule,), created_at=AT))
        workspace.models.register(
            ModelVersion(
                name="bot",
                version=1,
                adapter_id=f"adapter-{gate}",
                base="tiny@sha256:0",
                dataset_version="ds-0",
                evaluation_id=f"eval-{gate}",
                gate_id=gate,
                gate_passed=passed,
                run_id="run-0",
                system_prompt="Name the [intent].",
                config={
                    "goal": {"metric": "exact_match"},
                    "deploy": {"canary": {"percent": 7.0, "horizon_requests": 50}},
                },
                metrics={"exact_match": 0.5},
                created_at=AT,
            )
        )
    workspace.models.set_alias("bot", "champion", 1, actor="test", reason="first version")
    workspace.requests.add(
        RequestRecord(
            id="chatcmpl-1",
            created_at=AT,
            endpoint="bot",
            model="bot@1",
            subject="someone",
            messages=(Message(role="user", content="Where is my card?"),),
            completion="card arrival",
            status="ok",
        )
    )
    yield workspace
    workspace.close()
