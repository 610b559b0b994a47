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
