"""What is left of each fine-tuned model, for how long, and what it would need to live on here."""

from __future__ import annotations

from datetime import date

from tunery.core.config import Record
from tunery.core.figures import counted
from tunery.core.forwarding import Shutdown
from tunery.rescue.commands import command
from tunery.rescue.records import FileState, Inventory, SourceFile, SourceJob, SourceModel

_METHODS = frozenset({"supervised", "dpo"})
"""Methods of jobs that train here on the same file."""


class Outlook(Record):
    """One fine-tuned model's."""

    model: str
    base: str
    scope: str
    method: str | None = None
    """Of its job; None where no job of it can be listed."""
    answers: bool | None = None
    shutdown: Shutdown | None = None
    days_left: int | None = None
    """Until it ends, counted from today; negative where it has ended; None where nothing is known [days]."""
    training: FileState | None = None
    """Of its training file; None where none is known."""
    validation: FileState | None = None
    results: int = 0
    """Result files that are still to be had or here [count]."""
    needs: tuple[str, ...] = ()
    """What it would need, a sentence each."""


def outlooks(inventory: Inventory, today: date, *, name: str) -> list[Outlook]:
    """Return what is left of each model, the one that ends first at the top.

    Args:
        inventory: What the source has.
        today: The day to count from.
        name: Of the rescue, for the commands in the sentences.
    """
    jobs = {job.id: job for job in inventory.jobs}
    files = {file.id: file for file in inventory.files}
    found = [_outlook(model, jobs.get(model.job_id or ""), files, today, name) for model in inventory.models]
    return sorted(found, key=lambda each: (each.days_left is None, each.days_left or 0, each.model))


def _outlook(
    model: SourceModel, job: SourceJob | None, files: dict[str, SourceFile], today: date, name: str
) -> Outlook:
    def state(id: str | None) -> FileState | None:
        return files[id].state if id in files else None

    training = state(job.training_file) if job else None
    results = [state(id) for id in job.result_files] if job else []
    return Outlook(
        model=model.id,
        base=model.base,
        scope=model.scope,
        method=job.method if job else None,
        answers=model.answers,
        shutdown=model.shutdown,
        days_left=(model.shutdown.on - today).days if model.shutdown else None,
        training=training,
        validation=state(job.validation_file) if job else None,
        results=sum(each in ("listed", "fetched") for each in results),
        needs=tuple(_needs(model, job, training, name)),
    )


def _needs(model: SourceModel, job: SourceJob | None, training: FileState | None, name: str) -> list[str]:
    record = command(name, "record", model.id)
    needs = []
    if training == "listed":
        needs.append(f"its files, while they are there: {command(name, 'fetch')}")
    elif training == "fetched":
        needs.append("nothing of its training data: that is here")
    elif training == "gone":
        needs.append(
            "other training data: its file is deleted at the source; recorded answers do: "
            f"{record} --prompts FILE"
        )
    else:
        needs.append(f"training data: no file of it is known; recorded answers do: {record} --prompts FILE")
    if job is not None and job.method not in _METHODS:
        needs.append(
            f"another method: {job.method} jobs do not run here; recorded answers train as supervised"
        )
    if model.answers is False:
        needs.append(
            "nothing from the model itself: the source does not list it, so it can hardly be recorded"
        )
    elif training in ("listed", "fetched"):
        needs.append(f"its answers to compare with, as long as it gives them: {record}")
    return needs


def ends(shutdown: Shutdown, today: date) -> str:
    """Return when a model ends or ended, and by whose word, as a person reads it.

    >>> ends(Shutdown(on=date(2026, 10, 23), source="api"), date(2026, 11, 27))
    "ended 35 days ago, on 2026-10-23 (the source's own word)"
    """
    return f"{'ended' if shutdown.on < today else 'ends'} {days_until(shutdown, today)}"


def days_until(shutdown: Shutdown, today: date) -> str:
    """Return how far away a day is and by whose word, as a person reads it.

    >>> days_until(Shutdown(on=date(2027, 1, 14), source="a notice"), date(2026, 11, 27))
    'in 48 days, on 2027-01-14 (reported, check: a notice)'
    """
    left = (shutdown.on - today).days
    when = (
        f"in {counted(left, 'day')}" if left > 0 else "today" if left == 0 else f"{counted(-left, 'day')} ago"
    )
    word = f"reported, check: {shutdown.source}" if shutdown.is_reported else "the source's own word"
    return f"{when}, on {shutdown.on} ({word})"
