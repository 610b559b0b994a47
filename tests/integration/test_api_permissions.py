"""A checkpoint of one project that another may ask for, as OpenAI's own client shares it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.integration.live_api import BASE, Live, live, register
from tests.unit.store import samples
from tunery.store.workspace import Workspace

FT = f"ft:{BASE}:tunery::shared1"
ASK = [{"role": "user", "content": "hi"}]


@pytest.fixture(scope="module")
def here(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, tiny_adapters: dict[str, Path]
) -> Iterator[Live]:
    home = tmp_path_factory.mktemp("home")
    workspace = Workspace.open(home, database_url=f"sqlite:///{home / 'home.db'}")
    for name in ("acme", "umbrella", "third"):
        workspace.projects.create(name)
    view = workspace.of("acme")
    register(view, tiny_model, tiny_adapters["a"], "tycho")
    view.jobs.create(samples.job("ftjob-shared1", model_version="tycho@1", request={"model": BASE}))
    with live(workspace, tiny_model) as running:
        yield running
    workspace.close()


def client_of(here: Live, project: str) -> openai.OpenAI:
    return here.client(key=here.workspace.of(project).keys.create("key", "admin").secret)


@pytest.mark.parametrize("name", [FT, f"{FT}:ckpt-step-1"])
def test_other_project_may_ask_for_it_from_grant_to_withdrawal(here: Live, name: str) -> None:
    owner, other, third = (client_of(here, project) for project in ("acme", "umbrella", "third"))

    def ask(client: openai.OpenAI) -> str:
        made = client.chat.completions.create(model=name, messages=ASK, max_tokens=4)  # type: ignore[arg-type]
        return made.model

    with pytest.raises(openai.NotFoundError):
        ask(other)
    permissions = owner.fine_tuning.checkpoints.permissions
    (made,) = permissions.create(name, project_ids=["umbrella"]).data
    assert (made.object, made.project_id) == ("checkpoint.permission", "umbrella")
    assert [each.id for each in permissions.create(name, project_ids=["umbrella"]).data] == [made.id]
    assert [each.id for each in permissions.list(name)] == [made.id]
    assert ask(other) == name
    with pytest.raises(openai.NotFoundError):
        ask(third)
    # The name answers, and nothing else of it is there.
    with pytest.raises(openai.NotFoundError):
        other.fine_tuning.jobs.retrieve("ftjob-shared1")
    with pytest.raises(openai.NotFoundError):
        other.chat.completions.create(model="tycho@1", messages=ASK)  # type: ignore[arg-type]
    with pytest.raises(openai.NotFoundError):
        other.fine_tuning.checkpoints.permissions.create(name, project_ids=["third"])
    gone = permissions.delete(made.id, fine_tuned_model_checkpoint=name)
    assert (gone.deleted, gone.id) == (True, made.id)
    with pytest.raises(openai.NotFoundError):
        ask(other)
    assert list(permissions.list(name)) == []


def test_pages_and_refusals(here: Live) -> None:
    owner = client_of(here, "acme")
    permissions = owner.fine_tuning.checkpoints.permissions
    permissions.create(FT, project_ids=["umbrella", "third"])
    names = [each.project_id for each in permissions.list(FT, limit=1, order="ascending")]
    assert sorted(names) == ["third", "umbrella"]
    assert [each.project_id for each in permissions.list(FT, project_id="third")] == ["third"]
    for projects in (["nobody"], ["acme"], []):
        with pytest.raises((openai.NotFoundError, openai.BadRequestError)):
            permissions.create(FT, project_ids=projects)
    with pytest.raises(openai.NotFoundError):
        permissions.create("ft:none:tunery::x", project_ids=["umbrella"])
    reader = here.client(key=here.workspace.of("acme").keys.create("reader", "train").secret)
    with pytest.raises(openai.PermissionDeniedError):
        reader.fine_tuning.checkpoints.permissions.create(FT, project_ids=["third"])
