"""The old name answers here: by the old endpoint, by both, by ours, and back; clients change nothing."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from itertools import count, product
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from tests.doubles.openai_source import KEY, OpenAISource, Trouble, serving
from tests.fixtures_cli import Tunery, home, tunery
from tests.integration.live_api import Live, live, register
from tunery.api.config import ServerSettings
from tunery.core.errors import ConfigError, ConflictError, GateFailed, NotFoundError
from tunery.core.forwarding import ForwardedName, Stage
from tunery.core.rollout import FORWARDED
from tunery.deploy import canary, forwarding
from tunery.deploy.config import CanaryConfig
from tunery.serve.engines import base_behind
from tunery.serve.engines.hosted import HostedSettings
from tunery.store.workspace import Workspace

__all__ = ["home", "tunery"]

OLD = "ft:gpt-4o-mini-2024-07-18:acme::Ab1"
ASK = [{"role": "user", "content": "hi"}]


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAISource]:
    """Where the old model answers."""
    monkeypatch.setenv("OLD_KEY", KEY)
    account = OpenAISource(say=lambda body: "the old one")
    account.add_fine_tune("Ab1", [])
    with serving(account):
        yield account


@pytest.fixture
def workspace(tmp_path: Path, tiny_model: Path, tiny_adapters: dict[str, Path]) -> Iterator[Workspace]:
    """A home with a version of ours."""
    found = Workspace.open(tmp_path / "home", database_url=f"sqlite:///{tmp_path / 'home.db'}")
    register(found, tiny_model, tiny_adapters["a"], "parcels")
    yield found
    found.close()


@pytest.fixture
def here(workspace: Workspace, tiny_model: Path) -> Iterator[Live]:
    with live(workspace, tiny_model) as running:
        yield running


def moved(workspace: Workspace, source: OpenAISource, stage: Stage, percent: float = 50) -> ForwardedName:
    settings = HostedSettings(base_url=source.url, model=OLD, api_key_env="OLD_KEY")
    rule = CanaryConfig(percent=percent)
    version = None if stage == "forward" else "parcels@1"
    return forwarding.move(
        workspace, OLD, stage, old=base_behind(settings), version=version, rule=rule, actor="test"
    )


def answered_by(here: Live, users: int = 1, **more: object) -> Counter[str]:
    """Ask as many users' questions; return who answered, by the records."""
    with here.client() as client:
        ids = {
            client.chat.completions.create(
                model=OLD, messages=ASK, max_tokens=4, user=f"user-{n}", **more  # type: ignore[call-overload]
            ).id
            for n in range(users)
        }  # fmt: skip
    here.app.state.services.gateway.log.flush()
    return Counter(record.model for record in here.workspace.requests.list(1000) if record.id in ids)


def test_name_is_answered_by_the_old_endpoint_to_an_unmodified_client(
    workspace: Workspace, source: OpenAISource, here: Live
) -> None:
    moved(workspace, source, "forward")
    client = here.client()
    made = client.chat.completions.create(model=OLD, messages=ASK, max_tokens=16)  # type: ignore[arg-type]
    assert (made.model, made.choices[0].message.content) == (OLD, "the old one")
    streamed = client.chat.completions.create(model=OLD, messages=ASK, stream=True)  # type: ignore[call-overload]
    assert (
        "".join(chunk.choices[0].delta.content or "" for chunk in streamed if chunk.choices) == "the old one"
    )
    assert OLD in {model.id for model in client.models.list()}
    assert client.models.retrieve(OLD).id == OLD
    assert {body["model"] for body in source.completions} == {OLD}
    here.app.state.services.gateway.log.flush()
    record = workspace.requests.list(1)[0]
    assert (record.endpoint, record.model, record.completion) == (OLD, OLD, "the old one")


def test_each_step_can_be_taken_and_taken_back(
    workspace: Workspace, source: OpenAISource, here: Live
) -> None:
    moved(workspace, source, "forward")
    assert answered_by(here) == {OLD: 1}
    moved(workspace, source, "canary")
    halves = answered_by(here, 40)
    assert halves.total() == 40
    assert 5 < halves["parcels@1"] < 35
    assert answered_by(here, 40) == halves  # each user keeps who answers them
    moved(workspace, source, "ours")
    assert answered_by(here) == {"parcels@1": 1}
    moved(workspace, source, "alone")
    assert answered_by(here) == {"parcels@1": 1}
    moved(workspace, source, "forward")
    assert answered_by(here) == {OLD: 1}
    found = forwarding.named(workspace, OLD)
    assert found is not None
    assert [step.stage for step in found.moves] == ["forward", "canary", "ours", "alone", "forward"]


def test_canary_that_ends_by_itself_says_who_answers(workspace: Workspace, source: OpenAISource) -> None:
    began = moved(workspace, source, "canary")
    assert began.rollout_id is not None
    assert forwarding.stage_now(workspace, began) == "canary"
    workspace.rollouts.finish(began.rollout_id, "rolled_back", reason="worse", actor="canary")
    assert forwarding.stage_now(workspace, began) == "forward"
    again = moved(workspace, source, "canary")
    assert again.rollout_id is not None
    workspace.rollouts.finish(again.rollout_id, "promoted", reason="as good", actor="canary")
    assert canary.sweep(workspace) == []  # no alias of ours moves by it
    assert "champion" not in workspace.models.aliases("parcels")
    assert forwarding.stage_now(workspace, again) == "ours"


def test_canary_of_ours_that_fails_is_rolled_back_by_its_traffic_and_no_client_sees_an_error(
    workspace: Workspace, source: OpenAISource, tiny_model: Path
) -> None:
    settings = ServerSettings(port=0, run_jobs=False, base=str(tiny_model), canary_interval_s=0.1)
    with live(workspace, tiny_model, settings=settings) as here:
        began = moved(workspace, source, "canary", percent=50)
        assert began.rollout_id is not None
        spoil(workspace)
        client, deadline, users = here.client(), time.monotonic() + 30, count()
        while workspace.rollouts.get(began.rollout_id).status == "running":
            assert time.monotonic() < deadline
            made = client.chat.completions.create(
                model=OLD, messages=ASK, max_tokens=4, user=f"user-{next(users)}"  # type: ignore[arg-type]
            )  # fmt: skip
            assert made.choices[0].message.content == "the old one"
        ended = workspace.rollouts.get(began.rollout_id)
        assert (ended.status, ended.actor) == ("rolled_back", "canary")
        assert forwarding.stage_now(workspace, began) == "forward"
        raw = client.chat.completions.with_raw_response.create(model=OLD, messages=ASK)  # type: ignore[arg-type]
        assert "x-tunery-fallback" not in raw.headers  # ours is not even tried any more


def test_canary_of_ours_whose_answers_have_not_the_form_is_rolled_back_by_its_traffic(
    workspace: Workspace, source: OpenAISource, tiny_model: Path
) -> None:
    source.say = lambda body: '{"kind": "parcel"}'
    form = {"type": "object", "properties": {"kind": {"type": "string"}}, "required": ["kind"]}
    asked: Any = {"type": "json_schema", "json_schema": {"name": "answer", "schema": form}}
    settings = ServerSettings(port=0, run_jobs=False, base=str(tiny_model), canary_interval_s=0.1)
    with live(workspace, tiny_model, settings=settings) as here:
        began = moved(workspace, source, "canary", percent=50)
        assert began.rollout_id is not None
        client, deadline, users = here.client(), time.monotonic() + 30, count()
        while (ended := workspace.rollouts.get(began.rollout_id)).status == "running":
            assert time.monotonic() < deadline
            client.chat.completions.create(  # ours talks until it is cut short; nobody is told of an error
                model=OLD, messages=ASK, max_tokens=6, user=f"user-{next(users)}", response_format=asked  # type: ignore[arg-type]
            )  # fmt: skip
        assert (ended.status, ended.actor) == ("rolled_back", "canary")
        assert "form" in (ended.reason or "")
        assert forwarding.stage_now(workspace, began) == "forward"
        made = client.chat.completions.create(
            model=OLD, messages=ASK, max_tokens=6, response_format=asked  # type: ignore[arg-type]
        )  # fmt: skip
        assert made.choices[0].message.content == '{"kind": "parcel"}'


def spoil(workspace: Workspace) -> None:
    """Change the weights of ours on the disk."""
    version = workspace.models.get("parcels", 1)
    weights = workspace.artifacts.path("adapters", version.adapter_id) / "adapter_model.safetensors"
    weights.write_bytes(b"spoilt")


def test_own_name_is_not_moved_by_a_canary_of_the_old_one(
    workspace: Workspace, source: OpenAISource, here: Live
) -> None:
    moved(workspace, source, "canary", percent=99)
    made = here.client().chat.completions.create(model="parcels", messages=ASK, max_tokens=4)  # type: ignore[arg-type]
    assert made.model == "parcels@1"


def test_old_endpoint_stands_in_where_ours_fails_and_not_once_ours_is_alone(
    workspace: Workspace, source: OpenAISource, here: Live
) -> None:
    moved(workspace, source, "ours")
    spoil(workspace)
    made = here.client().chat.completions.with_raw_response.create(model=OLD, messages=ASK)  # type: ignore[arg-type]
    assert made.parse().choices[0].message.content == "the old one"
    assert made.headers["x-tunery-fallback"] == "parcels@1; damaged"
    moved(workspace, source, "alone")
    with pytest.raises(openai.APIStatusError):
        here.client().chat.completions.create(model=OLD, messages=ASK)  # type: ignore[arg-type]


def test_old_model_that_is_gone_is_an_error_that_says_so(
    workspace: Workspace, source: OpenAISource, here: Live
) -> None:
    moved(workspace, source, "forward")
    source.models.clear()
    with pytest.raises(openai.NotFoundError, match="does not exist") as failed:
        here.client().chat.completions.create(model=OLD, messages=ASK)  # type: ignore[arg-type]
    assert failed.value.code == "model_not_found"


def refused(status: int, code: str | None = None, param: str | None = None, **headers: str) -> Trouble:
    error = {"message": "no, said the source", "type": "invalid_request_error", "param": param, "code": code}
    return Trouble(refusal=(status, error, {name.replace("_", "-"): text for name, text in headers.items()}))


REFUSALS: dict[str, tuple[Trouble, type[openai.APIStatusError], int, str | None, str | None]] = {
    "too long": (
        refused(400, "context_length_exceeded", "messages"),
        openai.BadRequestError, 400, "context_length_exceeded", "messages",
    ),
    "without a code": (refused(400), openai.BadRequestError, 400, "invalid_config", None),
    "unprocessable": (refused(422, "odd", "tools"), openai.BadRequestError, 400, "odd", "tools"),
    "no such route there": (
        Trouble(refusal=(404, {"message": "Invalid URL (POST /chat/completions)", "code": None}, {})),
        openai.InternalServerError, 502, "upstream_refused", None,
    ),
    "somewhere else": (refused(308), openai.InternalServerError, 502, "upstream_refused", None),
    "our key is refused": (
        refused(401, "invalid_api_key"), openai.InternalServerError, 502, "upstream_refused", None,
    ),
    "our key may not": (refused(403), openai.InternalServerError, 502, "upstream_refused", None),
    "our account is used up": (
        refused(429, "insufficient_quota"), openai.InternalServerError, 502, "upstream_refused", None,
    ),
    "unknown there": (
        refused(404, "model_not_found"), openai.NotFoundError, 404, "model_not_found", "model",
    ),
    "switched off there": (refused(410), openai.NotFoundError, 404, "model_not_found", "model"),
    "too many there": (
        refused(429, "rate_limit_exceeded", retry_after="7"),
        openai.RateLimitError, 429, "rate_limit_exceeded", None,
    ),
    "broken there": (refused(500), openai.InternalServerError, 503, "resource_exhausted", None),
}  # fmt: skip


def test_what_the_old_endpoint_refuses_reaches_the_client_as_what_it_is(
    workspace: Workspace, source: OpenAISource, here: Live
) -> None:
    settings = HostedSettings(base_url=source.url, model=OLD, api_key_env="OLD_KEY", attempts=1)
    forwarding.move(workspace, OLD, "forward", old=base_behind(settings), actor="test")
    for stream, (name, (trouble, kind, status, code, param)) in product((False, True), REFUSALS.items()):
        assert answered_by(here) == {OLD: 1}  # and its breaker counts from nothing
        before = source.seen["POST /v1/chat/completions"]
        source.trouble = trouble
        words = "refuses this server" if status == 502 else "no, said the source"
        with here.client() as client, pytest.raises(kind, match=words) as failed:
            client.with_options(max_retries=0).chat.completions.create(
                model=OLD, messages=ASK, stream=stream  # type: ignore[call-overload]
            )  # fmt: skip
        source.trouble = Trouble()
        told = failed.value
        assert (told.status_code, told.code, told.param) == (status, code, param), name
        assert KEY not in str(told.body)
        if name == "too many there":
            assert told.response.headers["retry-after"] == "7"
        if status == 502:  # nothing gets better by asking again
            assert told.response.headers["x-should-retry"] == "false"
            assert source.seen["POST /v1/chat/completions"] == before + 1


def test_key_that_is_missing_here_is_not_the_clients_mistake(
    workspace: Workspace, source: OpenAISource, here: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved(workspace, source, "forward")
    monkeypatch.delenv("OLD_KEY")
    with here.client() as client, pytest.raises(openai.InternalServerError) as failed:
        client.chat.completions.create(model=OLD, messages=ASK)  # type: ignore[arg-type]
    assert (failed.value.status_code, failed.value.code) == (502, "upstream_refused")
    assert "OLD_KEY" not in str(failed.value.body)  # what the operator's variables are called is in the log


@pytest.mark.parametrize(
    "trouble", [refused(404, "model_not_found"), refused(401)], ids=["gone", "key refused"]
)
def test_ours_answers_where_the_old_model_fails_in_a_canary(
    workspace: Workspace, source: OpenAISource, here: Live, trouble: Trouble
) -> None:
    moved(workspace, source, "canary", percent=0.1)
    source.trouble = trouble
    with here.client() as client:
        made = client.chat.completions.with_raw_response.create(
            model=OLD, messages=ASK, max_tokens=4, user="one of the old model's"  # type: ignore[arg-type]
        )  # fmt: skip
    assert made.headers["x-tunery-model-version"] == "parcels@1"
    assert made.headers["x-tunery-fallback"].startswith(OLD)
    here.app.state.services.gateway.log.flush()
    failed = [record for record in workspace.requests.list(10) if record.attempt_of]
    assert [(record.model, record.arm, record.status) for record in failed] == [(OLD, "champion", "error")]


def test_moves_that_cannot_be_are_refused(workspace: Workspace, source: OpenAISource) -> None:
    with pytest.raises(NotFoundError, match="not forwarded yet"):
        forwarding.move(workspace, OLD, "forward", actor="test")
    old = base_behind(HostedSettings(base_url=source.url, model=OLD))
    with pytest.raises(ConfigError, match="which version"):
        forwarding.move(workspace, OLD, "ours", old=old, actor="test")
    with pytest.raises(ConfigError, match="no number"):
        forwarding.move(workspace, OLD, "ours", old=old, version="parcels", actor="test")
    for taken in ("parcels", "parcels@1"):
        with pytest.raises(ConflictError, match="names a model here itself"):
            forwarding.move(workspace, taken, "forward", old=old, actor="test")
    refused = workspace.models.get("parcels", 1).with_(gate_passed=False, version=2)
    workspace.models.register(refused)
    with pytest.raises(GateFailed, match="refused parcels@2"):
        forwarding.move(workspace, OLD, "canary", old=old, version="parcels@2", actor="test")


def test_name_of_one_project_means_nothing_in_another(
    workspace: Workspace, source: OpenAISource, here: Live
) -> None:
    workspace.projects.create("acme")
    moved(workspace, source, "forward")
    foreign = here.client(key=workspace.of("acme").keys.create("theirs", "admin").secret)
    assert OLD not in {model.id for model in foreign.models.list()}
    with pytest.raises(openai.NotFoundError):
        foreign.chat.completions.create(model=OLD, messages=ASK)  # type: ignore[arg-type]


def test_key_is_nowhere_in_the_home(workspace: Workspace, source: OpenAISource, here: Live) -> None:
    moved(workspace, source, "forward")
    answered_by(here)
    here.app.state.services.gateway.log.flush()
    files = [path for path in workspace.root.parent.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if KEY.encode() in path.read_bytes()]
    assert httpx2.get(f"{here.url}/openapi.json").status_code == 200


def test_two_projects_that_forward_one_name_have_keys_of_their_own(
    workspace: Workspace, source: OpenAISource, here: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THEIR_KEY", "sk-wrong")
    workspace.projects.create("acme")
    moved(workspace, source, "forward")
    assert answered_by(here) == {OLD: 1}
    settings = HostedSettings(base_url=source.url, model=OLD, api_key_env="THEIR_KEY")
    forwarding.move(workspace.of("acme"), OLD, "forward", old=base_behind(settings), actor="test")
    theirs = here.client(key=workspace.of("acme").keys.create("theirs").secret)
    with pytest.raises(openai.APIStatusError, match="401"):
        theirs.chat.completions.create(model=OLD, messages=ASK)  # type: ignore[arg-type]


def test_canary_of_a_step_that_was_killed_does_not_block_the_next(
    workspace: Workspace, source: OpenAISource
) -> None:
    version = workspace.models.get("parcels", 1)
    orphan = canary.begin(workspace, version, FORWARDED, CanaryConfig(), actor="test")
    assert moved(workspace, source, "canary").rollout_id != orphan.id
    assert workspace.rollouts.get(orphan.id).status == "cancelled"


def test_what_failed_here_is_said_where_the_old_model_is_gone_too(
    workspace: Workspace, source: OpenAISource, here: Live
) -> None:
    moved(workspace, source, "ours")
    source.models.clear()
    spoil(workspace)
    with pytest.raises(openai.APIStatusError) as failed:
        here.client().chat.completions.create(model=OLD, messages=ASK)  # type: ignore[arg-type]
    assert "does not exist" not in str(failed.value)


def test_step_without_a_version_keeps_that_of_the_step_before(
    tunery: Tunery, home: Path, source: OpenAISource, tiny_model: Path, tiny_adapters: dict[str, Path]
) -> None:
    with closing(Workspace.open(home)) as found:
        for name in ("a", "b"):
            register(found, tiny_model, tiny_adapters[name], "parcels")
    scope = f"base-url={source.url},key-env=OLD_KEY"
    assert tunery("rescue", "inventory", "--scope", scope).code == 0
    first = tunery("rescue", "serve", OLD, "--to", "canary", "--with", "parcels@2", "--json")
    assert first.json["version"] == "parcels@2"
    assert tunery("rescue", "serve", OLD, "--to", "ours", "--json").json["version"] == "parcels@2"
    none = tunery("rescue", "serve", OLD, "--to", "ours", "--as", "other")
    assert (none.code, "--with NAME@N" in none.err) == (2, True)
