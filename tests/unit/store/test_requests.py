"""Served calls and their tallies, against counting by hand."""

from __future__ import annotations

import random

import numpy as np
import pytest

from tests.unit.store import samples
from tunery.core.errors import NotFoundError
from tunery.core.rollout import Feedback, RequestRecord
from tunery.store.requests import Tally
from tunery.store.workspace import Workspace


def test_a_served_call_comes_back_as_it_went_in(workspace: Workspace) -> None:
    request = samples.request(format_valid=False, metadata={"k": ["v"]}, ttft_ms=3.5)
    assert workspace.requests.add(request) == request
    assert workspace.requests.get("chatcmpl-1") == request
    with pytest.raises(NotFoundError):
        workspace.requests.get("chatcmpl-2")


def test_calls_are_listed_newest_first_by_model_and_rollout(workspace: Workspace) -> None:
    for number in range(6):
        workspace.requests.add(
            samples.request(
                f"chatcmpl-{number}",
                model=f"support-bot@{number % 2}",
                rollout_id="rollout-1" if number > 2 else None,
            )
        )
    assert [r.id for r in workspace.requests.list(limit=2)] == ["chatcmpl-5", "chatcmpl-4"]
    assert [r.id for r in workspace.requests.list(10, model="support-bot@0")] == [
        "chatcmpl-4",
        "chatcmpl-2",
        "chatcmpl-0",
    ]
    assert [r.id for r in workspace.requests.list(10, model="support-bot@1", rollout_id="rollout-1")] == [
        "chatcmpl-5",
        "chatcmpl-3",
    ]


def test_a_rollout_without_requests_has_empty_tallies(workspace: Workspace) -> None:
    empty = Tally(0, 0, 0, 0, 0, 0, None, None)
    assert workspace.requests.tallies("rollout-1") == {"champion": empty, "challenger": empty}


def test_the_newest_rating_of_a_request_counts(workspace: Workspace) -> None:
    workspace.requests.add(samples.request(rollout_id="rollout-1", arm="challenger"))
    workspace.feedback.add(samples.feedback("fb-1", rating=-1))
    workspace.feedback.add(samples.feedback("fb-2", rating=1))
    workspace.feedback.add(samples.feedback("fb-3", kind="correction", rating=None, correction="refund"))
    tally = workspace.requests.tallies("rollout-1")["challenger"]
    assert (tally.rated, tally.liked) == (1, 1)
    workspace.feedback.add(samples.feedback("fb-4", rating=-1))
    tally = workspace.requests.tallies("rollout-1")["challenger"]
    assert (tally.rated, tally.liked) == (1, 0)


def by_hand(requests: list[RequestRecord], ratings: list[Feedback]) -> Tally:
    counted = [r for r in requests if r.status != "cancelled"]
    newest = {f.request_id: f.rating for f in ratings}
    rated = [newest[r.id] for r in counted if r.id in newest]
    latencies = [r.latency_ms for r in counted if r.status == "ok"]
    p50, p95 = (float(np.quantile(latencies, q, method="inverted_cdf")) for q in (0.5, 0.95))
    return Tally(
        requests=len(counted),
        errors=sum(r.status == "error" for r in counted),
        format_checked=sum(r.format_valid is not None for r in counted),
        format_valid=sum(r.format_valid is True for r in counted),
        rated=len(rated),
        liked=sum(rating == 1 for rating in rated),
        latency_ms_p50=p50,
        latency_ms_p95=p95,
    )


@pytest.mark.parametrize("seed", range(3))
def test_tallies_equal_counting_by_hand(workspace: Workspace, seed: int) -> None:
    rng = random.Random(seed)
    requests, ratings = [], []
    for number in range(60):
        request = samples.request(
            f"chatcmpl-{number}",
            rollout_id=rng.choice(["rollout-1", "rollout-1", "rollout-2", None]),
            arm=rng.choice(["champion", "challenger"]),
            status=rng.choice(["ok", "ok", "ok", "error", "cancelled"]),
            format_valid=rng.choice([True, False, None]),
            latency_ms=rng.choice([5.0, 7.5, rng.uniform(1, 100)]),
        )
        requests.append(workspace.requests.add(request))
    for number in range(40):
        rated = rng.choice([r for r in requests if r.status != "cancelled"])
        rating = samples.feedback(f"fb-{number}", request_id=rated.id, rating=rng.choice([-1, 1]))
        ratings.append(workspace.feedback.add(rating))
    for arm, tally in workspace.requests.tallies("rollout-1").items():
        of_arm = [r for r in requests if r.rollout_id == "rollout-1" and r.arm == arm]
        assert tally == by_hand(of_arm, ratings)
