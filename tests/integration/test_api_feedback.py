"""Request records, feedback and canaries over the unmodified client."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.integration.live_api import BASE, Live, live, register
from tunery.api.config import ServerSettings
from tunery.pipeline.gateway.log import LogSettings
from tunery.store.journal import find_anywhere
from tunery.store.workspace import Workspace

ASK = [{"role": "user", "content": "Mail me at jane.doe@example.org about my card"}]


@pytest.fixture
def server(workspace: Workspace, tiny_model: Path, tiny_adapters: dict[str, Path]) -> Iterator[Live]:
    for adapter in ("a", "b"):
        register(
            workspace, tiny_model, tiny_adapters[adapter], "bot", labels=("card arrival", "top up failed")
        )
    workspace.models.set_alias("bot", "champion", 1, actor="test", reason="first")
    settings = ServerSettings(port=0, run_jobs=False, base=str(tiny_model), canary_interval_s=0.1)
    with live(workspace, tiny_model, settings=settings) as running:
        yield running


def test_a_call_is_recorded_masked_with_what_was_served(server: Live) -> None:
    client = server.client()
    answer = client.chat.completions.create(
        model="bot", messages=ASK, max_tokens=5, user="jane", metadata={"ticket": "7"}
    )
    stored = client.chat.completions.retrieve(answer.id)
    assert stored.metadata == {"ticket": "7"}
    assert stored.usage.total_tokens == answer.usage.total_tokens  # type: ignore[union-attr]
    record = server.workspace.requests.get(answer.id)
    assert record.messages[0].content == "Mail me at <EMAIL_ADDRESS> about my card"
    assert (record.endpoint, record.model, record.status) == ("bot", "bot@1", "ok")
    assert record.format_valid is False
    assert record.latency_ms >= (record.ttft_ms or 0) > 0
    assert "jane" not in record.subject
    labelled = client.chat.completions.create(
        model="bot", messages=ASK, extra_body={"tunery": {"labels": ["card arrival"]}}
    )
    client.chat.completions.retrieve(labelled.id)
    assert server.workspace.requests.get(labelled.id).format_valid is True
    on_base = client.chat.completions.create(model=BASE, messages=ASK, max_tokens=2)
    client.chat.completions.retrieve(on_base.id)
    assert server.workspace.requests.get(on_base.id).format_valid is None


def test_store_false_keeps_the_counts_and_not_the_texts(server: Live) -> None:
    client = server.client()
    answer = client.chat.completions.create(model="bot", messages=ASK, max_tokens=5, store=False)
    client.chat.completions.retrieve(answer.id)
    record = server.workspace.requests.get(answer.id)
    assert (record.messages, record.completion) == ((), "")
    assert record.prompt_tokens > 0


def test_stored_completions_are_listed_by_metadata(server: Live) -> None:
    client = server.client()
    made = [
        client.chat.completions.create(model="bot", messages=ASK, max_tokens=2, metadata={"n": str(i % 2)}).id
        for i in range(5)
    ]
    listed = client.chat.completions.list(metadata={"n": "0"}, limit=2)
    assert [c.id for c in listed] == [made[4], made[2], made[0]]


def test_an_unmodified_client_rates_and_corrects_through_metadata(server: Live) -> None:
    client = server.client()
    answer = client.chat.completions.create(model="bot", messages=ASK, max_tokens=5, store=True)
    client.chat.completions.update(answer.id, metadata={"rating": "1"})
    client.chat.completions.update(answer.id, metadata={"correction": "card arrival", "comment": "was off"})
    kinds = {f.kind: f for f in server.workspace.feedback.list(request_id=answer.id)}
    assert kinds["rating"].rating == 1
    assert kinds["correction"].correction == "card arrival"
    assert kinds["correction"].comment == "was off"
    assert all(f.status == "pending" for f in kinds.values())
    with pytest.raises(openai.BadRequestError, match="write 1 or -1"):
        client.chat.completions.update(answer.id, metadata={"rating": "5"})
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.update("chatcmpl-none", metadata={"rating": "1"})


def test_metadata_is_replaced_and_searched_and_feedback_in_it_is_kept_as_feedback(server: Live) -> None:
    client = server.client()
    calls = client.chat.completions
    first, second = (
        calls.create(model="bot", messages=ASK, max_tokens=2, metadata={"team": "cards", "n": str(n)})
        for n in range(2)
    )
    assert calls.update(first.id, metadata={"team": "top ups", "rating": "-1"}).metadata == {
        "team": "top ups"
    }
    assert calls.retrieve(first.id).metadata == {"team": "top ups"}
    assert calls.retrieve(first.id).choices[0].message.content == first.choices[0].message.content
    assert [c.id for c in calls.list(metadata={"team": "cards"})] == [second.id]
    assert [c.id for c in calls.list(metadata={"team": "top ups"})] == [first.id]
    assert [(f.request_id, f.rating) for f in server.workspace.feedback.list()] == [(first.id, -1)]
    assert calls.update(first.id, metadata={"rating": "1"}).metadata == {"team": "top ups"}
    with pytest.raises(openai.BadRequestError, match="write 1 or -1"):
        calls.update(first.id, metadata={"team": "x", "rating": "5"})
    assert calls.retrieve(first.id).metadata == {"team": "top ups"}
    assert calls.update(second.id, metadata=None).metadata == {}
    assert server.workspace.requests.get(second.id).messages != ()


def test_what_a_client_deletes_is_in_no_file_of_the_home_any_more(server: Live) -> None:
    client = server.client()
    word = "zanzibar-7731"
    told = [{"role": "user", "content": f"my {word} card"}]
    call = client.chat.completions.create(model="bot", messages=told, max_tokens=2, metadata={"w": word})  # type: ignore[arg-type]
    client.chat.completions.update(call.id, metadata={"correction": word, "w": f"{word}-2"})

    def holding() -> list[str]:
        files = [p for p in server.workspace.root.rglob("*") if p.is_file()]
        return [p.name for p in files if word.encode() in p.read_bytes()]

    assert holding()
    client.chat.completions.delete(call.id)
    assert holding() == []


def test_feedback_is_posted_and_listed(server: Live) -> None:
    client = server.client()
    answer = client.chat.completions.create(model="bot", messages=ASK, max_tokens=5)
    with server.http() as http:
        made = http.post("/v1/feedback", json={"request_id": answer.id, "rejected": "top up failed"})
        assert made.status_code == 200, made.text
        assert made.json()["kind"] == "preference"
        assert http.post("/v1/feedback", json={"request_id": answer.id, "rating": -1}).json()["rating"] == -1
        wrong = http.post("/v1/feedback", json={"request_id": answer.id, "rating": 3})
        assert wrong.status_code == 400
        nothing = http.post("/v1/feedback", json={"request_id": answer.id})
        assert nothing.status_code == 400
        assert "needs rating" in nothing.json()["error"]["message"]
        listed = http.get("/v1/feedback?status=pending").json()["data"]
    assert {f["kind"] for f in listed} == {"preference", "rating"}


def test_a_canary_splits_users_stickily_and_rolls_back_a_bad_challenger(
    server: Live, tiny_model: Path
) -> None:
    client, workspace = server.client(), server.workspace
    with server.http() as http:
        started = http.post("/v1/rollouts", json={"model": "bot@2", "percent": 50})
        assert started.status_code == 200, started.text
        rollout_id = started.json()["id"]
        arms: dict[str, set[str]] = {}
        for turn in range(400):
            user = f"user-{turn % 60}"
            # The champion is asked within its labels, the challenger answers freely: its format is broken.
            answer = client.chat.completions.create(model="bot", messages=ASK, max_tokens=2, user=user)
            arms.setdefault(user, set()).add(answer.model)
            with_rating = "1" if answer.model == "bot@1" else "-1"
            client.chat.completions.update(answer.id, metadata={"rating": with_rating})
            if http.get(f"/v1/rollouts/{rollout_id}").json()["status"] != "running":
                break
        for _ in range(100):
            ended = http.get(f"/v1/rollouts/{rollout_id}").json()
            if ended["status"] != "running":
                break
            time.sleep(0.05)
    assert all(len(seen) == 1 for seen in arms.values())
    assert {"bot@1"} in arms.values()
    assert {"bot@2"} in arms.values()
    assert ended["status"] == "rolled_back", ended
    assert ended["reason"]
    assert workspace.models.aliases("bot")["champion"] == 1
    assert client.chat.completions.create(model="bot", messages=ASK, max_tokens=2).model == "bot@1"
    assert client.models.retrieve("bot@2").id == "bot@2"


def test_a_champion_is_promoted_and_rolled_back_by_hand(server: Live) -> None:
    client = server.client()
    with server.http() as http:
        moved = http.post("/v1/rollouts/promote", json={"model": "bot@2", "reason": "looks good"})
        assert moved.status_code == 200, moved.text
        assert (moved.json()["previous"], moved.json()["version"]) == (1, 2)
        assert client.chat.completions.create(model="bot", messages=ASK, max_tokens=1).model == "bot@2"
        back = http.post("/v1/rollouts/rollback", json={"model": "bot", "reason": "it was not"})
        assert back.json()["version"] == 1
        assert client.chat.completions.create(model="bot", messages=ASK, max_tokens=1).model == "bot@1"
        nowhere = http.post("/v1/rollouts/promote", json={"model": "bot@9"})
        assert nowhere.status_code == 404
    assert [m.actor for m in server.workspace.models.moves("bot")][-2:] == ["first", "first"]


def test_a_client_deletes_what_it_sent_and_the_figures_stay(server: Live) -> None:
    client = server.client()
    kept = client.chat.completions.create(model="bot", messages=ASK, max_tokens=3)
    gone = client.chat.completions.create(model="bot", messages=ASK, max_tokens=3, metadata={"a": "b"})
    client.chat.completions.update(gone.id, metadata={"correction": "card arrival"})
    assert client.chat.completions.delete(gone.id).deleted
    assert [c.id for c in client.chat.completions.list()] == [kept.id]
    for call in (
        client.chat.completions.retrieve,
        client.chat.completions.delete,
        client.chat.completions.messages.list,
        lambda id: client.chat.completions.update(id, metadata={"rating": "1"}),
    ):
        with pytest.raises(openai.NotFoundError) as error:
            call(gone.id)
        assert kept.id not in str(error.value)
    assert server.workspace.feedback.list() == []
    counted = server.workspace.database.rows("SELECT COUNT(*) AS calls FROM requests WHERE model = 'bot@1'")
    assert counted[0]["calls"] == 2
    journals = b"".join(p.read_bytes() for p in server.workspace.journals.rglob("*.log"))
    assert gone.id.encode() not in journals


def test_lists_go_on_behind_an_id_and_name_no_others(server: Live) -> None:
    client = server.client()
    made = [client.chat.completions.create(model="bot", messages=ASK, max_tokens=1).id for _ in range(5)]
    for id in made:
        client.chat.completions.update(id, metadata={"rating": "1"})
    listed = client.chat.completions.list(limit=2)
    assert [c.id for c in listed] == made[::-1]  # the client asks for three pages
    assert [c.id for c in client.chat.completions.list(limit=2, order="asc")] == made
    turns = client.chat.completions.messages.list(made[0], limit=1)
    assert [m.content for m in turns] == ["Mail me at <EMAIL_ADDRESS> about my card"]
    with server.http() as http:
        first = http.get("/v1/feedback?limit=2").json()
        assert first["has_more"]
        rest = http.get("/v1/feedback", params={"after": first["last_id"]}).json()
        assert len(first["data"] + rest["data"]) == 5
        assert not rest["has_more"]
        for path in (
            "chat/completions",
            f"chat/completions/{made[0]}/messages",
            "feedback",
            "files",
            "fine_tuning/jobs",
            "rollouts",
        ):
            unknown = http.get(f"/v1/{path}?after=nobody")
            assert unknown.status_code == 404, path
            assert unknown.json()["error"]["param"] == "after", path
            assert made[0] not in unknown.text.replace(f"in {made[0]}", ""), path
            assert http.get(f"/v1/{path}?limit=0").status_code == 400, path
            assert http.get(f"/v1/{path}?limit=100000").status_code == 400, path
        for odd in ("%00", "chatcmpl-%00", "a%ED%A0%80"):
            assert http.get(f"/v1/chat/completions/{odd}").status_code == 404, odd


def test_health_and_metrics_say_whether_calls_are_recorded(server: Live) -> None:
    server.client().chat.completions.create(model="bot", messages=ASK, max_tokens=1)
    with server.http() as http:
        health = http.get("/health").json()
        assert health["status"] == "ok"
        assert health["request_log"]["problem"] is None
        assert health["request_log"]["lost"] == 0
        metrics = http.get("/metrics").text
    assert "tunery_request_log_writable 1.0" in metrics
    assert 'tunery_request_log_waiting{where="journal"}' in metrics
    assert 'tunery_request_log_failed{how="lost"} 0.0' in metrics


def test_a_call_is_on_the_disk_before_its_answer_ends_where_that_is_asked_for(
    workspace: Workspace, tiny_model: Path
) -> None:
    settings = ServerSettings(port=0, run_jobs=False, base=str(tiny_model), log=LogSettings(sync=True))
    with live(workspace, tiny_model, settings=settings) as server:
        client = server.client()
        for stream in (False, True):
            answer = client.chat.completions.create(model=BASE, messages=ASK, max_tokens=2, stream=stream)
            id = [chunk.id for chunk in answer][-1] if stream else answer.id
            found = find_anywhere(workspace.journals, "request", id) or workspace.requests.find(id)
            assert found is not None


def test_without_room_for_records_calls_are_refused_and_told_when_to_come_again(
    workspace: Workspace, tiny_model: Path
) -> None:
    workspace.journals.write_text("in the way")
    settings = ServerSettings(port=0, run_jobs=False, base=str(tiny_model))
    with live(workspace, tiny_model, settings=settings) as server, server.http() as http:
        body = {"model": BASE, "messages": ASK, "max_tokens": 1}
        refused = http.post("/v1/chat/completions", json=body)
        assert refused.status_code == 503
        assert "request records cannot be written" in refused.json()["error"]["message"]
        assert int(refused.headers["retry-after"]) > 0
        assert http.get("/health").status_code == 503
        workspace.journals.unlink()
        deadline = time.monotonic() + 10
        while (answer := http.post("/v1/chat/completions", json=body)).status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert http.get(f"/v1/chat/completions/{answer.json()['id']}").status_code == 200
