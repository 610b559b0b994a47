"""Served calls and their tallies, against counting by hand."""

from __future__ import annotations

import random
from datetime import timedelta

import numpy as np
import pytest

from tests.unit.store import samples
from tunery.core.errors import NotFoundError
from tunery.core.rollout import Feedback, RequestRecord
from tunery.store.requests import Chosen, Tally
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


def test_a_list_reads_no_prompts_and_narrows_by_metadata(workspace: Workspace) -> None:
    for number in range(7):
        workspace.requests.add(
            samples.request(f"chatcmpl-{number}", metadata={"n": str(number % 2), 'a\'b "c"': "€"})
        )
    page = workspace.requests.heads(limit=3)
    assert [r.id for r in page.items] == ["chatcmpl-6", "chatcmpl-5", "chatcmpl-4"]
    assert page.has_more
    assert all(r.messages == () and r.completion and r.text == "kept" for r in page.items)
    odd = workspace.requests.heads(metadata={"n": "1", 'a\'b "c"': "€"}, after="chatcmpl-5", limit=2)
    assert [r.id for r in odd.items] == ["chatcmpl-3", "chatcmpl-1"]
    assert not odd.has_more
    oldest = workspace.requests.heads(model="support-bot@1", oldest_first=True, limit=1)
    assert [r.id for r in oldest.items] == ["chatcmpl-0"]
    assert workspace.requests.heads(metadata={"n": "\0"}).items == []
    with pytest.raises(NotFoundError) as unknown:
        workspace.requests.heads(after="chatcmpl-99")
    assert unknown.value.param == "after"
    assert "chatcmpl-5" not in str(unknown.value)


@pytest.mark.parametrize("id", ["chatcmpl-\0", "\ud800", "x" * 10_000])
def test_an_id_that_cannot_be_one_is_in_no_table(workspace: Workspace, id: str) -> None:
    assert workspace.requests.find(id) is None
    for look in (workspace.requests.get, workspace.files.get, workspace.jobs.get, workspace.datasets.get):
        with pytest.raises(NotFoundError) as unknown:
            look(id)
        assert str(unknown.value).encode()
    with pytest.raises(NotFoundError):
        workspace.files.page(after=id)


def test_a_deleted_call_counts_and_is_neither_found_nor_written_again(workspace: Workspace) -> None:
    request = samples.request(rollout_id="rollout-1", arm="champion", metadata={"k": "v"})
    workspace.requests.add(request)
    workspace.feedback.add(samples.feedback("fb-1", rating=-1))
    workspace.feedback.add(samples.feedback("fb-2", kind="correction", rating=None, correction="refund"))
    before = workspace.requests.tallies("rollout-1")
    workspace.requests.forget(request.id, samples.NOON)
    assert workspace.requests.tallies("rollout-1") == before
    assert workspace.requests.find(request.id) is None
    assert workspace.requests.heads().items == workspace.requests.list() == []
    assert [f.id for f in workspace.feedback.list()] == ["fb-1"]
    assert workspace.database.rows("SELECT * FROM request_texts") == []
    with workspace.database.transaction() as transaction:
        assert not workspace.requests.put(transaction, request)
    assert workspace.requests.find(request.id) is None
    for again in (workspace.requests.forget,):
        with pytest.raises(NotFoundError):
            again(request.id, samples.NOON)
    with pytest.raises(NotFoundError):
        workspace.feedback.add(samples.feedback("fb-3", rating=1))


def test_texts_expire_and_figures_stay(workspace: Workspace) -> None:
    for day in range(5):
        at = samples.NOON + timedelta(days=day)
        workspace.requests.add(samples.request(f"chatcmpl-{day}", created_at=at))
    assert workspace.requests.expire_texts(samples.NOON + timedelta(days=2)) == 2
    assert workspace.requests.expire_texts(samples.NOON + timedelta(days=2)) == 0
    assert [r.text for r in workspace.requests.list()] == ["kept"] * 3 + ["removed"] * 2
    assert workspace.requests.get("chatcmpl-0").prompt_tokens == samples.request().prompt_tokens


@pytest.mark.parametrize("how", ["expired", "purged", "forgotten"])
def test_what_was_said_of_a_text_goes_with_it_and_ratings_stay(workspace: Workspace, how: str) -> None:
    for n in range(2):
        workspace.requests.add(samples.request(f"chatcmpl-{n}", created_at=samples.NOON + timedelta(days=n)))
        of = {"request_id": f"chatcmpl-{n}", "comment": 'he said \0 "refund"'}
        words = {"rating": None, "correction": "refund"}
        workspace.feedback.add(samples.feedback(f"fb-{n}-rating", **of))
        workspace.feedback.add(samples.feedback(f"fb-{n}-correction", kind="correction", **of, **words))
        pair = {**words, "rejected": "refuse"}
        workspace.feedback.add(samples.feedback(f"fb-{n}-pair", kind="preference", **of, **pair))
    first_day = samples.NOON + timedelta(hours=1)
    if how == "expired":
        assert workspace.requests.expire_texts(first_day) == 1
    elif how == "purged":
        assert workspace.requests.purge(Chosen(before=first_day), texts_only=True) == (0, 1, 2)
    else:
        workspace.requests.forget("chatcmpl-0", first_day)
    assert {f.id: (f.rating, f.comment is None) for f in workspace.feedback.list()} == {
        "fb-0-rating": (1, True),
        **{f"fb-1-{kind}": (rating, False) for kind, rating in (("rating", 1), ("correction", None))},
        "fb-1-pair": (None, False),
    }


@pytest.mark.parametrize(
    ("chosen", "meant"),
    [
        (Chosen(ids=("chatcmpl-1", "chatcmpl-4")), {1, 4}),
        (Chosen(before=samples.NOON + timedelta(days=2)), {0, 1}),
        (Chosen(model="bot@1"), {0, 2, 4}),
        (Chosen(model="bot"), {0, 1, 2, 3, 4}),
        (Chosen(model="bo"), set()),
        (Chosen(model="bot@1", before=samples.NOON + timedelta(days=2)), {0}),
        (Chosen(), {0, 1, 2, 3, 4, 5}),
    ],
)
def test_a_purge_takes_what_is_meant_and_nothing_else(
    workspace: Workspace, chosen: Chosen, meant: set[int]
) -> None:
    requests = [
        samples.request(
            f"chatcmpl-{n}",
            created_at=samples.NOON + timedelta(days=n),
            model="other@1" if n == 5 else f"bot@{n % 2 + 1}",
        )
        for n in range(6)
    ]
    for request in requests:
        workspace.requests.add(request)
        workspace.feedback.add(samples.feedback(f"fb-{request.id}", request_id=request.id, rating=1))
    assert {n for n in range(6) if chosen.takes(requests[n])} == meant
    assert set(workspace.requests.chosen_ids(chosen)) == {f"chatcmpl-{n}" for n in meant}
    assert workspace.requests.purge(chosen, texts_only=True) == (0, len(meant), 0)
    removed = {r.id for r in workspace.requests.list() if r.text == "removed"}
    assert removed == {f"chatcmpl-{n}" for n in meant}
    assert workspace.requests.purge(chosen, texts_only=False) == (len(meant), 0, len(meant))
    assert {r.id for r in workspace.requests.list()} == {f"chatcmpl-{n}" for n in range(6) if n not in meant}
