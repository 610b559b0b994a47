"""Which account of a source a forwarded name speaks for, with which key, by which way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.doubles.openai_source import KEY, OpenAISource
from tests.fixtures_cli import Tunery, home, tunery
from tests.integration.live_api import Live, live, register
from tests.integration.test_forwarded_names import ASK, OLD, source
from tunery.store.workspace import Workspace

__all__ = ["home", "source", "tunery"]


@contextmanager
def serving(home: Path, tiny_model: Path) -> Iterator[Live]:
    with closing(Workspace.open(home)) as workspace, live(workspace, tiny_model) as here:
        yield here


def ask(here: Live, **more: Any) -> Any:
    with here.client() as client:
        made = client.with_options(max_retries=0).chat.completions.create(
            model=OLD, messages=ASK, **more  # type: ignore[call-overload]
        )  # fmt: skip
        return list(made) if more.get("stream") else made


def test_account_of_the_inventory_is_the_one_that_is_asked(
    source: OpenAISource, tunery: Tunery, home: Path, tiny_model: Path
) -> None:
    scope = f"base-url={source.url},key-env=OLD_KEY,organization=org-acme,project=proj_7"
    assert tunery("rescue", "inventory", "--scope", scope).code == 0
    assert tunery("rescue", "serve", OLD, "--to", "forward").code == 0
    source.headers.clear()
    with serving(home, tiny_model) as here:
        ask(here)
        ask(here, stream=True)
    sent = [
        {name: each.get(name) for name in ("openai-organization", "openai-project")}
        for each in source.headers
    ]
    assert sent == [{"openai-organization": "org-acme", "openai-project": "proj_7"}] * 2
    assert {each["authorization"] for each in source.headers} == {f"Bearer {KEY}"}


def test_key_of_a_file_is_read_when_it_is_used_and_kept_nowhere(
    source: OpenAISource, tunery: Tunery, home: Path, tiny_model: Path, tmp_path: Path
) -> None:
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    file.chmod(0o600)
    assert tunery("rescue", "inventory", "--scope", f"base-url={source.url},key-file={file}").code == 0
    assert tunery("rescue", "serve", OLD, "--to", "forward").code == 0
    with serving(home, tiny_model) as here:
        assert ask(here).choices[0].message.content == "the old one"
        source.key = "sk-the-next-one"
        file.write_text("sk-the-next-one")
        assert ask(here).choices[0].message.content == "the old one"
        file.chmod(0o644)  # others may read it
        with pytest.raises(openai.InternalServerError) as failed:
            ask(here)
        assert str(file) not in str(failed.value.body)
        file.chmod(0o600)
        assert ask(here).choices[0].message.content == "the old one"
    kept = [path for path in home.rglob("*") if path.is_file()]
    assert not [
        path for path in kept if KEY.encode() in path.read_bytes() or b"next-one" in path.read_bytes()
    ]


def test_proxy_of_the_account_is_gone_through(
    source: OpenAISource, tunery: Tunery, home: Path, tiny_model: Path
) -> None:
    # The proxy is where the request ends, so that nothing leaves this machine.
    proxy = source.url.removesuffix("/v1")
    scope = f"base-url=http://old.example/v1,key-env=OLD_KEY,proxy={proxy}"
    assert tunery("rescue", "inventory", "--scope", scope).code == 0
    assert tunery("rescue", "serve", OLD, "--to", "forward").code == 0
    with serving(home, tiny_model) as here:
        assert ask(here).choices[0].message.content == "the old one"
    assert source.headers[-1]["host"] == "old.example"


def test_deployment_answers_for_a_model_that_is_called_otherwise(
    source: OpenAISource, tunery: Tunery, home: Path, tiny_model: Path
) -> None:
    assert tunery("rescue", "inventory", "--scope", f"base-url={source.url},key-env=OLD_KEY").code == 0
    assert tunery("rescue", "serve", OLD, "--deployment", "parcels-prod", "--to", "forward").code == 0
    source.models.append({"id": "parcels-prod", "object": "model"})
    with serving(home, tiny_model) as here:
        assert ask(here).model == OLD
    assert source.completions[-1]["model"] == "parcels-prod"


def test_a_further_step_keeps_the_deployment_and_the_window_and_status_finds_both(
    source: OpenAISource, tunery: Tunery, home: Path, tiny_model: Path, tiny_adapters: dict[str, Path]
) -> None:
    with closing(Workspace.open(home)) as workspace:
        register(workspace, tiny_model, tiny_adapters["a"], "parcels")
    assert tunery("rescue", "inventory", "--scope", f"base-url={source.url},key-env=OLD_KEY").code == 0
    name = ("--as", "support")
    first = ("--deployment", "parcels-prod", "--window", "9000", "--to", "forward", "--with", "parcels@1")
    assert tunery("rescue", "serve", OLD, *name, *first).code == 0
    for stage in ("canary", "ours", "forward"):
        step = tunery("rescue", "serve", OLD, *name, "--to", stage, "--json").json
        hosted = step["old"]["hosted"]
        assert (hosted["model"], hosted["context_window"], step["listed_as"]) == ("parcels-prod", 9000, OLD)
    (found,) = tunery("rescue", "status", "--json").json["status"]["models"]
    assert (found["model"], found["served_as"], found["stage"]) == (OLD, "support", "forward")
    other = tunery("rescue", "serve", OLD, *name, "--deployment", "second", "--to", "forward", "--json").json
    assert other["old"]["hosted"]["model"] == "second"


@pytest.mark.parametrize(("stated", "reported"), [("2027-03-01", None), (None, "notice of 14 October 2026")])
def test_end_of_the_old_model_is_listed_until_ours_answers(
    stated: str | None,
    reported: str | None,
    source: OpenAISource,
    tunery: Tunery,
    home: Path,
    tiny_model: Path,
    tiny_adapters: dict[str, Path],
) -> None:
    source.models[-1]["shutdown_date"] = stated
    with closing(Workspace.open(home)) as workspace:
        register(workspace, tiny_model, tiny_adapters["a"], "parcels")
    assert tunery("rescue", "inventory", "--scope", f"base-url={source.url},key-env=OLD_KEY").code == 0
    for stage, day in (
        ("forward", stated or "2027-01-14"),
        ("ours", None),
        ("canary", stated or "2027-01-14"),
    ):
        assert tunery("rescue", "serve", OLD, "--to", stage, "--with", "parcels@1").code == 0
        with serving(home, tiny_model) as here, here.client() as client:
            listed = {model.id: model for model in client.models.list()}
            found = client.models.retrieve(OLD)
        assert (found.shutdown_date, listed[OLD].shutdown_date) == (day, day)
        assert (found.created, found.owned_by) == (listed[OLD].created, listed[OLD].owned_by)
        assert listed["parcels@1"].shutdown_date is None
        said = (found.model_extra or {}).get("shutdown_reported_by", "")
        assert said.startswith(reported or "") if day else said == ""
        assert bool(said) == bool(day and reported)


def arranged(home: Path, tunery: Tunery, source: OpenAISource, tiny_model: Path, adapter: Path) -> None:
    """Have the old name forwarded, with a version of ours behind it."""
    with closing(Workspace.open(home)) as workspace:
        register(workspace, tiny_model, adapter, "parcels")
    assert tunery("rescue", "inventory", "--scope", f"base-url={source.url},key-env=OLD_KEY").code == 0
    assert tunery("rescue", "serve", OLD, "--with", "parcels@1").code == 0


def stated(tunery: Tunery) -> Any:
    (model,) = tunery("rescue", "status", "--json").json["status"]["models"]
    return model


def test_ours_answers_a_forwarded_name_once_the_old_model_is_gone(
    source: OpenAISource, tunery: Tunery, home: Path, tiny_model: Path, tiny_adapters: dict[str, Path]
) -> None:
    arranged(home, tunery, source, tiny_model, tiny_adapters["a"])
    assert stated(tunery)["gone_at"] is None
    with serving(home, tiny_model) as here, here.client() as client:
        source.trouble.fail["chat/completions"] = [500] * 20
        with pytest.raises(openai.InternalServerError):  # it is there, and to answer: ours stays out of it
            ask(here)
        source.trouble.fail.clear()
        assert ask(here).choices[0].message.content == "the old one"
        source.models.clear()
        for stream in (False, True):
            raw = client.chat.completions.with_raw_response.create(
                model=OLD, messages=ASK, max_tokens=4, stream=stream  # type: ignore[call-overload]
            )  # fmt: skip
            assert raw.headers["x-tunery-model-version"] == "parcels@1"
            assert raw.headers["x-tunery-fallback"] == f"{OLD}; model_not_found"
    status = stated(tunery)
    assert status["gone_at"] is not None
    assert any("switched off" in loss for loss in status["lost_today"])
    assert tunery("rescue", "serve", OLD, "--to", "ours").code == 0
    assert stated(tunery)["gone_at"] is None  # as far as anybody has asked since


@pytest.mark.parametrize("why", ["refused by its gate", "rolled back", "its files are gone"])
def test_what_nobody_answers_for_does_not_take_the_old_model_s_place(
    why: str,
    source: OpenAISource,
    tunery: Tunery,
    home: Path,
    tiny_model: Path,
    tiny_adapters: dict[str, Path],
) -> None:
    arranged(home, tunery, source, tiny_model, tiny_adapters["a"])
    with closing(Workspace.open(home)) as workspace:
        if why == "rolled back":
            assert tunery("rescue", "serve", OLD, "--to", "canary").code == 0
            rollout = workspace.rollouts.running("parcels")
            assert rollout is not None
            workspace.rollouts.finish(rollout.id, "rolled_back", reason="worse", actor="canary")
        elif why == "its files are gone":
            workspace.artifacts.delete("adapters", workspace.models.get("parcels", 1).adapter_id)
        else:
            refused = workspace.models.get("parcels", 1).with_(gate_passed=False, version=2)
            workspace.models.register(refused)
            assert tunery("rescue", "serve", OLD, "--with", "parcels@2").code == 0
    with serving(home, tiny_model) as here:
        assert ask(here).choices[0].message.content == "the old one"  # forwarded all the same
        source.models.clear()
        with pytest.raises(openai.NotFoundError) as failed:
            ask(here)
    assert failed.value.code == "model_not_found"
    assert stated(tunery)["gone_at"] is not None


def test_many_refusals_in_a_row_stay_what_they_are(
    source: OpenAISource, tunery: Tunery, home: Path, tiny_model: Path, tiny_adapters: dict[str, Path]
) -> None:
    arranged(home, tunery, source, tiny_model, tiny_adapters["a"])
    with serving(home, tiny_model) as here:
        source.trouble.throttle_every, source.trouble.retry_after = 1, "30"
        for _ in range(8):  # more than open a breaker
            with pytest.raises(openai.RateLimitError) as limited:
                ask(here)
            assert limited.value.response.headers["retry-after"] == "30"
        source.trouble.throttle_every, source.trouble.expired = 0, True
        for _ in range(8):
            with pytest.raises(openai.InternalServerError) as refused:
                ask(here)
            assert refused.value.code == "upstream_refused"
        source.trouble.expired = False
        assert ask(here).choices[0].message.content == "the old one"
