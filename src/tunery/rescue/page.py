"""An inventory as a page in Markdown, and the cells of its table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from urllib.parse import urlsplit

from tunery.core.figures import counted, listed_counts, size
from tunery.core.forwarding import Shutdown
from tunery.rescue.fetch import Fetched
from tunery.rescue.outlook import Outlook, days_until, ends
from tunery.rescue.records import Inventory
from tunery.rescue.shutdowns import LAST_NEW_JOB, reported_end

COLUMNS = ("model", "base", "method", "ends", ">days left", "answers", "training file", ">results")


def cells(outlook: Outlook) -> tuple[str, ...]:
    """Return the row of one model, by :data:`COLUMNS`."""
    return (
        outlook.model,
        outlook.base,
        outlook.method or "no job",
        ending(outlook.shutdown),
        days_cell(outlook.days_left),
        {True: "yes", False: "no", None: "unknown"}[outlook.answers],
        outlook.training or "unknown",
        str(outlook.results),
    )


def ending(end: Shutdown | None) -> str:
    """Return the day of an end as a cell, with a note where it is a report."""
    return f"{end.on}{' (reported)' if end.is_reported else ''}" if end else "unknown"


def days_cell(left: int | None) -> str:
    """Return the days that are left as a cell.

    >>> [days_cell(left) for left in (48, 0, -35, None)]
    ['48', 'today', 'ended', '']
    """
    if left is None:
        return ""
    return f"{left:,}" if left > 0 else "ended" if left else "today"


def last_jobs(inventory: Inventory) -> list[Shutdown]:
    """Return the last day for new jobs, where an inventory's sources have models of OpenAI's."""
    hosts = [urlsplit(scope.base_url).hostname or "" for scope in inventory.scopes]
    bases = {model.base for model in inventory.models}
    return [LAST_NEW_JOB] if any(reported_end(base, host) for base in bases for host in hosts) else []


def inventory_page(name: str, inventory: Inventory, models: Sequence[Outlook], today: date) -> str:
    """Return the page of an inventory."""
    return "\n".join(_lines(name, inventory, models, today)) + "\n"


def fetched_line(fetched: Fetched) -> str:
    """Return in one line what is here."""
    here = [file for file in fetched.files if file.state == "fetched"]
    total = f"{counted(len(here), 'file')} ({size(sum(file.bytes for file in here))})"
    return f"{total} and {counted(fetched.jobs, 'job record')} are here, {size(fetched.downloaded)} of it new"


def fetch_page(name: str, fetched: Fetched) -> str:
    """Return the page of what was fetched."""
    rows = (
        (
            file.id, file.filename, file.purpose, file.state, f"{file.bytes:,}", file.sha256 or "",
            file.form or "",
            ", ".join(f"{key} {value:g}" for key, value in file.metrics.items()),
        )
        for file in fetched.files
    )  # fmt: skip
    columns = ("file", "name", "purpose", "state", ">bytes", "sha256", "result file", "last metrics")
    notes = [f"- {_plain(line)}" for line in (*fetched.gone, *fetched.problems)]
    lines = [f"# What of {name} is here", "", f"{fetched_line(fetched)}.", "", *_table(columns, rows)]
    return "\n".join([*lines, *(["", "## Gone or not here", "", *notes] if notes else [])]) + "\n"


def _lines(name: str, inventory: Inventory, models: Sequence[Outlook], today: date) -> Iterator[str]:
    yield f"# What {name} has"
    yield ""
    yield f"Read on {inventory.read_at:%Y-%m-%d %H:%M} UTC; nothing was changed at the source."
    for end in last_jobs(inventory):
        yield f"Last new fine-tuning job: {days_until(end, today)}."
    yield ""
    yield from _table(COLUMNS, map(cells, models))
    for each in models:
        yield from ("", f"## {_plain(each.model)}", "")
        if each.shutdown:
            yield f"- {ends(each.shutdown, today)}"
        yield from (f"- needs {need}" for need in each.needs)
    yield from ("", f"## {counted(len(inventory.jobs), 'job')}", "")
    yield from _table(
        ("job", "scope", "base", "method", "status", "hyperparameters", ">checkpoints", ">events", "model"),
        (
            (
                job.id, job.scope, job.base, job.method, job.status,
                ", ".join(f"{key} {value}" for key, value in job.hyperparameters.items()),
                str(len(job.checkpoints)), str(job.events), job.fine_tuned_model or "",
            )
            for job in inventory.jobs
        ),
    )  # fmt: skip
    total = size(sum(file.bytes for file in inventory.files))
    yield from ("", f"## {counted(len(inventory.files), 'file')}, {total}", "")
    yield f"- {listed_counts(Counter(file.state for file in inventory.files))}"
    yield f"- {listed_counts(Counter(file.purpose or 'of no purpose' for file in inventory.files))}"
    for file in inventory.files:
        if file.state == "gone":
            yield f"- gone: {file.id} {_plain(file.filename)}".rstrip()
    if inventory.problems:
        yield from ("", "## Not read", "")
        yield from (f"- {_plain(problem)}" for problem in inventory.problems)


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(column.removeprefix('>') for column in columns)} |"
    yield f"| {' | '.join('---:' if column.startswith('>') else '---' for column in columns)} |"
    for row in rows:
        yield f"| {' | '.join(map(_plain, row))} |"


def _plain(text: str) -> str:
    """Return text of the source on one line that is no markup: its names are not ours to trust."""
    line = " ".join(text.split())
    return "".join(f"\\{c}" if c in "\\|<>[]`*#!" else c for c in line)
