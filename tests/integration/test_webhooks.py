"""Webhooks: signed as the unmodified client verifies them, sent until they arrive, from an outbox."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import openai
import pytest
import yaml
from openai import OpenAI

from tests.integration.live_api import live
from tests.integration.test_api_batches import ended, line, submit
from tests.integration.test_api_jobs import create, training_file
from tests.integration.test_cli_loop import RECIPE, write_rows
from tunery.api.config import ServerSettings
from tunery.core.clock import SystemClock
from tunery.core.errors import ConfigError
from tunery.core.progress import Silent
from tunery.core.webhook import Delivery
from tunery.pipeline.batches.config import BatchSettings
from tunery.pipeline.context import RunContext
from tunery.pipeline.loop import run_recipe
from tunery.pipeline.recipe import parse_recipe
from tunery.pipeline.webhooks.config import WebhookSettings
from tunery.pipeline.webhooks.dispatch import Dispatcher
from tunery.store.workspace import Workspace

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()


class Receiver:
    """A receiver's server on a free port, which answers with the statuses it is given, then with 200."""

    def __init__(self, *statuses: int) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        left = list(statuses)
        got = self.got

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                got.append((dict(self.headers.items()), body))
                self.send_response(left.pop(0) if left else 200)
                self.send_header("location", "http://127.0.0.1:9/elsewhere")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hooks"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def wait(self, count: int, within_s: float = 15) -> None:
        deadline = time.monotonic() + within_s
        while len(self.got) < count:
            assert time.monotonic() < deadline, self.got
            time.sleep(0.02)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    opened = Receiver()
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_SECRET", SECRET)


def sending(workspace: Workspace, *endpoints: WebhookSettings) -> Dispatcher:
    dispatcher = Dispatcher(workspace, endpoints)
    dispatcher.start()
    return dispatcher


def settled(workspace: Workspace, within_s: float = 15) -> list[Delivery]:
    """Deliveries, once none is at work."""
    deadline = time.monotonic() + within_s
    while True:
        found = workspace.webhooks.list()
        if found and not workspace.outbox.list() and all(d.status != "pending" or d.problem for d in found):
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.02)


def test_the_client_verifies_what_the_end_of_a_batch_and_of_a_job_sends(
    workspace: Workspace, tiny_model: Path, receiver: Receiver
) -> None:
    settings = ServerSettings(
        port=0,
        run_jobs=False,
        base=str(tiny_model),
        batches=BatchSettings(poll_s=0.05),
        webhooks=(WebhookSettings(url=receiver.url, secret_env="HOOK_SECRET"),),
    )
    with live(workspace, tiny_model, settings=settings) as server:
        client = server.client()
        batch = ended(client, submit(client, [line(0)]).id)
        job = create(client, training_file(client))
        client.fine_tuning.jobs.cancel(job.id)
        receiver.wait(2)
    with OpenAI(api_key="none", webhook_secret=SECRET) as verifying:
        events = [verifying.webhooks.unwrap(body, headers) for headers, body in receiver.got]
        assert [(type(e).__name__, e.type, e.data.id) for e in events] == [  # type: ignore[union-attr]
            ("BatchCompletedWebhookEvent", "batch.completed", batch.id),
            ("FineTuningJobCancelledWebhookEvent", "fine_tuning.job.cancelled", job.id),
        ]
        headers, body = receiver.got[0]
        with pytest.raises(openai.InvalidWebhookSignatureError):
            verifying.webhooks.unwrap(body.replace(b"completed", b"cancelled"), headers)
        with pytest.raises(openai.InvalidWebhookSignatureError):
            verifying.webhooks.unwrap(body, headers, secret="whsec_" + base64.b64encode(b"x" * 32).decode())
    assert [d.status for d in workspace.webhooks.list()] == ["delivered", "delivered"]


def test_a_gate_that_refuses_sends_an_event_that_the_client_verifies(
    workspace: Workspace, tiny_model: Path, tmp_path: Path, receiver: Receiver
) -> None:
    write_rows(tmp_path / "rows.csv", 12)
    written = yaml.safe_load(RECIPE.format(base=tiny_model))
    written["train"]["epochs"] = 1
    written["evaluate"]["baseline"] = {"few_shot": False, "perplexity": False}
    written["gate"]["rules"][0]["at_least"] = 1.0
    recipe = parse_recipe(written, where="test")
    run = run_recipe(RunContext(recipe, workspace, tmp_path, Silent()))
    assert run.status == "refused"
    dispatcher = sending(workspace, WebhookSettings(url=receiver.url, secret_env="HOOK_SECRET"))
    receiver.wait(1)
    dispatcher.stop()
    ((headers, body),) = receiver.got
    with OpenAI(api_key="none", webhook_secret=SECRET) as verifying:
        event = verifying.webhooks.unwrap(body, headers)
        with pytest.raises(openai.InvalidWebhookSignatureError):
            verifying.webhooks.unwrap(body.replace(b"refused", b"passed"), headers)
    assert event.type == "gate.refused"  # type: ignore[comparison-overlap]
    (gate,) = workspace.gates.list()
    assert event.data.id == gate.id
    assert not gate.passed


def test_an_event_outlives_the_server_that_was_to_send_it_and_is_tried_again(workspace: Workspace) -> None:
    event = workspace.outbox.tell("webhook.test")
    refusing = Receiver(500, 302)
    endpoint = WebhookSettings(url=refusing.url, secret_env="HOOK_SECRET")
    dispatcher = sending(workspace, endpoint)
    (waiting,) = settled(workspace)
    assert (waiting.attempts, waiting.answer, waiting.problem) == (1, 500, "it answered with 500")
    assert 4 < (waiting.due_at - workspace.clock.now()).total_seconds() < 6
    dispatcher.stop()
    for attempts, status in ((2, "pending"), (3, "delivered")):
        workspace.webhooks.update(waiting.id, due_at=workspace.clock.now(), problem=None)
        dispatcher = sending(workspace, endpoint)
        (waiting,) = settled(workspace)
        assert (waiting.attempts, waiting.status) == (attempts, status)
        dispatcher.stop()
    refusing.close()
    assert len(refusing.got) == 3, "a redirect is not followed"
    assert {headers["webhook-id"] for headers, _ in refusing.got} == {event.id}


def test_what_never_arrives_is_given_up_listed_and_sent_again_by_hand(workspace: Workspace) -> None:
    gone = Receiver(410)
    workspace.outbox.tell("gate.refused", id="gate-1")
    workspace.outbox.tell("gate.refused", "other", id="gate-2")
    workspace.outbox.tell("batch.completed", id="batch_1")
    unreachable = WebhookSettings(
        url="http://127.0.0.1:9/", name="nobody", secret_env="HOOK_SECRET", attempts=1
    )
    picky = WebhookSettings(
        url=gone.url,
        name="picky",
        secret_env="HOOK_SECRET",
        events=("gate.refused",),
        projects=("default",),
    )
    dispatcher = sending(workspace, unreachable, picky)
    found = settled(workspace)
    assert {(d.endpoint, d.event.type, d.status) for d in found} == {
        ("nobody", "gate.refused", "dead"),
        ("nobody", "batch.completed", "dead"),
        ("picky", "gate.refused", "dead"),
    }
    (dead,) = (d for d in found if d.endpoint == "picky")
    assert dead.problem == "the endpoint says that it is gone (410)"
    workspace.webhooks.resend(dead.id)
    deadline = time.monotonic() + 10
    while workspace.webhooks.get(dead.id).status != "delivered":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    dispatcher.stop()
    gone.close()


def test_an_endpoint_that_is_away_for_long_keeps_no_more_than_its_share(workspace: Workspace) -> None:
    endpoint = WebhookSettings(url="http://127.0.0.1:9/", secret_env="HOOK_SECRET", max_pending=3, attempts=5)
    for number in range(6):
        workspace.outbox.tell("gate.refused", id=f"gate-{number}")
    dispatcher = sending(workspace, endpoint)
    deadline = time.monotonic() + 10
    while workspace.outbox.list():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    dispatcher.stop()
    found = workspace.webhooks.list()
    over = [d.event.data["id"] for d in found if d.problem and d.problem.startswith("over 3")]
    assert over == ["gate-2", "gate-1", "gate-0"]


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"url": "ftp://example.com", "secret_env": "HOOK_SECRET"}, "https://"),
        ({"url": "https://me:pw@example.com", "secret_env": "HOOK_SECRET"}, "password"),
        ({"url": "https://example.com"}, "one of the two"),
    ],
)
def test_settings_that_cannot_work_are_refused(given: dict[str, str], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        WebhookSettings.model_validate(given)


def test_a_secret_that_is_missing_or_short_is_refused_and_never_shown(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHORT", "hunter2")
    (tmp_path / "odd").write_text("whsec_%%%")
    places = ({"secret_env": "MISSING"}, {"secret_env": "SHORT"}, {"secret_file": str(tmp_path / "odd")})
    for place in places:
        endpoint = WebhookSettings.model_validate({"url": "https://example.com", **place})
        with pytest.raises(ConfigError) as refused:
            Dispatcher(workspace, [endpoint])
        assert "hunter2" not in str(refused.value)
        assert "%%%" not in str(refused.value)
    path = tmp_path / "secret"
    path.write_text(f"{SECRET}\n")
    assert len(WebhookSettings(url="https://example.com", secret_file=str(path)).secret()) == 32
    twice = WebhookSettings(url="https://example.com", secret_file=str(path))
    with pytest.raises(ConfigError, match="same name"):
        Dispatcher(workspace, [twice, twice])


def test_what_no_server_wants_is_forgotten_after_a_week(workspace: Workspace) -> None:
    workspace.outbox.tell("gate.refused", id="gate-1")
    dispatcher = sending(workspace)
    time.sleep(0.1)
    dispatcher.stop()
    assert len(workspace.outbox.list()) == 1

    class Later(SystemClock):
        def now(self):  # type: ignore[no-untyped-def]
            from datetime import timedelta

            return super().now() + timedelta(days=8)

    later = Workspace(workspace.root, workspace.database, Later())
    dispatcher = sending(later)
    deadline = time.monotonic() + 10
    while workspace.outbox.list():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    dispatcher.stop()
