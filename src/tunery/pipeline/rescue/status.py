"""How far a rescue has come: days left, what is safe by now, and what would be lost today."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import date, datetime

from tunery.core.config import Record
from tunery.core.figures import counted
from tunery.core.forwarding import ForwardedName, Shutdown, Stage
from tunery.core.ids import sha256_file
from tunery.core.markdown import bullets, code, inline, table
from tunery.deploy import forwarding
from tunery.pipeline.rescue.prompts import known_prompts
from tunery.pipeline.rescue.proof import proven
from tunery.rescue.commands import command
from tunery.rescue.folder import RescueFolder
from tunery.rescue.outlook import Outlook, days_until, ends, outlooks
from tunery.rescue.page import days_cell, ending, last_jobs
from tunery.rescue.records import Inventory
from tunery.store.workspace import Workspace

_OF = "\u00a0of\u00a0"
"""Keeps ``3 of 4`` on one line of a narrow column."""
_COMMAND = ": tunery "
"""Before the command that saves what would be lost."""
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
    served_as: str | None = None
    """The name that clients write here; None where nobody answers."""
    listed: bool | None = None
    """Whether the source still lists it; None where nobody knows."""
    gone_at: datetime | None = None
    """When the source, asked in its name here, first said that it knows it no more."""
    stand_in: str | None = None
    """Ours that answers where the name is still the old model's and that is gone; None where nobody does."""
    lost_today: tuple[str, ...] = ()
    """What would be lost were it switched off today, or is lost already, a sentence each."""

    @property
    def is_over(self) -> bool:
        """Whether the source answers as it no more."""
        return self.gone_at is not None or self.listed is False


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
    prompts, answers = known_prompts(folder, model), Counter(r.portion for r in folder.answers(model))
    found = proven(folder.of_model(model))
    forwarded = forwarding.of_model(workspace, model)
    stage = forwarding.stage_now(workspace, forwarded) if forwarded else None
    ours = found.version if found else None
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
        version=ours or (forwarded.version if forwarded else None),
        verdict=found.verdict if found else None,
        stage=stage,
        served_as=forwarded.name if forwarded else None,
        listed=outlook.answers,
        gone_at=forwarded.gone_at if forwarded else None,
        stand_in=_stand_in(workspace, forwarded, stage) if forwarded else None,
    )
    return status.with_(lost_today=tuple(_losses(status, folder.name)))


def _stand_in(workspace: Workspace, forwarded: ForwardedName, stage: Stage | None) -> str | None:
    if forwarded.gone_at is None or stage not in ("forward", "canary"):
        return None
    if stage == "canary":
        return forwarded.version
    version = forwarding.heir(workspace, forwarded)
    return version.ref if version else None


def _losses(status: ModelStatus, name: str) -> Iterator[str]:
    record = command(name, "record", status.model)
    if status.files < status.files_named:
        missing = counted(status.files_named - status.files, "file")
        yield f"{missing} of its job: {command(name, 'fetch')}"
    if status.is_over and (not status.recorded or status.recorded < status.prompts):
        left = counted(status.prompts - status.recorded, "prompt")
        which = f"its answers to {left}" if status.recorded else "its answers, all of them"
        yield f"{which}: the source gives none any more, so they are lost"
    elif not status.recorded:
        yield f"its answers, all of them: {record}"
    elif status.recorded < status.prompts:
        left = counted(status.prompts - status.recorded, "prompt")
        yield f"its answers to {left}: {record}"
    if status.version is None and status.verdict is None:
        step = command(name, "run" if status.recipe else "recipe", status.model)
        yield f"the service: no model of ours takes its place yet: {step}"
    elif status.version is None:
        more = f"another --margin of {command(name, 'recipe', status.model)}"
        more = more if status.is_over else f"{record} --prompts FILE, or {more}"
        yield f"the service: the gate refused what was trained ({status.verdict}): {more}"
    elif status.stage not in ("ours", "alone"):
        step = command(name, "serve", status.model, f"--to {'ours' if status.is_over else 'canary'}")
        if status.stand_in:
            yield f"the service: the old model is switched off, {status.stand_in} stands in for it: {step}"
        elif status.is_over:
            yield f"the service: the old model is switched off, nobody answers in its place: {step}"
        else:
            yield f"the service: {status.version} is ready and does not answer under its name yet: {step}"


def cells(status: ModelStatus) -> tuple[str, ...]:
    """Return the row of one model, by :data:`COLUMNS`."""
    return (
        status.model,
        ending(status.shutdown),
        days_cell(status.days_left),
        f"{status.files} of {status.files_named}",
        f"{status.recorded:,} of {status.prompts:,}",
        "yes" if status.recipe else "no",
        status.version or ("refused" if status.verdict else "none"),
        _answers(status),
    )


def _answers(status: ModelStatus) -> str:
    if status.is_over and status.stage in ("forward", "canary"):
        return f"{status.stand_in or 'nobody'}, as the old model is gone"
    return status.stage or "nobody"


def summary(found: Status) -> Iterator[str]:
    """Yield what matters of all models, a sentence each."""
    if not found.models:
        yield "The inventory lists no fine-tuned model, so there is nothing to lose."
        return
    lossy = sum(bool(each.lost_today) for each in found.models)
    over = sum(each.is_over for each in found.models)
    if lossy:
        yield f"Something would be lost today of {lossy:,} of {counted(len(found.models), 'model')}."
    else:
        yield "Nothing would be lost today."
    if over:
        yield f"The source answers as {over:,} of them no more."


def grouped_losses(found: Status) -> Iterator[str]:
    """Yield what would be lost today, what befalls several models alike as one sentence about the first."""
    alike: dict[str, list[tuple[str, str]]] = {}
    for each in found.models:
        for loss in each.lost_today:
            alike.setdefault(loss.replace(each.model, ""), []).append((each.model, loss))
    for (model, loss), *others in alike.values():
        yield f"{model}{f' and {len(others):,} more' if others else ''}: {loss}"


def status_page(found: Status) -> str:
    """Return the page."""
    return "\n\n".join(_blocks(found)) + "\n"


def _blocks(found: Status) -> Iterator[str]:
    yield f"# Rescue {found.name} on {found.today}"
    if found.last_new_job:
        yield f"Last new fine-tuning job at the source: {found.last_new_job}."
    yield " ".join(summary(found))
    if found.models:
        rows = [[inline(cell).replace(" of ", _OF) for cell in cells(each)] for each in found.models]
        yield table([name.lstrip(">") for name in COLUMNS], rows)
    for each in found.models:
        yield f"## {inline(each.model)}"
        if each.shutdown:
            end = ends(each.shutdown, found.today)
            yield f"{end[0].upper()}{inline(end[1:])}."
        if each.gone_at:
            yield f"Asked for it on {each.gone_at:%Y-%m-%d %H:%M} UTC, the source did not know it any more."
        elif each.listed is False:
            yield "The source does not list it any more."
        if each.served_as not in (None, each.model):
            yield f"It is answered here as `{code(str(each.served_as))}`."
        if each.damaged:
            yield f"Not what was fetched: {', '.join(each.damaged)}."
        if each.lost_today:
            yield f"Would be lost today:\n\n{bullets(map(_with_command, each.lost_today))}"
        else:
            yield "Nothing would be lost today."


def _with_command(loss: str) -> str:
    what, colon, command = loss.rpartition(_COMMAND)
    return f"{inline(what)}: `tunery {code(command)}`" if colon else inline(loss)
