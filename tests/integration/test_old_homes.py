"""Homes made by earlier versions: they list, serve and export what they hold."""

from __future__ import annotations

import json
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path

import pytest
import yaml

from tests.fixtures_cli import Tunery, home, tunery  # noqa: F401 - fixtures
from tests.integration.live_api import live
from tunery.core.splits import SPLITS
from tunery.data.build import build_dataset
from tunery.data.version.card import data_card
from tunery.data.version.diff import diff_versions
from tunery.pipeline.recipe import parse_recipe, stored_recipe
from tunery.store.dataset_files import read_columns, read_examples
from tunery.store.workspace import Workspace

ARCHIVES = sorted((Path(__file__).parents[1] / "old_homes").glob("*.tar.xz"))
MADE_AT = "/tmp/old"


@pytest.fixture(params=ARCHIVES, ids=lambda archive: archive.name.split(".tar")[0])
def old(request: pytest.FixtureRequest, tmp_path: Path, home: Path) -> Path:  # noqa: F811
    """Unpack an old home and make it the one that commands find; its paths point to where it now lies."""
    with tarfile.open(request.param) as archive:
        archive.extractall(tmp_path, filter="data")
    with sqlite3.connect(tmp_path / "home" / "tunery.db") as database:
        for table in ("adapters", "runs", "jobs", "model_versions"):
            database.execute(
                f"update {table} set document = replace(document, ?, ?)", (MADE_AT, str(tmp_path))
            )
    database.close()
    return tmp_path


def test_there_is_an_old_home_to_open():
    assert ARCHIVES


def test_everything_it_holds_is_listed(old: Path, tunery: Tunery):  # noqa: F811
    for command in (
        ("registry", "ls"),
        ("registry", "show", "intents@1"),
        ("registry", "card", "intents@champion"),
        ("data", "ls"),
        ("runs", "ls"),
        ("jobs", "ls"),
        ("feedback", "ls", "--status", "pending"),
        ("evaluate", "ls"),
    ):
        called = tunery(*command)
        assert called.code == 0, (command, called.err)
        assert called.out.strip(), command
    versions = tunery("registry", "ls", "--json").json
    assert len(versions) == 2


def test_versions_and_datasets_are_exported(old: Path, tunery: Tunery):  # noqa: F811
    with closing(Workspace.open(old / "home")) as workspace:
        dataset = workspace.models.get("intents", 2).dataset_version
        folder = workspace.artifacts.path("datasets", dataset)
        rows = sum(len(read_examples(folder, split)) for split in SPLITS)
        assert len(read_columns(folder)) == rows == workspace.datasets.get(dataset).rows_kept
    exported = tunery("registry", "export", "intents@2", old / "exported")
    assert exported.code == 0, exported.err
    assert (old / "exported" / "adapter_model.safetensors").is_file()
    called = tunery("data", "export", dataset, "--format", "openai", "--out", old / "rows")
    assert called.code == 0, called.err
    lines = [line for file in (old / "rows").glob("*.jsonl") for line in file.read_text("utf-8").splitlines()]
    assert len(lines) == rows


def test_its_dataset_does_not_differ_from_the_same_built_today(old: Path):
    written = json.loads((old / "recipe.yaml").read_text("utf-8"))
    with closing(Workspace.open(old / "home")) as workspace:
        before = workspace.datasets.get(workspace.models.get("intents", 2).dataset_version)
        assert "inspect" in before.config, "an earlier Tunery made it"
        config = stored_recipe(written, where="recipe").data
        after = build_dataset(config, workspace, name="intents", base_dir=old)
        folders = [workspace.artifacts.path("datasets", v.id) for v in (before, after)]
        diff = diff_versions(before, after, (folders[0], folders[1]))
    assert diff.same == before.rows_kept
    assert diff.settings == ()


def test_the_recipe_in_its_dataset_s_card_is_one_of_today(old: Path):
    with closing(Workspace.open(old / "home")) as workspace:
        version = workspace.datasets.get(workspace.models.get("intents", 2).dataset_version)
    printed = yaml.safe_load(data_card(version).split("```yaml\n")[1].split("\n```")[0])
    recipe = {"name": "intents", "base": "smollm2-135m-instruct", "goal": {}, **printed}
    assert parse_recipe(recipe, where="card").data.filters.length.min_input_chars == 2


def test_its_champion_answers_as_it_did(old: Path):
    with closing(Workspace.open(old / "home")) as workspace:
        with live(workspace, old / "base") as server:
            client = server.client()
            served = client.chat.completions.create(
                model="intents",
                messages=[{"role": "user", "content": "I still wait for my card"}],
                max_tokens=6,
                temperature=0,
            )
            assert served.model == "intents@2"
            assert {"intents", "intents@1", "intents@2"} <= {m.id for m in client.models.list()}
        earlier = next(iter(workspace.requests.every()))
        assert served.choices[0].message.content == earlier.completion


def test_a_queued_job_s_recipe_is_read_with_its_settings_where_they_stand_now(old: Path):
    written = json.loads((old / "recipe.yaml").read_text("utf-8"))
    with closing(Workspace.open(old / "home")) as workspace:
        (job,) = workspace.jobs.list(limit=10)
        recipe = stored_recipe(job.recipe, where=job.id)
    assert recipe.inspect.ignore == ("short_prompt",)
    assert f'"min_input_chars":{written["data"]["clean"]["min_input_chars"]}' in recipe.data.model_dump_json()
