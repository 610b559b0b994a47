"""What a source has: everything that its keys can list, read and kept; what was read is not read again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from pydantic_core import PydanticSerializationError

from tunery.core.errors import ConflictError, DamagedError, NotFoundError, TuneryError
from tunery.core.figures import counted, one_line
from tunery.core.forwarding import Shutdown
from tunery.core.progress import Progress, ProgressBar
from tunery.endpoint.config import is_open_to_listeners
from tunery.rescue.folder import RescueFolder, is_source_id
from tunery.rescue.records import (
    Inventory,
    JobPapers,
    Scope,
    SourceFile,
    SourceJob,
    SourceModel,
)
from tunery.rescue.shapes import FINAL, base_of, end_of, file_of, is_fine_tuned, job_of, moment_of
from tunery.rescue.shutdowns import reported_end
from tunery.rescue.source import Source

_A_PAGE = 100
_FILES_A_PAGE = 10_000
T = TypeVar("T", bound="SourceJob | SourceFile")


class _Listed(NamedTuple):
    """What one listing gave."""

    what: str
    items: list[Any]
    problem: str | None = None
    """Why it is not all."""
    error: TuneryError | None = None


class _Account(NamedTuple):
    """What one scope has."""

    scope: Scope
    models: dict[str, Mapping[str, Any]]
    """All that it lists, by id, as the source has them."""
    jobs: list[SourceJob]
    files: list[SourceFile]
    problems: list[str]
    unread: frozenset[str]
    """Those of ``models``, ``jobs`` and ``files`` that could not be read to their end."""
    refused: TuneryError | None
    """Why nothing of it could be read."""


async def take_inventory(
    folder: RescueFolder, scopes: Sequence[Scope], now: datetime, progress: Progress
) -> Inventory:
    """Read what there is at a source and write it to ``inventory.json``; job records to ``jobs/``.

    What an earlier inventory knew stays, even where the source lists it no more: it may have switched it off.

    Args:
        folder: Of the rescue.
        scopes: Accounts, at least one.
        now: The time.
        progress: Shows how far it is.

    Raises:
        ConfigError: There is no usable key, or no scope's key is taken.
        ConflictError: A scope has the name of one that means another account here.
        ResourceError: Nothing could be read, or nothing written.
    """
    known = folder.inventory() if folder.is_there else Inventory(read_at=now, scopes=())
    _check_accounts(folder.name, scopes, known)
    sources = [
        Source(scope, tell=progress.event) for scope in scopes
    ]  # every key is looked for before one is used
    accounts = []
    for source in sources:
        if is_open_to_listeners(source.scope.base_url):
            message = f"{source.scope.base_url} is not https: the key crosses the network in the clear"
            progress.event(message, level="warn")
        async with source:
            accounts.append(await _read(source, folder, progress))
    refusals = [account.refused for account in accounts if account.refused]
    if len(refusals) == len(accounts):
        raise refusals[0]
    jobs = _merged((job for account in accounts for job in account.jobs), known.jobs)
    inventory = Inventory(
        read_at=now,
        scopes=tuple(scopes),
        models=_models(accounts, jobs, known.models),
        jobs=jobs,
        files=_files(accounts, known.files),
        problems=tuple(problem for account in accounts for problem in account.problems),
    )
    await asyncio.to_thread(folder.write, "inventory.json", inventory)
    return inventory


def _check_accounts(name: str, scopes: Iterable[Scope], known: Inventory) -> None:
    """Refuse an account under the name of another one: what that had would all look as if it were gone."""
    before = {scope.name: scope for scope in known.scopes}
    kept = {model.scope for model in known.models} | {file.scope for file in known.files}
    for scope in scopes:
        old = before.get(scope.name)
        if old is None or scope.name not in kept or _account(old) == _account(scope):
            continue
        raise ConflictError(
            f"scope {scope.name} of the rescue {name} is {' '.join(_account(old))}, "
            f"not {' '.join(_account(scope))}: what was listed there would look as if it were gone",
            hint=f"give the other account a name: --scope name=other,… beside --scope name={scope.name},…; "
            "or keep it apart: --name OTHER",
        )


def _account(scope: Scope) -> tuple[str, ...]:
    named = (scope.base_url.rstrip("/"), scope.organization, scope.project)
    return tuple(filter(None, named))


async def _read(source: Source, folder: RescueFolder, progress: Progress) -> _Account:
    scope = source.scope.name
    with progress.task(f"what {source.host} lists for scope {scope}", None):
        listings = await asyncio.gather(
            _all(source, "models", source.pages("models", _A_PAGE)),
            _all(source, "jobs", source.pages("fine_tuning/jobs", _A_PAGE)),
            _all(source, "files", source.pages("files", _FILES_A_PAGE)),
        )
    raw_models, raw_jobs, raw_files = (listed.items for listed in listings)
    problems = [listed.problem for listed in listings if listed.problem]
    unread = frozenset(listed.what for listed in listings if listed.problem)
    models = {
        raw["id"]: raw for raw in raw_models if isinstance(raw, Mapping) and isinstance(raw.get("id"), str)
    }
    jobs, files = [], []
    with progress.task(f"job records of scope {scope}", len(raw_jobs)) as bar:
        reading = (read_papers(source, folder, raw, bar) for raw in raw_jobs)
        for papers in await asyncio.gather(*reading):
            if papers and (job := job_of(papers)):
                problems += papers.problems
                jobs.append(job)
            else:
                problems.append(f"scope {scope}: a job was listed without an id that can be used")
    for raw in raw_files:
        if file := file_of(raw, scope):
            files.append(file)
        else:
            problems.append(f"scope {scope}: a file was listed without an id that can be used")
    files += await _unlisted(source, jobs, {file.id for file in files}, problems)
    nothing = len(unread) == len(listings) and not (models or jobs or files)
    return _Account(
        source.scope, models, jobs, files, problems, unread, listings[0].error if nothing else None
    )


async def _all(source: Source, what: str, pages: AsyncIterator[Any]) -> _Listed:
    items: list[Any] = []
    try:
        async for item in pages:
            items.append(item)
    except TuneryError as error:
        behind = f" after {counted(len(items), 'item')}" if items else ""
        return _Listed(
            what, items, f"scope {source.scope.name}: {what} unread{behind}: {error.message}", error
        )
    return _Listed(what, items)


async def read_papers(source: Source, folder: RescueFolder, raw: Any, bar: ProgressBar) -> JobPapers | None:
    """Return all that there is of a job: as kept, where it was final then, else read now and kept."""
    if not isinstance(raw, Mapping) or not is_source_id(raw.get("id")):
        return None
    id = raw["id"]
    place = f"jobs/{id}.json"
    kept = None
    with contextlib.suppress(NotFoundError, DamagedError):
        kept = await asyncio.to_thread(folder.read, place, JobPapers)
    if kept and kept.job == raw and raw.get("status") in FINAL and not kept.problems:
        bar.advance()
        return kept.model_copy(update={"scope": source.scope.name})
    events, checkpoints = await asyncio.gather(
        _all(source, f"events of {id}", source.pages(f"fine_tuning/jobs/{id}/events", _A_PAGE)),
        _all(source, f"checkpoints of {id}", source.pages(f"fine_tuning/jobs/{id}/checkpoints", _A_PAGE)),
    )
    papers = JobPapers(
        scope=source.scope.name,
        job=raw,
        events=_longer(events, kept.events if kept else ()),
        checkpoints=_longer(checkpoints, kept.checkpoints if kept else ()),
        problems=tuple(listed.problem for listed in (events, checkpoints) if listed.problem),
    )
    try:
        await asyncio.to_thread(folder.write, place, papers)
    except PydanticSerializationError:
        papers = papers.with_(problems=(*papers.problems, f"{id} is nested too deeply to be kept"))
    bar.advance()
    return papers


def _longer(listed: _Listed, kept: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return what was read, or what is kept where that is more and not all could be read."""
    return kept if listed.problem and len(kept) > len(listed.items) else tuple(listed.items)


async def _unlisted(
    source: Source, jobs: Iterable[SourceJob], listed: set[str], problems: list[str]
) -> list[SourceFile]:
    """Return the files that jobs name and the listing does not, those that are gone among them."""
    named: dict[str, str] = {}
    for job in jobs:
        for id in filter(None, (job.training_file, job.validation_file)):
            named.setdefault(id, "fine-tune")
        for id in job.result_files:
            named.setdefault(id, "fine-tune-results")

    async def find(id: str, purpose: str) -> SourceFile | None:
        try:
            return file_of(await source.get(f"files/{id}"), source.scope.name)
        except NotFoundError:
            return SourceFile(
                id=id, scope=source.scope.name, filename="", purpose=purpose, bytes=0, state="gone"
            )
        except TuneryError as error:
            problems.append(f"scope {source.scope.name}: file {id} unread: {one_line(error.message, 200)}")
            return None

    found = await asyncio.gather(*(find(id, purpose) for id, purpose in named.items() if id not in listed))
    return [file for file in found if file]


def _models(
    accounts: Sequence[_Account], jobs: Iterable[SourceJob], known: Iterable[SourceModel]
) -> tuple[SourceModel, ...]:
    """Return the models that jobs made, that a scope lists or listed once; checkpoints of jobs are none."""
    made = {job.fine_tuned_model: job for job in jobs if job.fine_tuned_model}
    before = {model.id: model for model in known}
    points = {point.name for job in jobs for point in job.checkpoints} - set(made)
    listed = [id for account in accounts for id in account.models if is_fine_tuned(id) and id not in points]
    return tuple(
        _model(id, accounts, made.get(id), before.get(id)) for id in dict.fromkeys([*made, *listed, *before])
    )


def _model(
    id: str, accounts: Sequence[_Account], job: SourceJob | None, before: SourceModel | None
) -> SourceModel:
    where = next((account for account in accounts if id in account.models), None)
    scope = where.scope.name if where else job.scope if job else before.scope if before else ""
    account = where or next((each for each in accounts if each.scope.name == scope), None)
    base = base_of(job.base) if job else base_of(id)
    raw = account.models.get(id, {}) if account else {}
    day = end_of(raw) or (end_of(account.models.get(base, {})) if account else None)
    host = urlsplit(account.scope.base_url).hostname if account else None
    read = account is not None and "models" not in account.unread
    return SourceModel(
        id=id,
        scope=scope,
        base=base,
        job_id=job.id if job else None,
        created_at=moment_of(raw.get("created")) or (job.finished_at if job else None),
        answers=True if where else False if read else None,
        shutdown=(Shutdown(on=day, source="api") if day else None)
        or (before.shutdown if before and before.shutdown and not before.shutdown.is_reported else None)
        or (reported_end(base, host or "") if account else before and before.shutdown),
    )


def _merged(read: Iterable[T], known: Iterable[T]) -> tuple[T, ...]:
    """Return each once: as the first scope that lists it has it, else as it was known."""
    by_id: dict[str, T] = {}
    for item in (*read, *known):
        by_id.setdefault(item.id, item)
    return tuple(by_id.values())


def _files(accounts: Sequence[_Account], known: Sequence[SourceFile]) -> tuple[SourceFile, ...]:
    """Return files as listed, with what is known of their bytes here; what was listed once may be gone."""
    read = _merged((file for account in accounts for file in account.files), ())
    complete = {account.scope.name for account in accounts if "files" not in account.unread}
    listed, before = {file.id for file in read}, {file.id: file for file in known}
    found = []
    for file in _merged(read, known):
        old = before.get(file.id)
        if old is not None and old.state == "fetched":
            # Its name and size are from when the source still had it.
            last = old if file.state == "gone" else file
            found.append(last.with_(state="fetched", sha256=old.sha256, path=old.path))
        elif file.id not in listed and file.scope in complete:
            found.append(file.with_(state="gone"))
        else:
            found.append(old.with_(state="gone") if old and file.state == "gone" else file)
    return tuple(found)
