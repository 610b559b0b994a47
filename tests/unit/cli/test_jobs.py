"""The queue from the command line: recipes in, events out, whoever runs them."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path

from tests.fixtures_cli import Tunery
from tunery.core.job import Job
from tunery.store.workspace import Workspace

AT = datetime(2026, 3, 1, tzinfo=UTC)

RECIPE = """
name: intents
goal: {}
base: base-folder
data:
  sources: [{path: rows.csv}]
evaluate:
  suites: {other: {source: {path: other.csv}}}
"""


def queued(workspace: Workspace) -> Job:
    """Put a job into the queue that has said something already."""
    request = {"model": "m"}
    job = workspace.jobs.add(
        Job(id="ftjob-1", kind="run", status="queued", recipe={"name": "x"}, request=request, created_at=AT)
    )
    workspace.jobs.add_event(job.id, "said before")
    return job


def test_a_started_recipe_waits_with_every_path_made_whole(tunery: Tunery, tmp_path: Path) -> None:
    folder = tmp_path / "recipes"
    (folder / "base-folder").mkdir(parents=True)
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    job = tunery("jobs", "start", folder / "recipe.yaml", "train.epochs=2", "--json").json
    assert job["status"] == "queued"
    assert job["recipe"]["train"]["epochs"] == 2
    assert job["recipe"]["data"]["sources"][0]["path"] == str(folder / "rows.csv")
    assert job["recipe"]["evaluate"]["suites"]["other"]["source"]["path"] == str(folder / "other.csv")
    assert job["recipe"]["base"] == str(folder / "base-folder")
    assert [j["id"] for j in tunery("jobs", "ls", "--json").json] == [job["id"]]
    assert tunery("jobs", "pause", job["id"]).out.startswith(
        f"{job['id']} is paused\nnext: tunery jobs resume"
    )
    assert tunery("jobs", "pause", job["id"], "--json").json["status"] == "paused"
    assert tunery("jobs", "resume", job["id"], "--json").json["status"] == "queued"
    assert tunery("jobs", "cancel", job["id"]).out == f"{job['id']} is cancelled\n"
    assert tunery("jobs", "cancel", job["id"], "--json").json["status"] == "cancelled"
    resumed = tunery("jobs", "resume", job["id"], "--json").json
    assert (resumed["status"], resumed["cancel_requested"], resumed["finished_at"]) == ("queued", False, None)
    refused = tunery("jobs", "resume", job["id"])
    assert refused.code == 4


def test_a_base_of_the_hub_keeps_its_name(tunery: Tunery, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE.replace("base-folder", "org/model@main"), encoding="utf-8")
    job = tunery("jobs", "start", tmp_path / "recipe.yaml", "--json").json
    assert job["recipe"]["base"] == "org/model@main"


def test_following_shows_each_event_once_and_ends_with_the_job(bots: Workspace, tunery: Tunery) -> None:
    job = queued(bots)

    def work() -> None:
        bots.jobs.add_event(job.id, "said meanwhile")
        bots.jobs.request_cancel(job.id)

    worker = threading.Timer(0.3, work)
    worker.start()
    called = tunery("jobs", "status", job.id, "--follow")
    worker.join()
    lines = called.out.splitlines()
    assert [line.partition("said ")[2] for line in lines[:2]] == ["before", "meanwhile"]
    assert lines[2].endswith("The job was cancelled")
    assert lines[3:] == [f"{job.id}: cancelled"]


def test_following_with_json_gives_one_value_at_the_end(bots: Workspace, tunery: Tunery) -> None:
    job = queued(bots)
    bots.jobs.request_cancel(job.id)
    found = tunery("jobs", "status", job.id, "--follow", "--json").json
    assert found["status"] == "cancelled"
    assert [event["message"] for event in found["events"]] == ["said before", "The job was cancelled"]


def test_a_job_shows_its_events_and_checkpoints(bots: Workspace, tunery: Tunery) -> None:
    job = queued(bots)
    bots.jobs.add_checkpoint(job.id, 10, {"validation_loss": 0.5})
    shown = tunery("jobs", "show", job.id, "--json").json
    assert [c["step_number"] for c in shown["checkpoints"]] == [10]
    assert "said before" in tunery("jobs", "show", job.id).out


def test_a_damaged_job_is_named_beside_the_list_of_the_others(bots: Workspace, tunery: Tunery) -> None:
    queued(bots)
    bots.jobs.add(bots.jobs.get("ftjob-1").with_(id="ftjob-2"))
    with bots.database.transaction() as transaction:
        transaction.run("UPDATE jobs SET document = '{' WHERE id = 'ftjob-1'")
    listed = tunery("jobs", "ls", "--json")
    assert [job["id"] for job in listed.json] == ["ftjob-2"]
    shown = tunery("jobs", "show", "ftjob-1")
    assert shown.code == 2
    assert "table jobs, row 1 (ftjob-1) is damaged" in shown.err
    assert "Traceback" not in shown.err
