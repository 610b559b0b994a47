"""Batches through the unmodified client."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI
from openai.types import Batch

from tests.integration.live_api import BASE, Live, live, register
from tests.tiny.encoder import build_encoder
from tunery.api.config import ServerSettings
from tunery.core.batch import BATCH_ENDS
from tunery.core.limits import Limits, Scope
from tunery.pipeline.batches.config import BatchSettings
from tunery.pipeline.gateway.embedder import EmbeddingSettings
from tunery.store.workspace import Workspace

CHAT = "/v1/chat/completions"


def line(number: int, body: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    asked = {
        "model": BASE,
        "messages": [{"role": "user", "content": f"card {number}"}],
        "max_tokens": 3,
        **(body or {}),
    }
    return {"custom_id": f"row-{number}", "method": "POST", "url": CHAT, "body": asked, **fields}


def written(lines: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(entry) + "\n" for entry in lines).encode()


def submit(client: OpenAI, lines: list[dict[str, Any]] | bytes, endpoint: str = CHAT) -> Batch:
    content = lines if isinstance(lines, bytes) else written(lines)
    file = client.files.create(file=("batch.jsonl", content), purpose="batch")
    return client.batches.create(
        input_file_id=file.id,
        endpoint=endpoint,  # type: ignore[arg-type]
        completion_window="24h",
        metadata={"for": "tests"},
    )


def ended(client: OpenAI, id: str, within_s: float = 30) -> Batch:
    deadline = time.monotonic() + within_s
    while (batch := client.batches.retrieve(id)).status not in BATCH_ENDS:
        assert time.monotonic() < deadline, batch
        time.sleep(0.02)
    return batch


def lines_of(client: OpenAI, file_id: str | None) -> list[dict[str, Any]]:
    assert file_id is not None
    return [json.loads(text) for text in client.files.content(file_id).text.splitlines()]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    root = tmp_path_factory.mktemp("batches") / "home"
    workspace = Workspace.open(root, database_url=f"sqlite:///{root / 'tunery.db'}")
    yield workspace
    workspace.close()


@pytest.fixture(scope="module")
def server(home: Workspace, tiny_model: Path, tiny_adapters: dict[str, Path]) -> Iterator[Live]:
    register(home, tiny_model, tiny_adapters["a"], "bot")
    settings = ServerSettings(
        port=0, run_jobs=False, base=str(tiny_model), batches=BatchSettings(poll_s=0.05)
    )
    with live(home, tiny_model, settings=settings) as running:
        yield running


def test_a_batch_answers_each_line_as_a_live_request_is_answered(server: Live) -> None:
    client = server.client()
    lines = [line(n) for n in range(20)]
    lines[3]["body"]["model"] = "bot"
    lines[5]["body"]["model"] = "nobody"
    lines[7]["body"]["max_tokens"] = -1
    made = submit(client, lines)
    assert (made.status, made.completion_window, made.metadata) == ("validating", "24h", {"for": "tests"})
    assert made.expires_at == made.created_at + 24 * 3600
    batch = ended(client, made.id)
    assert batch.status == "completed"
    assert batch.request_counts is not None
    assert batch.request_counts.model_dump() == {"total": 20, "completed": 18, "failed": 2}
    answers = lines_of(client, batch.output_file_id)
    assert [a["custom_id"] for a in answers] == [f"row-{n}" for n in range(20) if n not in (5, 7)]
    first = answers[0]
    assert (first["error"], first["response"]["status_code"]) == (None, 200)
    assert first["response"]["request_id"].startswith("req_")
    alive = client.chat.completions.create(**lines[0]["body"])
    assert first["response"]["body"]["choices"][0]["message"]["content"] == alive.choices[0].message.content
    assert answers[3]["response"]["body"]["model"] == "bot@1"
    unknown, wrong = lines_of(client, batch.error_file_id)
    assert (unknown["custom_id"], unknown["response"]["status_code"]) == ("row-5", 404)
    assert unknown["response"]["body"]["error"]["code"] == "model_not_found"
    assert (wrong["custom_id"], wrong["response"]["status_code"]) == ("row-7", 400)
    assert wrong["response"]["body"]["error"]["param"] == "max_tokens"
    used = sum(a["response"]["body"]["usage"]["total_tokens"] for a in answers)
    assert batch.usage is not None
    assert batch.usage.total_tokens == used > 0
    stored = client.chat.completions.retrieve(first["response"]["body"]["id"])
    assert stored.choices[0].message.content == first["response"]["body"]["choices"][0]["message"]["content"]


@pytest.mark.parametrize(
    ("endpoint", "body", "kind"),
    [
        ("/v1/completions", {"prompt": "one", "max_tokens": 2}, "text_completion"),
        ("/v1/responses", {"input": "one", "max_output_tokens": 16}, "response"),
    ],
)
def test_other_endpoints_can_be_batched_too(
    server: Live, endpoint: str, body: dict[str, Any], kind: str
) -> None:
    client = server.client()
    asked = {"custom_id": "a", "method": "POST", "url": endpoint, "body": {"model": BASE, **body}}
    batch = ended(client, submit(client, [asked], endpoint).id)
    (answer,) = lines_of(client, batch.output_file_id)
    assert answer["response"]["body"]["object"] == kind
    assert batch.usage is not None
    assert batch.usage.total_tokens == answer["response"]["body"]["usage"]["total_tokens"] > 0


def test_a_file_that_is_wrong_fails_with_the_numbers_of_its_lines(server: Live) -> None:
    client = server.client()
    wrong = [
        line(0),
        line(0),
        line(2, method="GET"),
        line(3, url="/v1/embeddings"),
        line(4, body={"stream": True}),
        {k: v for k, v in line(5).items() if k != "custom_id"},
        line(6, custom_id=""),
    ]
    batch = ended(client, submit(client, written(wrong) + b'\n{"custom_id": \n[1]\n').id)
    assert (batch.status, batch.output_file_id, batch.error_file_id) == ("failed", None, None)
    assert batch.failed_at is not None
    assert batch.errors is not None
    assert batch.errors.data is not None
    assert [(e.line, e.code) for e in batch.errors.data] == [
        (2, "duplicate_custom_id"),
        (3, "invalid_method"),
        (4, "invalid_url"),
        (5, "invalid_body"),
        (6, "missing_required_parameter"),
        (7, "invalid_custom_id"),
        (9, "invalid_json_line"),
        (10, "invalid_json_line"),
    ]
    empty = ended(client, submit(client, b"\n\n").id)
    assert empty.errors is not None
    assert [e.code for e in empty.errors.data or ()] == ["empty_file"]


def test_what_cannot_be_a_batch_is_refused_at_once(server: Live) -> None:
    client = server.client()
    file = client.files.create(file=("batch.jsonl", written([line(0)])), purpose="batch")
    for endpoint, id, param in (
        ("/v1/images/edits", file.id, "endpoint"),
        (CHAT, "file-none", "input_file_id"),
    ):
        with pytest.raises(openai.BadRequestError) as refused:
            client.batches.create(input_file_id=id, endpoint=endpoint, completion_window="24h")  # type: ignore[arg-type]
        assert refused.value.param == param
    with pytest.raises(openai.BadRequestError):
        client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="1h")  # type: ignore[arg-type]
    with pytest.raises(openai.NotFoundError):
        client.batches.retrieve("batch_none")


def test_a_cancelled_batch_keeps_what_is_done(server: Live) -> None:
    client = server.client()
    made = submit(client, [line(n, body={"max_tokens": 24}) for n in range(600)])
    with pytest.raises(openai.ConflictError, match="needed by batch"):
        client.files.delete(made.input_file_id)
    while not (counts := client.batches.retrieve(made.id).request_counts) or not counts.completed:
        time.sleep(0.01)
    assert client.batches.cancel(made.id).status in ("cancelling", "cancelled")
    batch = ended(client, made.id)
    assert batch.status == "cancelled"
    assert batch.cancelling_at is not None
    answers, errors = lines_of(client, batch.output_file_id), lines_of(client, batch.error_file_id)
    assert 0 < len(answers) < 600
    assert len(answers) + len(errors) == 600
    assert {e["error"]["code"] for e in errors} == {"batch_cancelled"}
    assert all(e["response"] is None for e in errors)
    assert client.batches.cancel(made.id).status == "cancelled"
    assert client.files.delete(made.input_file_id).deleted
    assert server.workspace.batches.lines_answered(made.id) == set()


def test_batches_are_listed_in_pages(server: Live) -> None:
    client = server.client()
    made = [submit(client, [line(n)]).id for n in range(3)]
    listed = [b.id for b in client.batches.list(limit=2)]
    assert listed[:3] == made[::-1]
    for id in made:
        assert ended(client, id).status == "completed"


def settings(base: Path, **more: Any) -> ServerSettings:
    given = {"port": 0, "run_jobs": False, "base": str(base), "batches": BatchSettings(poll_s=0.05)}
    return ServerSettings.model_validate({**given, **more})


def test_a_server_that_ends_hands_its_batch_to_the_next(workspace: Workspace, tiny_model: Path) -> None:
    with live(workspace, tiny_model, settings=settings(tiny_model)) as first:
        client = first.client()
        made = submit(client, [line(n, body={"max_tokens": 12}) for n in range(120)])
        while not (counts := client.batches.retrieve(made.id).request_counts) or not counts.completed:
            time.sleep(0.005)
        secret = first.secret
    left = workspace.batches.get(made.id)
    assert (left.status, left.worker) == ("in_progress", None)
    done = workspace.batches.lines_answered(made.id)
    assert 0 < len(done) < 120
    with live(workspace, tiny_model, settings=settings(tiny_model)) as second:
        client = second.client(key=secret)
        batch = ended(client, made.id)
        assert [a["custom_id"] for a in lines_of(client, batch.output_file_id)] == [
            f"row-{n}" for n in range(120)
        ]
        assert len(list(client.chat.completions.list(limit=100))) == 120


def test_lines_wait_while_there_is_no_room_and_end_with_their_time_or_their_key(
    workspace: Workspace, tiny_model: Path
) -> None:
    few = settings(tiny_model, max_in_flight=7, batches=BatchSettings(poll_s=0.05, max_open=1))
    with live(workspace, tiny_model, settings=few) as server:
        client = server.client()
        first = submit(client, [line(n) for n in range(8)])
        with pytest.raises(openai.RateLimitError, match="max_open"):
            submit(client, [line(0)])
        batch = ended(client, first.id)
        assert batch.request_counts is not None
        assert (batch.status, batch.request_counts.completed) == ("completed", 8)
    short = settings(tiny_model, batches=BatchSettings(poll_s=0.05, window_hours=0.5 / 3600))
    with live(workspace, tiny_model, settings=short) as server:
        client = server.client(key=server.secret)
        late = submit(client, [line(n, body={"max_tokens": 100}) for n in range(800)])
        batch = ended(client, late.id)
        assert (batch.status, batch.expired_at is not None) == ("expired", True)
        errors = lines_of(client, batch.error_file_id)
        assert {e["error"]["code"] for e in errors} == {"batch_expired"}
    with live(workspace, tiny_model, settings=settings(tiny_model)) as server:
        other = workspace.keys.create("other")
        made = submit(server.client(key=other.secret), [line(n) for n in range(40)])
        workspace.keys.revoke(other.key.id)
        client = server.client()
        refused = lines_of(client, ended(client, made.id).error_file_id)
        assert {e["response"]["body"]["error"]["code"] for e in refused} == {"invalid_api_key"}


def test_a_batch_waits_for_its_keys_rate_and_a_live_request_of_the_key_does_not(
    workspace: Workspace, tiny_model: Path
) -> None:
    with live(workspace, tiny_model, settings=settings(tiny_model)) as server:
        created = workspace.keys.create("limited")
        workspace.limits.set(Scope(key=created.key.id), Limits(tokens_per_minute=1200))
        server.app.state.services.gateway.meter.refresh()
        client = server.client(key=created.secret)
        each = client.chat.completions.create(**line(0)["body"]).usage
        assert each is not None
        fit = 600 // each.total_tokens  # half of a minute is for others
        made = submit(client, [line(n) for n in range(fit + 1)])
        while not (counts := client.batches.retrieve(made.id).request_counts) or counts.completed < fit - 1:
            time.sleep(0.01)
        assert client.batches.retrieve(made.id).status == "in_progress"  # what is left waits
        long = client.chat.completions.create(**line(0, body={"max_tokens": 300})["body"])
        assert long.usage is not None
        workspace.limits.set(Scope(key=created.key.id), Limits(tokens_per_minute=120_000))  # or it takes long
        server.app.state.services.gateway.meter.refresh()
        batch = ended(client, made.id)
        assert batch.request_counts is not None
        assert batch.request_counts.model_dump() == {"total": fit + 1, "completed": fit + 1, "failed": 0}


def test_a_budget_that_is_used_up_ends_lines_with_an_error_each(
    workspace: Workspace, tiny_model: Path
) -> None:
    with live(workspace, tiny_model, settings=settings(tiny_model)) as server:
        created = workspace.keys.create("limited")
        workspace.limits.set(Scope(key=created.key.id), Limits(tokens_per_day=200))
        server.app.state.services.gateway.meter.refresh()
        client = server.client(key=created.secret)
        batch = ended(client, submit(client, [line(n) for n in range(30)]).id)
        answers, errors = (lines_of(client, id) for id in (batch.output_file_id, batch.error_file_id))
        used = sum(a["response"]["body"]["usage"]["total_tokens"] for a in answers)
        assert used <= 200 < used + 2 * used / len(answers)
        assert {a["custom_id"] for a in (*answers, *errors)} == {f"row-{n}" for n in range(30)}
        assert {(e["response"]["status_code"], e["response"]["body"]["error"]["code"]) for e in errors} == {
            (429, "insufficient_quota")
        }


def test_embeddings_are_batched(workspace: Workspace, tiny_model: Path, tmp_path: Path) -> None:
    encoder = EmbeddingSettings(encoder=str(build_encoder(tmp_path / "tiny-bert")))
    with live(workspace, tiny_model, settings=settings(tiny_model, embeddings=encoder)) as server:
        client = server.client()
        bodies = [{"model": "tiny-bert", "input": [f"card {n}", "lost"]} for n in range(12)]
        asked = [
            {"custom_id": f"row-{n}", "method": "POST", "url": "/v1/embeddings", "body": body}
            for n, body in enumerate(bodies)
        ]
        batch = ended(client, submit(client, asked, "/v1/embeddings").id)
        answers = lines_of(client, batch.output_file_id)
        assert [a["custom_id"] for a in answers] == [f"row-{n}" for n in range(12)]
        alive = client.embeddings.create(**bodies[3])  # type: ignore[arg-type]
        batched = answers[3]["response"]["body"]["data"]
        for kept, given in zip(batched, alive.data, strict=True):
            assert kept["embedding"] == pytest.approx(given.embedding, abs=1e-6)
        assert batch.usage is not None
        assert batch.usage.total_tokens == sum(
            a["response"]["body"]["usage"]["total_tokens"] for a in answers
        )
