"""Rollouts: start a canary, see what its numbers say, end it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import Field, StringConstraints

from tunery.api.json_route import JsonRoute
from tunery.api.services import Caller, Shared, page_of, unix
from tunery.core.rollout import Rollout
from tunery.deploy import canary
from tunery.registry.aliases import promote, rollback, unalias
from tunery.serve.openai.wire import Text, Wire

router = APIRouter(prefix="/rollouts", route_class=JsonRoute)


class CanaryBody(Wire):
    """Which version to try on how many users."""

    model: Annotated[Text, StringConstraints(min_length=1, max_length=256)]
    """``name@N`` or ``name@alias``."""
    percent: float | None = Field(default=None, gt=0, lt=100)


@router.post("")
def start_canary(body: CanaryBody, shared: Shared, caller: Caller) -> dict[str, Any]:
    """Let a version answer a share of its name's users."""
    started = canary.start(shared.workspace, body.model, actor=caller.name, percent=body.percent)
    return rollout_object(started)


class MoveBody(Wire):
    """Which alias to move, and why."""

    model: Annotated[Text, StringConstraints(min_length=1, max_length=256)]
    """``name@N`` to promote, ``name`` to roll back, ``name@alias`` to take an alias away."""
    reason: Annotated[Text, StringConstraints(min_length=1, max_length=1_000)] = "by hand"


@router.post("/promote")
def promote_version(body: MoveBody, shared: Shared, caller: Caller) -> dict[str, Any]:
    """Make a version the champion of its name."""
    move = promote(shared.workspace, body.model, actor=caller.name, reason=body.reason)
    return {**move.model_dump(mode="json"), "object": "alias.move"}


@router.post("/rollback")
def rollback_champion(body: MoveBody, shared: Shared, caller: Caller) -> dict[str, Any]:
    """Make the champion before this one the champion again."""
    move = rollback(shared.workspace, body.model, actor=caller.name, reason=body.reason)
    return {**move.model_dump(mode="json"), "object": "alias.move"}


@router.post("/unalias")
def unalias_version(body: MoveBody, shared: Shared, caller: Caller) -> dict[str, Any]:
    """Take an alias away, as in ``name@champion``."""
    move = unalias(shared.workspace, body.model, actor=caller.name, reason=body.reason)
    return {**move.model_dump(mode="json"), "object": "alias.move"}


@router.get("")
def list_rollouts(
    shared: Shared,
    model: str | None = None,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
) -> dict[str, Any]:
    """List rollouts, newest first."""
    page = shared.workspace.rollouts.page(where={"name": model}, after=after, limit=limit)
    return page_of([rollout_object(r) for r in page.items], has_more=page.has_more)


@router.get("/{rollout_id}")
def retrieve_rollout(rollout_id: str, shared: Shared) -> dict[str, Any]:
    """Describe one rollout; of one that runs, also what its numbers say now."""
    found = shared.workspace.rollouts.get(rollout_id)
    if found.status != "running":
        return rollout_object(found)
    shared.log.flush()
    judged = canary.judge(shared.workspace, found)
    return {**rollout_object(found), "judgement": judged.model_dump(mode="json")}


@router.post("/{rollout_id}/cancel")
def cancel_rollout(rollout_id: str, shared: Shared, caller: Caller) -> dict[str, Any]:
    """End a running canary; the champion answers everybody again."""
    found = shared.workspace.rollouts.get(rollout_id)
    return rollout_object(canary.cancel(shared.workspace, found.name, actor=caller.name))


def rollout_object(rollout: Rollout) -> dict[str, Any]:
    """Return a rollout as JSON."""
    return {
        **rollout.model_dump(mode="json"),
        "object": "rollout",
        "created_at": unix(rollout.created_at),
        "ended_at": unix(rollout.ended_at),
    }
