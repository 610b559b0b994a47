"""Artifacts: folders that are complete or not there, whose checksums are compared whenever one is opened."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeAlias, get_args

from tunery.core.errors import ConfigError, DamagedError, NotFoundError, ResourceError
from tunery.core.faults import told
from tunery.core.ids import check_id, is_id
from tunery.core.progress import Progress
from tunery.store.remote import RemoteArtifacts, Stray
from tunery.store.whole_file import write_whole
from tunery.store.whole_folder import (
    MANIFEST,
    MEND,
    Manifest,
    damage_of,
    doom,
    is_complete,
    read_manifest,
    require_whole,
    write_whole_folder,
)

__all__ = ["MANIFEST", "RECORD", "Artifacts", "Kind"]

Kind: TypeAlias = Literal[
    "datasets",
    "adapters",
    "evaluations",
    "models",
    "files",
    "reports",
    "inspections",
    "edits",
    "quality",
    "reviews",
]

log = logging.getLogger(__name__)

RECORD = "record.json"
"""An artifact's database record, kept beside it so that a lost row can be written again."""


class Artifacts:
    """The artifacts under one root, as ``root/kind/id/``, and under a URL where machines share them.

    With a URL the root holds copies: what is made is uploaded before its maker goes on, what is opened is
    fetched first. While the store is away, copies that are here can be opened.

    Args:
        root: Root folder of the workspace.
        may_write: Asked before an artifact gets its name; raises where the caller may write no more.
        remote: The artifacts under a URL; None where the root is all there is.
    """

    def __init__(
        self,
        root: Path,
        *,
        may_write: Callable[[], None] = lambda: None,
        remote: RemoteArtifacts | None = None,
    ) -> None:
        self._root = root
        self._may_write = may_write
        self._remote = remote

    @contextmanager
    def create(self, kind: Kind, id: str, about: Mapping[str, Any]) -> Iterator[Path]:
        """Yield an empty folder that becomes the artifact when the block ends, and goes when it raises.

        Where two make the same artifact at once, the first one's is kept: an id says what is in it. One that
        is damaged is replaced.

        ``about`` is what the manifest says of it besides the files; it is read at the end of the block.

        Raises:
            ConfigError: The id could be a path, or what was written is no plain file.
            ResourceError: The disk is full, or the folder or the shared store cannot be written; what was
                made is kept here then, and is uploaded by whoever opens it next.
        """
        final = self._folder(kind, id)
        with told(final), write_whole_folder(final, kind, about, may_write=self._may_write) as partial:
            yield partial
        if self._remote is not None:
            self._upload(kind, final, self._remote)

    def has(self, kind: Kind, id: str) -> bool:
        """Say whether an artifact was finished; its files may be damaged since.

        Raises:
            ConfigError: The id could be a path.
            ResourceError: The shared store is away, and there is no copy here.
        """
        return self._is_there(kind, self._folder(kind, id))

    def find(self, kind: Kind, id: str) -> Path | None:
        """Return an artifact's folder, None where it is not there or not complete.

        Raises:
            ConfigError: The id could be a path.
            DamagedError: Its files are not what they were; names each.
            ResourceError: The shared store is away, and there is no copy here.
        """
        folder = self._folder(kind, id)
        if not self._fetch(kind, folder):
            return None
        with told(folder):
            if self._remote is not None and damage_of(folder):  # a copy, which can be fetched again
                doom(folder)
                self._fetch(kind, folder)
            require_whole(folder)
        return folder

    def whole(self, kind: Kind, id: str, progress: Progress) -> Path | None:
        """Return an artifact's folder, None where it must be made, because it is missing or damaged.

        Args:
            progress: Told of the damage; whoever makes the artifact again replaces the damaged one.

        Raises:
            ConfigError: The id could be a path.
            ResourceError: The shared store is away, and there is no copy here.
        """
        try:
            return self.find(kind, id)
        except DamagedError as error:
            progress.event(f"{error.message}; it is made again", level="warn")
            return None

    def path(self, kind: Kind, id: str) -> Path:
        """Return an artifact's folder.

        Raises:
            NotFoundError: There is none; names the nearest.
            ConfigError: The id could be a path.
            DamagedError: Its files are not what they were; names each.
            ResourceError: The shared store is away, and there is no copy here.
        """
        return self.find(kind, id) or self._missing(kind, id)

    def folder(self, kind: Kind, id: str) -> Path:
        """Return an artifact's folder as :meth:`path` does, without a look at its files.

        For whoever opens them much later and compares then.

        Raises:
            NotFoundError: There is none; names the nearest.
            ConfigError: The id could be a path.
            ResourceError: The shared store is away, and there is no copy here.
        """
        folder = self._folder(kind, id)
        return folder if self._fetch(kind, folder) else self._missing(kind, id)

    def ids(self, kind: Kind) -> list[str]:
        """Return the ids of the complete artifacts of a kind, sorted.

        Raises:
            ResourceError: The shared store is away.
        """
        folder = self._root / _known(kind)
        names = [p.name for p in folder.iterdir() if "." not in p.name] if folder.is_dir() else []
        here = {name for name in names if is_complete(folder / name)}
        if self._remote is None:
            return sorted(here)
        there = filter(is_id, self._remote.ids(kind))  # what else lies there is none of ours
        return sorted({*there, *(name for name in here if self._is_own(folder / name))})

    def about(self, kind: Kind, id: str) -> dict[str, Any]:
        """Return what the manifest says of an artifact.

        Raises:
            NotFoundError: There is none.
            DamagedError: The manifest is damaged.
        """
        return self.manifest(kind, id).about

    def manifest(self, kind: Kind, id: str) -> Manifest:
        """Return an artifact's manifest; no other file is opened or fetched for it.

        Raises:
            NotFoundError: There is none.
            DamagedError: It is damaged.
        """
        folder = self._folder(kind, id)
        if not self._is_there(kind, folder):
            self._missing(kind, id)
        if is_complete(folder):
            return read_manifest(folder)
        found = self._remote.manifest(kind, id) if self._remote else None
        return found or read_manifest(self.folder(kind, id))

    def damage(self, kind: Kind, id: str) -> list[str]:
        """Return what of an artifact is not as it was made, one sentence a file; empty where it is whole.

        Of one that is shared every byte is read from the store.

        Raises:
            NotFoundError: There is no such artifact.
            ResourceError: The shared store is away.
        """
        folder = self._folder(kind, id)
        if not self._is_there(kind, folder):
            self._missing(kind, id)
        shared = self._remote is not None and not self._is_own(folder)
        there = self._remote.damage(kind, id) if self._remote and shared else []
        with told(folder):
            here = damage_of(folder) if is_complete(folder) else []
        return [*there, *(f"{problem}, in the copy here" if shared else problem for problem in here)]

    def delete(self, kind: Kind, id: str) -> None:
        """Remove an artifact, all of it or nothing; one that is not there is no error.

        Raises:
            ConfigError: The id could be a path.
            ResourceError: The shared store is away.
        """
        folder = self._folder(kind, id)
        if self._remote is not None:
            self._remote.delete(kind, id)
        with told(folder):
            if folder.exists():
                doom(folder)
            _shared(folder).unlink(missing_ok=True)

    @property
    def shared(self) -> bool:
        """Whether other machines may use the same artifacts."""
        return self._remote is not None

    def place(self, kind: Kind, id: str) -> Path | str:
        """Return where an artifact is kept: its folder, or its URL where machines share it.

        Raises:
            ConfigError: The id could be a path.
        """
        folder = self._folder(kind, id)
        return f"{self._remote.url}/{kind}/{id}" if self._remote else folder

    def strays(self, *, remove: bool) -> list[Stray]:
        """Return what killed uploads left in the shared store a day ago or earlier.

        Raises:
            ResourceError: The shared store is away.
        """
        kinds = get_args(Kind) if self._remote is not None else ()
        return [s for kind in kinds if self._remote for s in self._remote.strays(kind, remove=remove)]

    def _is_there(self, kind: Kind, folder: Path) -> bool:
        if self._remote is None or self._is_own(folder):
            return is_complete(folder)
        try:
            return self._remote.manifest(kind, folder.name) is not None
        except DamagedError:
            return True  # finished once, as a damaged one here is
        except ResourceError as error:
            return self._with_what_is_here(folder, error)

    def _fetch(self, kind: Kind, folder: Path) -> bool:
        """Bring an artifact here, or upload one whose upload failed; return whether there is one."""
        if self._remote is None:
            return is_complete(folder)
        if self._is_own(folder):
            self._upload(kind, folder, self._remote)
            return True
        try:
            with told(folder):
                found = self._remote.fetch(kind, folder.name, folder)
                if found:
                    self._note_shared(folder, self._remote)
                return found
        except ResourceError as error:
            return self._with_what_is_here(folder, error)

    def _is_own(self, folder: Path) -> bool:
        """Tell whether an artifact is here and was never in the shared store: its upload has not ended, or it
        is of before artifacts were shared, or were shared there."""
        return is_complete(folder) and not (self._remote and _stores(folder) == self._remote.url)

    def _note_shared(self, folder: Path, remote: RemoteArtifacts) -> None:
        if _stores(folder) != remote.url:
            with write_whole(_shared(folder)) as stream:
                stream.write(remote.url)

    def _with_what_is_here(self, folder: Path, error: ResourceError) -> bool:
        """Go on with a copy while the shared store is away, and raise where there is none."""
        if not is_complete(folder):
            raise error
        log.warning("%s; the copy in %s is used", error.message, folder)
        return True

    def _upload(self, kind: Kind, folder: Path, remote: RemoteArtifacts) -> None:
        with told(folder):
            require_whole(folder)  # damage is not for sharing
        remote.put(kind, folder, read_manifest(folder), self._may_write)
        with told(folder):
            self._note_shared(folder, remote)

    def _missing(self, kind: Kind, id: str) -> NoReturn:
        place = self._root / kind if self._remote is None else f"{self._remote.url}/{kind}"
        raise NotFoundError.of(f"artifact in {place}", id, self.ids(kind), hint=MEND)

    def _folder(self, kind: Kind, id: str) -> Path:
        return self._root / _known(kind) / check_id(id, f"{kind} id")


def _shared(folder: Path) -> Path:
    """Return the file beside a copy that says which shared store had it, so that it goes where it went."""
    return folder.with_name(f".{folder.name}.shared")


def _stores(folder: Path) -> str | None:
    """Return the URL of the shared store that had a copy; None where none had it."""
    try:
        return _shared(folder).read_text(encoding="utf-8")
    except (FileNotFoundError, UnicodeDecodeError):
        return None


def _known(kind: str) -> str:
    if kind not in get_args(Kind):
        raise ConfigError(f"{kind!r:.40} is no kind of artifact (there is: {', '.join(get_args(Kind))})")
    return kind
