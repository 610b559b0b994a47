"""How far a rescue has come: days left, what is safe by now, and what would be lost today."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import date

from tunery.core.config import Record
from tunery.core.figures import counted
from tunery.core.forwarding import Shutdown, Stage
from tunery.core.ids import sha256_file
from tunery.core.markdown import table
from tunery.deploy import forwarding
from tunery.pipeline.rescue.prompts import known_prompts
from tunery.pipeline.rescue.proof import proven
from tunery.rescue.commands import command
from tunery.rescue.folder import RescueFolder
from tunery.rescue.outlook import Outlook, days_until, outlooks
from tunery.rescue.page import ending, last_jobs
from tunery.rescue.records import Inventory
from tunery.store.workspace import Workspace

COLUMNS = ("model", "ends", ">days left", ">files", ">recorded", "recipe", "ours", "answers here")


class ModelStatus(Record):
    """How one fine-tuned model stands."""

    model: str
    shutdown: Shutdown | None = None
    """When it ends, and by whose word; None where nothing is known."""
    days_left: int | None = None
    files: int = 0
    """Of its job that are here, whole [count]."""
    files_named: int = 0
    """That its job names and the source had [count]."""
    damaged: tuple[str, ...] = ()
    """Files that are not what was fetched."""
    prompts: int = 0
    """Drawn [count]."""
    recorded: int = 0
    """Of these, those that it has answered [count]."""
    held_out: int = 0
    """Of these, those that it is compared on [count]."""
    recipe: bool = False
    version: str | None = None
    """Ours, once its gate passed it."""
    verdict: str | None = None
    """Of the newest run; None while there is none."""
    stage: Stage | None = None
    """Who answers under its name here; None where nobody does."""
    lost_today: tuple[str, ...] = ()
    """What would be lost were it switched off today, a sentence each."""


class Status(Record):
    """How a rescue stands."""

    name: str
    today: date
    last_new_job: str | None
    """When the source takes its last fine-tuning job, and by whose word."""
    models: tuple[ModelStatus, ...]


def status_of(folder: RescueFolder, workspace: Workspace, today: date) -> Status:
    """Return how a rescue stands; files that were fetched are compared with their checksums.

    Raises:
        NotFoundError: There is no inventory yet.
    """
    inventory = folder.inventory()
    models = [
        _model(folder, inventory, each, workspace, today)
        for each in outlooks(inventory, today, name=folder.name)
    ]
    ends = last_jobs(inventory)
    return Status(
        name=folder.name,
        today=today,
        last_new_job=days_until(ends[0], today) if ends else None,
        models=tuple(models),
    )


def _model(
    folder: RescueFolder, inventory: Inventory, outlook: Outlook, workspace: Workspace, today: date
) -> ModelStatus:
    model = outlook.model
    job = next((j for j in inventory.jobs if j.fine_tuned_model == model), None)
    ids = [id for id in (job.training_file, job.validation_file, *job.result_files) if id] if job else []
    there = {file.id: file for file in inventory.files if file.id in ids}
    here = [id for id in ids if folder.file(id).is_file()]
    damaged = [
        id for id in here if id in there and there[id].sha256 not in (None, sha256_file(folder.file(id)))
    ]
    prompts, answers = known_prompts(folder, model), Counter(r.portion for r in folder.recordings(model))
    found = proven(folder.of_model(model))
    forwarded = forwarding.named(workspace, model)
    status = ModelStatus(
        model=model,
        shutdown=outlook.shutdown,
        days_left=outlook.days_left,
        files=len(here) - len(damaged),
        files_named=sum(file.state != "gone" for file in there.values()),
        damaged=tuple(damaged),
        prompts=len(prompts),
        recorded=answers.total(),
        held_out=answers["holdout"],
        recipe=(folder.of_model(model) / "recipe.yaml").is_file(),
        version=found.version if found else None,
        verdict=found.verdict if found else None,
        stage=forwarding.stage_now(workspace, forwarded) if forwarded else None,
    )
    return status.with_(lost_today=tuple(_losses(status, folder.name)))


def _losses(status: ModelStatus, name: str) -> Iterator[str]:
    record = command(name, "record", status.model)
    if status.files < status.files_named:
        missing = counted(status.files_named - status.files, "file")
        yield f"{missing} of its job: {command(name, 'fetch')}"
    if not status.recorded:
        yield f"its answers, all of them: {record}"
    elif status.recorded < status.prompts:
        left = counted(status.prompts - status.recorded, "prompt")
        yield f"its answers to {left}: {record}"
    if status.version is None and status.verdict is None:
        step = command(name, "run" if status.recipe else "recipe", status.model)
        yield f"the service: no model of ours takes its place yet: {step}"
    elif status.version is None:
        more = f"{record} --prompts FILE, or another --margin of {command(name, 'recipe', status.model)}"
        yield f"the service: the gate refused what was trained ({status.verdict}): {more}"
    elif status.stage not in ("ours", "alone"):
        step = command(name, "serve", status.model, "--to canary")
        yield f"the service: {status.version} is ready and does not answer under its name yet: {step}"


def cells(status: ModelStatus) -> tuple[str, ...]:
    """Return the row of one model, by :data:`COLUMNS`."""
    return (
        status.model,
        ending(status.shutdown),
        "" if status.days_left is None else f"{status.days_left:,}",
        f"{status.files} of {status.files_named}",
        f"{status.recorded:,} of {status.prompts:,}",
        "yes" if status.recipe else "no",
        status.version or ("refused" if status.verdict else "none"),
        status.stage or "nobody",
    )


def status_page(found: Status) -> str:
    """Return the page."""
    return "\n\n".join(_blocks(found)) + "\n"


def _blocks(found: Status) -> Iterator[str]:
    yield f"# Rescue {found.name} on {found.today}"
    if found.last_new_job:
        yield f"Last new fine-tuning job at the source: {found.last_new_job}."
    yield table([name.lstrip(">") for name in COLUMNS], [cells(each) for each in found.models])
    for each in found.models:
        yield f"## {each.model}"
        if each.shutdown:
            yield f"Ends {days_until(each.shutdown, found.today)}."
        if each.damaged:
            yield f"Not what was fetched: {', '.join(each.damaged)}."
        if each.lost_today:
            yield "\n".join(["Would be lost today:", "", *(f"- {loss}" for loss in each.lost_today)])
        else:
            yield "Nothing would be lost today."
