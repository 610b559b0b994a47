"""Two projects on one server: every route, asked with another project's key for every kind of thing there is.

What is another project's must be answered as what was never there: status, body and headers alike. A route
or a kind of reference that these tables do not know fails the walk, so that a new one is thought of.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import psycopg
import pytest

from tests.integration.live_api import BASE, Answered, Live, live, register
from tests.unit.store import samples
from tunery.api.config import ServerSettings
from tunery.api.roles import ROUTES
from tunery.core.batch import Batch
from tunery.core.job import Job
from tunery.core.limits import DayUsage, Limits, Scope, Usage
from tunery.core.training import BaseModelInfo
from tunery.pipeline.gateway.bases import Opened
from tunery.pipeline.gateway.catch_up import entry_of
from tunery.pipeline.jobs.files import store_result
from tunery.store.journal import Journal
from tunery.store.workspace import Workspace

POSTGRES = "postgresql://postgres@127.0.0.1:5432/postgres"
ROWS = "".join(
    json.dumps({"messages": [{"role": "user", "content": f"q{n}"}, {"role": "assistant", "content": "a"}]})
    + "\n"
    for n in range(12)
)
HELLO = [{"role": "user", "content": "hi"}]
STRAY = "zzzzzzzzzzzzzzzz"
"""Stands in ids that never were."""


def never(id: str) -> str:
    """Return an id of the same form that was never given."""
    for mark in (":ckpt", "@"):
        head, found, rest = id.partition(mark)
        if found:
            return f"{never(head)}{found}{rest}"
    return f"{id[: -len(STRAY)]}{STRAY}" if len(id) > len(STRAY) + 2 else f"{id[0]}{STRAY[: len(id) - 1]}"


@dataclass(frozen=True)
class Theirs:
    """One of each kind of thing, all of one project."""

    file: str
    result: str
    batch_file: str
    job: str
    event: str
    checkpoint: str
    batch: str
    completion: str
    waiting: str
    """A call whose record is in a server's journal and not in the database yet."""
    response: str
    feedback: str
    rollout: str
    key: str
    audit: str
    upload: str
    part: str
    model: str
    ft: str
    permission: str

    @property
    def named(self) -> list[str]:
        """The names of its model."""
        return [self.model, f"{self.model}@1", f"{self.model}@champion"]

    def references(self, parameter: str) -> list[str]:
        """Return the things of this project that a parameter of a path can name.

        Raises:
            KeyError: Nobody has thought of such a parameter.
        """
        return {
            "file_id": [self.file, self.result, self.batch_file],
            "job_id": [self.job],
            "batch_id": [self.batch],
            "completion_id": [self.completion, self.waiting, self.response],
            "response_id": [self.response, self.completion, self.waiting],
            "rollout_id": [self.rollout],
            "upload_id": [self.upload],
            "key_id": [self.key],
            "checkpoint": [self.ft, f"{self.ft}:ckpt-step-1"],
            "permission_id": [self.permission],
            "model": [*self.named, self.ft, f"{self.ft}:ckpt-step-1"],
        }[parameter]


AFTER: Mapping[str, str] = {
    "/v1/chat/completions": "completion",
    "/v1/files": "file",
    "/v1/batches": "batch",
    "/v1/fine_tuning/jobs": "job",
    "/v1/feedback": "feedback",
    "/v1/rollouts": "rollout",
    "/v1/keys": "key",
    "/v1/audit": "audit",
}
"""Lists, each with what its cursor names."""
OTHER_LISTS = {"/v1/models", "/v1/usage"}
INSIDE = {
    "/v1/chat/completions/{completion_id}/messages",
    "/v1/responses/{response_id}/input_items",
    "/v1/fine_tuning/jobs/{job_id}/events",
    "/v1/fine_tuning/jobs/{job_id}/checkpoints",
    "/v1/fine_tuning/checkpoints/{checkpoint}/permissions",
}
"""Lists of what is inside one thing, which is refused before the cursor is looked at."""
PART = (
    b'--x\r\nContent-Disposition: form-data; name="data"; filename="part"\r\n'
    b"Content-Type: application/octet-stream\r\n\r\nhello\r\n--x--\r\n"
)
BODIES: Mapping[str, Callable[[Theirs], list[tuple[str, Any]]]] = {
    "POST /v1/chat/completions": lambda t: [
        (m, {"model": m, "messages": HELLO}) for m in t.references("model")
    ],
    "POST /v1/completions": lambda t: [(m, {"model": m, "prompt": "hi"}) for m in t.references("model")],
    "POST /v1/embeddings": lambda t: [(m, {"model": m, "input": "hi"}) for m in t.references("model")],
    "POST /v1/responses": lambda t: [
        *((m, {"model": m, "input": "hi"}) for m in t.references("model")),
        (t.response, {"model": BASE, "input": "hi", "previous_response_id": t.response}),
        (t.completion, {"model": BASE, "input": "hi", "previous_response_id": t.completion}),
    ],
    "POST /tokenize": lambda t: [(m, {"model": m, "prompt": "hi"}) for m in t.references("model")],
    "POST /detokenize": lambda t: [(m, {"model": m, "tokens": [1]}) for m in t.references("model")],
    "POST /v1/fine_tuning/jobs": lambda t: [
        *((f, {"model": BASE, "training_file": f}) for f in (t.file, t.result, t.batch_file)),
        (t.file, {"model": BASE, "training_file": "file-none", "validation_file": t.file}),
        (t.ft, {"model": t.ft, "training_file": t.file}),
    ],
    "POST /v1/batches": lambda t: [
        (f, {"input_file_id": f, "endpoint": "/v1/chat/completions", "completion_window": "24h"})
        for f in (t.file, t.batch_file)
    ],
    "POST /v1/feedback": lambda t: [
        (r, {"request_id": r, "rating": 1}) for r in (t.completion, t.waiting, t.response)
    ],
    "POST /v1/chat/completions/{completion_id}": lambda t: [("", {"metadata": {"rating": "1"}})],
    "POST /v1/uploads/{upload_id}/complete": lambda t: [("", {"part_ids": [t.part]})],
    "POST /v1/uploads/{upload_id}/parts": lambda t: [("", PART)],
    "POST /v1/responses/input_tokens": lambda t: [
        *((m, {"model": m, "input": "hi"}) for m in t.references("model")),
        (t.response, {"model": BASE, "input": "hi", "previous_response_id": t.response}),
    ],
    "POST /v1/fine_tuning/checkpoints/{checkpoint}/permissions": lambda t: [("", {"project_ids": ["acme"]})],
    "POST /v1/rollouts": lambda t: [(m, {"model": m}) for m in (f"{t.model}@2", f"{t.model}@champion")],
    "POST /v1/rollouts/promote": lambda t: [(m, {"model": m}) for m in (f"{t.model}@2", t.model)],
    "POST /v1/rollouts/rollback": lambda t: [(t.model, {"model": t.model})],
    "POST /v1/rollouts/unalias": lambda t: [(m, {"model": m}) for m in (f"{t.model}@champion", t.model)],
}
"""What bodies name: the thing, and the body that names it."""
NAMES_NOTHING = {
    "POST /v1/files",
    "POST /v1/keys",
    "POST /v1/uploads",
    "POST /v1/fine_tuning/alpha/graders/validate",
    "POST /v1/fine_tuning/alpha/graders/run",
}
"""Routes whose bodies name nothing that is there already."""
OF_NO_PROJECT = {"/health", "/health/live", "/version"}
PLAIN_QUERIES = {
    "after",
    "limit",
    "order",
    "purpose",
    "status",
    "since",
    "until",
    "by",
    "stream",
    "user",
    "project_id",
}
"""Queries that name nothing; ``model`` does."""


def unused(info: BaseModelInfo) -> Opened:
    raise AssertionError("what is another project's reaches no engine")


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A home of its own on each database."""
    home = tmp_path_factory.mktemp("tenants") / "home"
    with ExitStack() as stack:
        url = f"sqlite:///{home / 'tunery.db'}"
        if request.param == "postgresql":
            url = stack.enter_context(_schema())
        opened = Workspace.open(home, database_url=url)
        stack.callback(opened.close)
        yield opened


class _schema:  # noqa: N801 - used as a function
    def __enter__(self) -> str:
        try:
            self._connection = psycopg.connect(POSTGRES, autocommit=True, connect_timeout=2)
        except psycopg.OperationalError:
            pytest.skip("no PostgreSQL answers on 127.0.0.1:5432")
        self._name = f"test_{secrets.token_hex(6)}"
        self._connection.execute(f"CREATE SCHEMA {self._name}")
        return f"{POSTGRES}?options=-csearch_path%3D{self._name}"

    def __exit__(self, *exc: object) -> None:
        self._connection.execute("SET client_min_messages = warning")
        self._connection.execute(f"DROP SCHEMA {self._name} CASCADE")
        self._connection.close()


@pytest.fixture(scope="module")
def server(whole: Workspace, tiny_model: Path) -> Iterator[Live]:
    settings = ServerSettings(port=0, run_jobs=False, base=str(tiny_model))
    with live(whole, tiny_model, settings=settings, open_base=unused) as running:
        yield running


@pytest.fixture(scope="module")
def waiting(server: Live) -> Iterator[str]:
    """Id of a call that another server of the home has answered and not stored yet."""
    home = server.workspace
    record = samples.request("chatcmpl-journalumbrella1", created_at=home.clock.now(), project="umbrella")
    held = Journal.create(home.journals, "journal-other", about=home.database_label, max_bytes=2**24)
    held.append([entry_of(record)], sync=False)
    yield record.id
    held.close()


@pytest.fixture(scope="module")
def theirs(server: Live, waiting: str, tiny_model: Path, tiny_adapters: dict[str, Path]) -> Theirs:
    """Fill a project as its own key does, and as a server does whose models have answered."""
    view = server.workspace.of("umbrella")
    key = view.keys.create("owner")
    client = server.client(key=key.secret)
    file = client.files.create(file=("rows.jsonl", ROWS.encode()), purpose="fine-tune").id
    line = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {"model": BASE}}
    batch_file = client.files.create(file=("b.jsonl", json.dumps(line).encode()), purpose="batch").id
    upload = client.uploads.create(
        bytes=9, filename="r.jsonl", mime_type="application/jsonl", purpose="batch"
    )
    for name in ("a", "b"):
        register(view, tiny_model, tiny_adapters[name], "tycho")
    view.models.set_alias("tycho", "champion", 1, actor="test", reason="first")
    made: Job = view.jobs.create(
        samples.job("ftjob-umbrellaumbrella1", model_version="tycho@1", request={"model": BASE})
    )
    now = view.clock.now()
    completion = view.requests.add(samples.request("chatcmpl-umbrellaumbrella1", created_at=now)).id
    response = view.requests.add(
        samples.request("resp_umbrellaumbrella1", created_at=now, response={"first_turn": 0})
    ).id
    server.workspace.limits.set(Scope(model="tycho"), Limits(requests_per_minute=7))
    with view.database.transaction() as transaction:
        used = Usage(3, 5, 7, 0.0)
        view.usage.add(transaction, [DayUsage(now.date(), "umbrella", key.key.id, "tycho@1", used)])
    rollout = view.rollouts.add(samples.rollout("rollout-umbrellaumbrella1", name="tycho")).id
    batch = view.batches.add(
        Batch(
            id="batch_umbrellaumbrella1",
            created_at=now,
            status="completed",
            endpoint="/v1/chat/completions",
            input_file_id=batch_file,
            expires_at=now,
        )
    )
    ft = f"ft:{BASE}:tunery::umbrellaumbrella1"
    return Theirs(
        file=file,
        result=store_result(view, made.id, "step\n1\n").id,
        batch_file=batch_file,
        job=made.id,
        event=view.jobs.add_event(made.id, "hello").id,
        checkpoint=view.jobs.add_checkpoint(made.id, 1, {}).id,
        batch=batch.id,
        completion=completion,
        waiting=waiting,
        response=response,
        feedback=view.feedback.add(samples.feedback("fb-umbrellaumbrella1", request_id=completion)).id,
        rollout=rollout,
        key=key.key.id,
        audit=view.audit.note("model.promote", object="tycho@1").id,
        upload=upload.id,
        part=client.uploads.parts.create(upload.id, data=b"hello").id,
        model="tycho",
        ft=ft,
        permission=client.fine_tuning.checkpoints.permissions.create(ft, project_ids=["default"]).data[0].id,
    )


@pytest.fixture(scope="module")
def foreign(server: Live) -> str:
    """Secret of a key that may do everything, in another project."""
    return server.workspace.of("acme").keys.create("stranger").secret


def operations(server: Live) -> Iterator[tuple[str, str, list[dict[str, Any]]]]:
    document = server.call("GET", "/openapi.json").json()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation.get("parameters", [])


def seen(answer: Answered, *ids: str) -> tuple[int, str, dict[str, str]]:
    """Return what tells one answer from another, ids left out."""
    text = answer.text
    for id in ids:
        text = text.replace(json.dumps(id)[1:-1], "ID").replace(id, "ID")
    kept = {k: v for k, v in answer.headers.items() if k not in {"x-request-id", "date", "content-length"}}
    return answer.status, text, kept


def compare(
    server: Live,
    key: str,
    method: str,
    target: Callable[[str], tuple[str, Any]],
    id: str,
    *,
    statuses: tuple[int, ...] = (400, 404),
) -> None:
    """Ask for something of another project and for something that never was; the two answers are one."""
    stray = never(id)
    answers = []
    for named in (id, stray):
        path, body = target(named)
        headers = {"Content-Type": "multipart/form-data; boundary=x"} if body is PART else {}
        answer = server.call(method, path, body, Authorization=f"Bearer {key}", **headers)
        answers.append(seen(answer, named, named.partition("@")[0], named.partition(":ckpt")[0]))
    path, body = target(id)
    assert answers[0] == answers[1], f"{method} {path} {body}"
    assert answers[0][0] in statuses, f"{method} {path} {body}: {answers[0]}"


def written_with(body: Any, id: str, named: str) -> Any:
    return json.loads(json.dumps(body).replace(json.dumps(id), json.dumps(named)))


def test_every_route_answers_for_anothers_things_as_for_what_never_was(
    server: Live, theirs: Theirs, foreign: str
) -> None:
    walked = 0
    for method, path, parameters in operations(server):
        names = {p["name"]: p["in"] for p in parameters}
        in_path = [name for name, where in names.items() if where == "path"]
        assert {n for n, where in names.items() if where == "query"} <= PLAIN_QUERIES | {"model"}, path
        for name in in_path:
            place = path
            for other in in_path:
                if other != name:
                    place = place.replace(f"{{{other}}}", theirs.references(other)[0])
            for id in theirs.references(name):
                body = BODIES[f"{method} {path}"](theirs)[0][1] if f"{method} {path}" in BODIES else None
                compare(
                    server,
                    foreign,
                    method,
                    lambda named, place=place, name=name, body=body: (
                        place.replace(f"{{{name}}}", named),
                        body,
                    ),
                    id,
                )
                walked += 1
        if method == "POST" and not in_path and f"{method} {path}" not in NAMES_NOTHING:
            for id, body in BODIES[f"{method} {path}"](theirs):
                compare(
                    server,
                    foreign,
                    method,
                    lambda named, path=path, body=body, id=id: (path, written_with(body, id, named)),
                    id,
                )
                walked += 1
        if names.get("model") == "query":
            for id in theirs.named:
                compare(
                    server,
                    foreign,
                    method,
                    lambda named, path=path: (f"{path}?model={named}", None),
                    id,
                    statuses=(200, 400, 404),
                )
                walked += 1
        if "after" in names and path not in INSIDE:
            id = getattr(theirs, AFTER[path])
            compare(server, foreign, method, lambda named, path=path: (f"{path}?after={named}", None), id)
            walked += 1
    assert walked > 80
    _nothing_happened(server.workspace.of("umbrella"), theirs)


def _nothing_happened(view: Workspace, theirs: Theirs) -> None:
    assert {f.id for f in view.files.every()} == {theirs.file, theirs.result, theirs.batch_file}
    assert view.jobs.get(theirs.job).status == "queued"
    assert not view.jobs.get(theirs.job).cancel_requested
    assert view.models.aliases("tycho") == {"champion": 1}
    assert [v.version for v in view.models.list("tycho")] == [2, 1]
    assert view.rollouts.get(theirs.rollout).status == "running"
    assert view.requests.get(theirs.completion).messages
    assert [f.id for f in view.feedback.every()] == [theirs.feedback]
    assert view.keys.get(theirs.key).revoked_at is None
    assert view.batches.get(theirs.batch).status == "completed"
    assert view.uploads.get(theirs.upload).status == "pending"
    assert [each.id for each in view.checkpoint_permissions.every()] == [theirs.permission]


def test_the_walk_goes_by_every_route_of_the_app_and_by_none_that_is_gone(server: Live) -> None:
    """The published document is what is walked: nothing may be served beside it, nor be known to no table."""
    published: dict[str, set[str]] = {}
    for method, path, parameters in operations(server):
        published[f"{method} {path}"] = {p["name"] for p in parameters if p["in"] == "path"}
    served = {f"{method} {path}" for path, methods in routes_of(server.app.routes) for method in methods}
    assert served - {"GET /openapi.json"} == published.keys()
    in_api = {key.replace(" /v1/", " /", 1) for key in published if " /v1/" in key}
    in_api |= {key for key in published if key.endswith("tokenize")}
    assert in_api == ROUTES.keys()
    for key, in_path in published.items():
        method, _, path = key.partition(" ")
        lists = path in AFTER or path in OTHER_LISTS or path in OF_NO_PROJECT | {"/metrics", "/v1/limits"}
        assert method in {"GET", "POST", "DELETE"}, f"{key}: say in the walk what its body names"
        assert in_path or (lists if method == "GET" else (key in BODIES) != (key in NAMES_NOTHING)), key
    assert BODIES.keys() | NAMES_NOTHING <= published.keys()
    assert {f"GET {path}" for path in {*AFTER, *OTHER_LISTS, *INSIDE, *OF_NO_PROJECT}} <= published.keys()


def routes_of(routes: Iterable[Any], prefix: str = "") -> Iterator[tuple[str, set[str]]]:
    """Yield the path and the methods of each route, those of included routers too."""
    for route in routes:
        if (inner := getattr(route, "original_router", None)) is not None:
            yield from routes_of(inner.routes, prefix + route.include_context.prefix)
        else:
            yield re.sub(r":\w+}", "}", prefix + route.path), set(route.methods) - {"HEAD"}


def test_the_walk_sees_what_is_shown(server: Live, theirs: Theirs) -> None:
    """The owner's own key gets answers that differ: else the walk would compare nothing."""
    key = server.workspace.of("umbrella").keys.create("again").secret
    for path, id in (
        ("/v1/files/{}", theirs.file),
        ("/v1/models/{}", theirs.ft),
        ("/v1/audit?after={}", theirs.audit),
    ):
        with pytest.raises(AssertionError):
            compare(server, key, "GET", lambda named, path=path: (path.format(named), None), id)


def test_no_list_and_no_metric_names_what_is_anothers(server: Live, theirs: Theirs) -> None:
    newcomer = server.workspace.of("initech").keys.create("newcomer").secret
    known = {*vars(theirs).values(), "umbrella"} - {theirs.model}
    for method, path, parameters in operations(server):
        if method != "GET" or any(p["in"] == "path" for p in parameters):
            continue
        asked = f"{path}?by=model" if path == "/v1/usage" else path
        answer = server.call("GET", asked, Authorization=f"Bearer {newcomer}")
        assert answer.status == 200, path
        assert not [id for id in (*known, "tycho") if id in answer.text], path
        if path in AFTER or path in OTHER_LISTS:
            own = server.call("GET", asked, Authorization=f"Bearer {owner_of(server)}")
            assert "umbrella" in own.text or "tycho" in own.text, path
        else:
            assert path in OF_NO_PROJECT | {"/metrics", "/v1/limits"}, (
                f"{path}: a new list; say here what it shows"
            )


def owner_of(server: Live) -> str:
    return server.workspace.of("umbrella").keys.create("reader", "admin").secret


def test_a_name_that_is_taken_is_refused_without_saying_by_whom(
    server: Live, theirs: Theirs, foreign: str
) -> None:
    view = server.workspace.of("acme")
    own = server.client(key=foreign).files.create(file=("r.jsonl", ROWS.encode()), purpose="fine-tune").id
    view.model_names.claim("kepler", "somebody else")
    told = []
    for name in ("tycho", "kepler"):
        body = {"model": BASE, "training_file": own, "suffix": name}
        answer = server.call("POST", "/v1/fine_tuning/jobs", body, Authorization=f"Bearer {foreign}")
        told.append(seen(answer, name))
    assert told[0] == told[1]
    assert told[0][0] == 403
    assert view.jobs.list() == []


def test_roles_are_held_at_every_route(server: Live, theirs: Theirs) -> None:
    view = server.workspace.of("umbrella")
    read, infer, train = (view.keys.create(role, role).secret for role in ("read", "infer", "train"))
    allowed = [(read, "GET", "/v1/models"), (read, "GET", f"/v1/files/{theirs.file}")]
    allowed += [(infer, "GET", f"/v1/chat/completions/{theirs.completion}")]
    allowed += [(train, "GET", f"/v1/files/{theirs.file}/content")]
    for key, method, path in allowed:
        assert server.call(method, path, Authorization=f"Bearer {key}").status == 200, path
    refused = [
        (read, "POST", "/v1/chat/completions", "infer"),
        (read, "GET", f"/v1/chat/completions/{theirs.completion}", "infer"),
        (read, "GET", f"/v1/files/{theirs.file}/content", "train"),
        (infer, "POST", "/v1/files", "train"),
        (infer, "DELETE", f"/v1/files/{theirs.file}", "train"),
        (train, "POST", "/v1/rollouts/promote", "admin"),
        (train, "DELETE", "/v1/models/tycho@1", "admin"),
        (train, "POST", "/v1/keys", "admin"),
        (train, "GET", "/v1/audit", "admin"),
    ]
    for key, method, path, needed in refused:
        # A body that is no JSON: the role is looked at before the body is.
        body = b"{" if method == "POST" else None
        answer = server.call(method, path, body, Authorization=f"Bearer {key}")
        error = answer.json()["error"]
        assert (answer.status, error["type"]) == (403, "permission_error"), path
        assert f"the role {needed}" in error["message"]


def test_the_unmodified_client_meets_the_same(server: Live, theirs: Theirs) -> None:
    key = server.workspace.of("hooli").keys.create("newcomer").secret
    client, owner = server.client(key=key), server.client(key=owner_of(server))
    calls: list[Callable[[openai.OpenAI], Any]] = [
        lambda c: c.files.retrieve(theirs.file),
        lambda c: c.files.content(theirs.file),
        lambda c: c.fine_tuning.jobs.retrieve(theirs.job),
        lambda c: c.fine_tuning.jobs.list_events(theirs.job).data,
        lambda c: c.fine_tuning.jobs.checkpoints.list(theirs.job).data,
        lambda c: c.batches.retrieve(theirs.batch),
        lambda c: c.models.retrieve(theirs.ft),
        lambda c: c.models.retrieve("tycho@1"),
        lambda c: c.chat.completions.retrieve(theirs.completion),
        lambda c: c.chat.completions.retrieve(theirs.waiting),
        lambda c: c.responses.retrieve(theirs.response),
    ]
    for call in calls:
        assert call(owner)
        with pytest.raises(openai.NotFoundError):
            call(client)
    assert not [*client.files.list(), *client.fine_tuning.jobs.list(), *client.batches.list()]
    assert [m.id for m in client.models.list()] == [BASE]
    refusing = server.client(key=server.workspace.of("umbrella").keys.create("r", "read").secret)
    with pytest.raises(openai.PermissionDeniedError, match="needs a key with the role train"):
        refusing.files.delete(theirs.file)


def test_a_shared_model_is_seen_and_cannot_be_changed(server: Live, theirs: Theirs, foreign: str) -> None:
    names = server.workspace.model_names
    names.share("tycho", "acme")
    try:
        client = server.client(key=foreign)
        assert {"tycho", "tycho@1"} <= {m.id for m in client.models.list()}
        assert client.models.retrieve("tycho").id == "tycho"
        with pytest.raises(openai.PermissionDeniedError, match="belongs to another project"):
            client.models.delete("tycho@2")
        answer = server.call(
            "POST", "/v1/rollouts/promote", {"model": "tycho@2"}, Authorization=f"Bearer {foreign}"
        )
        assert answer.status == 403
    finally:
        names.unshare("tycho", "acme")
    assert server.workspace.models.aliases("tycho") == {"champion": 1}


def test_changes_and_refused_keys_are_written_down(server: Live, theirs: Theirs) -> None:
    view = server.workspace.of("umbrella")
    admin = owner_of(server)

    def call(method: str, path: str, body: object = None) -> Answered:
        return server.call(method, path, body, Authorization=f"Bearer {admin}")

    made = call("POST", "/v1/keys", {"name": "ci", "role": "infer"}).json()
    assert view.keys.verify(made["secret"]) is not None
    promoted = call("POST", "/v1/rollouts/promote", {"model": "tycho@9"})
    gone = call("DELETE", "/v1/files/file-none")
    assert call("DELETE", f"/v1/keys/{made['id']}").json()["revoked_at"]
    for secret in (made["secret"], "sk-somebody-elses-secret"):
        assert server.call("GET", "/v1/models", Authorization=f"Bearer {secret}").status == 401
    records = call("GET", "/v1/audit?limit=5").json()["data"]
    assert [(r["action"], r["target"], r["outcome"]) for r in records] == [
        ("key.refuse", made["secret"][:10], "invalid_api_key"),
        ("key.revoke", made["id"], "done"),
        ("file.delete", "file-none", "not_found"),
        ("model.promote", "tycho@9", "not_found"),
        ("key.create", made["id"], "done"),
    ]
    assert records[0]["address"] == "127.0.0.1"
    assert records[2]["request_id"] == gone.headers["x-request-id"]
    assert records[3]["request_id"] == promoted.headers["x-request-id"]
    assert {r["actor"] for r in records} == {"reader", "ci"}
    stored = json.dumps(server.workspace.database.rows("SELECT * FROM audit"), default=str)
    assert made["secret"] not in stored
    assert "somebody-elses" not in stored


def test_a_call_belongs_to_the_key_that_it_came_with(workspace: Workspace, tiny_model: Path) -> None:
    settings = ServerSettings(port=0, run_jobs=False, base=str(tiny_model))
    made = workspace.of("acme").keys.create("ours", "infer")
    theirs = workspace.of("umbrella").keys.create("theirs")
    with live(workspace, tiny_model, settings=settings) as running:
        client, other = running.client(key=made.secret), running.client(key=theirs.secret)
        answered = client.chat.completions.create(model=BASE, messages=HELLO, max_tokens=2)  # type: ignore[arg-type]
        assert [c.id for c in client.chat.completions.list()] == [answered.id]
        assert list(other.chat.completions.list()) == []
        with pytest.raises(openai.NotFoundError):
            other.chat.completions.delete(answered.id)
        rated = {"request_id": answered.id, "rating": 1, "author": "theirs"}
        for key, status in ((theirs.secret, 404), (made.secret, 200)):
            answer = running.call("POST", "/v1/feedback", rated, Authorization=f"Bearer {key}")
            assert answer.status == status
        text = running.call("GET", "/metrics", Authorization=f"Bearer {theirs.secret}").text
        assert 'project="acme"' not in text
        assert 'project="acme"' in running.call("GET", "/metrics", Authorization="").text
    record = workspace.requests.get(answered.id)
    assert (record.project, record.key_id) == ("acme", made.key.id)
    assert [(f.project, f.author) for f in workspace.feedback.list()] == [("acme", "ours: theirs")]
