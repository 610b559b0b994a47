"""A registered champion and challenger, and requests that they answered."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from tunery.core.example import Message
from tunery.core.registry import ModelVersion
from tunery.core.rollout import Feedback, RequestRecord, Rollout
from tunery.store.workspace import Workspace

START = datetime(2026, 3, 1, tzinfo=UTC)


class Hands:
    """A clock that moves when told to."""

    def __init__(self) -> None:
        self.time = START

    def now(self) -> datetime:
        return self.time

    def pass_hours(self, hours: float) -> None:
        self.time += timedelta(hours=hours)


def version(name: str = "bot", *, gate_passed: bool = True) -> ModelVersion:
    return ModelVersion(
        name=name,
        version=1,
        adapter_id="adapter-0",
        base="tiny@sha256:0",
        dataset_version="ds-0",
        evaluation_id="eval-0",
        gate_id="gate-0",
        gate_passed=gate_passed,
        run_id="run-0",
        system_prompt=None,
        config={},
        metrics={},
        created_at=START,
    )


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture
def bots(workspace: Workspace, clock: Hands) -> Workspace:
    """``bot@1`` is champion, ``bot@2`` registered, ``bot@3`` refused by its gate; time stands still."""
    opened = Workspace.open(
        workspace.root, database_url=f"sqlite:///{workspace.root / 'tunery.db'}", clock=clock
    )
    for passed in (True, True, False):
        opened.models.register(version(gate_passed=passed))
    opened.models.set_alias("bot", "champion", 1, actor="test", reason="first version")
    yield opened
    opened.close()


Serve = Callable[..., None]


@pytest.fixture
def serve(bots: Workspace, clock: Hands) -> Serve:
    """Return a function that logs requests of one arm, a number of them failed, misformed or disliked."""
    counter = iter(range(10**9))

    def serve(
        rollout: Rollout,
        arm: str,
        n: int,
        *,
        errors: int = 0,
        invalid: int = 0,
        disliked: int = 0,
        liked: int = 0,
        latency_ms: float = 100.0,
    ) -> None:
        for i in range(n):
            failed = i < errors
            request = RequestRecord(
                id=f"chatcmpl-{next(counter)}",
                created_at=clock.now(),
                endpoint="bot",
                model=f"bot@{getattr(rollout, arm)}",
                arm=arm,
                rollout_id=rollout.id,
                subject=f"user-{i}",
                messages=(Message(role="user", content="Where is my card?"),),
                completion="" if failed else "card_arrival",
                status="error" if failed else "ok",
                format_valid=None if failed else i >= errors + invalid,
                latency_ms=latency_ms,
            )
            bots.requests.add(request)
            thumb = n - i
            if thumb <= disliked + liked:
                bots.feedback.add(
                    Feedback(
                        id=f"fb-{request.id}",
                        request_id=request.id,
                        kind="rating",
                        rating=-1 if thumb <= disliked else 1,
                        author="user",
                        created_at=clock.now(),
                    )
                )

    return serve
