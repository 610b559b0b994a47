"""Files and job records of a source, brought here whole, with their checksums."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO

from tunery.core.config import Record
from tunery.core.errors import ConfigError, DamagedError, NotFoundError, ResourceError, TuneryError
from tunery.core.faults import told
from tunery.core.figures import counted, one_line, size
from tunery.core.ids import sha256_file
from tunery.core.progress import Progress, ProgressBar
from tunery.endpoint.connection import Transient
from tunery.rescue.commands import command
from tunery.rescue.folder import RescueFolder
from tunery.rescue.inventory import read_papers
from tunery.rescue.records import Inventory, JobPapers, SourceFile, SourceJob
from tunery.rescue.results import read_results
from tunery.rescue.source import Source
from tunery.store.whole_folder import sync

_TUNING = frozenset({"fine-tune", "fine-tune-results"})
_CHUNK = 64 * 1024
_MOST = 1024**3
"""Bytes of a file whose size the source does not say; else twice that size [bytes]."""


class Fetched(Record):
    """What a call brought, and what it could not."""

    files: tuple[SourceFile, ...]
    """Those that were wanted, as they stand now."""
    downloaded: int = 0
    """By this call [bytes]."""
    jobs: int = 0
    """Job records that are here [count]."""
    gone: tuple[str, ...] = ()
    """A sentence for each file that the source has no more, with what can take its place."""
    problems: tuple[str, ...] = ()
    """What is still to be fetched and why it is not here, a sentence each."""


async def fetch(folder: RescueFolder, progress: Progress, *, only: Collection[str] = ()) -> Fetched:
    """Bring training, validation and result files and job records here; whole ones are not brought again.

    Args:
        folder: Of the rescue, with an inventory.
        progress: Shows how far it is.
        only: Models whose jobs' files alone are wanted; none for all.

    Raises:
        NotFoundError: There is no inventory, or no such model in it.
        ConfigError: A key is missing or is refused.
        ResourceError: The disk is full.
    """
    inventory = folder.inventory()
    jobs, files = _wanted(inventory, only)
    work = _Work(folder, inventory)
    async with contextlib.AsyncExitStack() as stack:
        needed = {job.scope for job in jobs} | {file.scope for file in files}
        for scope in inventory.scopes:
            if scope.name in needed:
                work.sources[scope.name] = await stack.enter_async_context(Source(scope, tell=progress.event))
        with progress.task("files of the source", sum(file.bytes for file in files)) as bar:
            try:
                await asyncio.gather(*(work.bring(file, bar) for file in files))
            finally:
                work.write_down()
        with progress.task("job records", len(jobs)) as bar:
            await asyncio.gather(*(work.bring_papers(job, bar) for job in jobs))
    now = {file.id: file for file in folder.inventory().files}
    found = tuple(now[file.id] for file in files)
    return Fetched(
        files=found,
        downloaded=work.downloaded,
        jobs=sum(folder.job(job.id).is_file() for job in jobs),
        gone=tuple(_replacement(folder, file, inventory) for file in found if file.state == "gone"),
        problems=tuple(work.problems),
    )


def _wanted(inventory: Inventory, only: Collection[str]) -> tuple[list[SourceJob], list[SourceFile]]:
    known = {model.id for model in inventory.models}
    for model in only:
        if model not in known:
            raise NotFoundError.of("fine-tuned model", model, known)
    jobs = [job for job in inventory.jobs if not only or job.fine_tuned_model in only]
    named = {id for job in jobs for id in (job.training_file, job.validation_file, *job.result_files)}
    files = [file for file in inventory.files if file.id in named or (not only and file.purpose in _TUNING)]
    return jobs, files


class _Work:
    """One call's downloads."""

    def __init__(self, folder: RescueFolder, inventory: Inventory) -> None:
        self.folder = folder
        self.inventory = inventory
        self.sources: dict[str, Source] = {}
        self.changed: dict[str, SourceFile] = {}
        self.problems: list[str] = []
        self.downloaded = 0

    async def bring(self, file: SourceFile, bar: ProgressBar) -> None:
        """Bring one file, unless it is here; what is here is what was fetched, by its checksum."""
        place = self.folder.file(file.id)
        here = await asyncio.to_thread(sha256_file, place) if place.is_file() else None
        if here is not None and file.sha256 in (here, None):
            # Its name is given to whole files alone, so one that is not written down yet is whole, too.
            self._keep(file, here)
            bar.advance(file.bytes)
        elif file.state == "gone":
            return
        elif file.scope not in self.sources:
            self.problems.append(f"{file.id}: there is no scope {file.scope} any more")
        else:
            if here is not None:
                place.replace(aside := place.with_name(f".{place.name}.damaged"))
                self.problems.append(f"{file.id} was not as it had been fetched; it lies in {aside} now")
            try:
                await self._download(self.sources[file.scope], file, place, bar)
            except NotFoundError:
                self.changed[file.id] = file.with_(state="gone", sha256=None, path=None)
            except TuneryError as error:
                if isinstance(error, ConfigError) and error.param == "api_key":
                    raise  # no other file will fare better
                self.problems.append(f"{file.id}: {one_line(error.message, 300)}")

    async def _download(self, source: Source, file: SourceFile, place: Path, bar: ProgressBar) -> None:
        partial = place.with_name(f".{place.name}.partial")
        self.folder.make(place.parent)
        most = max(_MOST, 2 * file.bytes)

        async def once() -> None:
            """Go on from what an earlier try, or call, has left; the source's files never change."""
            left = partial.stat().st_size if partial.is_file() else 0
            headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={left}-"} if left else {})
            try:
                async with source.sent(f"files/{file.id}/content", {}, headers) as response:
                    span = response.headers.get("content-range", "")
                    if response.status_code == 206 and not (left and span.startswith(f"bytes {left}-")):
                        raise ConfigError(
                            f"another part than bytes {left}- of {file.id} came", param="request"
                        )
                    with told(partial), _opened(partial, whole=response.status_code == 200) as stream:
                        async for part in response.aiter_bytes(_CHUNK):
                            stream.write(part)
                            self.downloaded += len(part)
                            bar.advance(len(part))
                            if stream.tell() > most:
                                raise ResourceError(f"{file.id} is over {size(most)}; it is left alone")
            except ConfigError as error:
                if left and error.param == "request":  # 416: what is left is of no use
                    partial.unlink()
                    raise Transient(error.message, maybe_billed=False) from None
                raise

        await source.tried(once)
        sha256 = await asyncio.to_thread(sha256_file, partial)
        with told(place):
            partial.replace(place)
            sync(place.parent)
        self._keep(file, sha256)

    def _keep(self, file: SourceFile, sha256: str) -> None:
        place = self.folder.file(file.id)
        results = read_results(place) if file.purpose == "fine-tune-results" else None
        bytes_here = place.stat().st_size
        if file.bytes and bytes_here != file.bytes and not (results and results.form == "base64"):
            listed = f"{file.bytes:,} in the source's listing"
            self.problems.append(
                f"{file.id} is {counted(bytes_here, 'byte')} as it came, {listed}; it is kept"
            )
        self.changed[file.id] = file.with_(
            state="fetched",
            sha256=sha256,
            path=str(place.relative_to(self.folder.root)),
            form=results.form if results else None,
            metrics=results.last if results else {},
        )

    async def bring_papers(self, job: SourceJob, bar: ProgressBar) -> None:
        """Bring a job's record, events and checkpoints where the inventory could not."""
        with contextlib.suppress(NotFoundError, DamagedError):
            if not self.folder.read(f"jobs/{job.id}.json", JobPapers).problems:
                bar.advance()
                return
        source = self.sources.get(job.scope)
        if source is None:
            return
        try:
            raw = await source.get(f"fine_tuning/jobs/{job.id}")
            papers = await read_papers(source, self.folder, raw, bar)
            self.problems += papers.problems if papers else ()
        except TuneryError as error:
            self.problems.append(f"{job.id}: {one_line(error.message, 300)}")

    def write_down(self) -> None:
        """Write what is known of the files now to the inventory."""
        files = tuple(self.changed.get(file.id, file) for file in self.inventory.files)
        self.folder.write("inventory.json", self.inventory.with_(files=files))


@contextlib.contextmanager
def _opened(path: Path, *, whole: bool) -> Iterator[BinaryIO]:
    """Open a file of this user alone; what was written is on the disk when it closes."""
    opened = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b")
    with opened as stream:
        stream.truncate() if whole else stream.seek(0, os.SEEK_END)
        yield stream
        stream.flush()
        os.fsync(stream.fileno())


def _replacement(folder: RescueFolder, file: SourceFile, inventory: Inventory) -> str:
    """Return what can take the place of a file that the source has no more."""
    what = f"{file.id} {file.filename}".rstrip()
    jobs = [job for job in inventory.jobs if file.id in (job.training_file, job.validation_file)]
    models = [job.fine_tuned_model for job in jobs if job.fine_tuned_model]
    if not models:
        return f"{what} is gone; no model here was trained or validated on it"
    recorded = sum(1 for model in models for _ in folder.answers(model))
    record = command(folder.name, "record", models[0])
    instead = (
        f"{counted(recorded, 'recorded answer')} can take its place"
        if recorded
        else f"nothing is recorded yet to take its place: {record} --prompts FILE"
    )
    return f"{what} of {', '.join(models)} is gone; {instead}"
