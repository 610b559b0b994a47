"""Artifacts: folders that are complete or not there, whose checksums are compared whenever one is opened."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from tunery.core.errors import ConfigError, DamagedError, NotFoundError
from tunery.core.faults import told
from tunery.core.ids import check_id
from tunery.core.progress import Progress
from tunery.store.whole_folder import (
    MANIFEST,
    MEND,
    damage_of,
    doom,
    is_complete,
    read_manifest,
    require_whole,
    write_whole_folder,
)

__all__ = ["MANIFEST", "RECORD", "Artifacts", "Kind"]

Kind: TypeAlias = Literal[
    "datasets", "adapters", "evaluations", "models", "files", "reports", "inspections", "edits", "quality"
]

RECORD = "record.json"
"""An artifact's database record, kept beside it so that a lost row can be written again."""


class Artifacts:
    """The artifacts under one root, as ``root/kind/id/``.

    Args:
        root: Root folder of the workspace.
        may_write: Asked before an artifact gets its name; raises where the caller may write no more.
    """

    def __init__(self, root: Path, *, may_write: Callable[[], None] = lambda: None) -> None:
        self._root = root
        self._may_write = may_write

    @contextmanager
    def create(self, kind: Kind, id: str, about: Mapping[str, Any]) -> Iterator[Path]:
        """Yield an empty folder that becomes the artifact when the block ends, and goes when it raises.

        Where two make the same artifact at once, the first one's is kept: an id says what is in it. One that
        is damaged is replaced.

        ``about`` is what the manifest says of it besides the files; it is read at the end of the block.

        Raises:
            ConfigError: The id could be a path, or what was written is no plain file.
            ResourceError: The disk is full or the folder cannot be written.
        """
        final = self._folder(kind, id)
        with told(final), write_whole_folder(final, kind, about, may_write=self._may_write) as partial:
            yield partial

    def has(self, kind: Kind, id: str) -> bool:
        """Say whether an artifact was finished; its files may be damaged since.

        Raises:
            ConfigError: The id could be a path.
        """
        return is_complete(self._folder(kind, id))

    def find(self, kind: Kind, id: str) -> Path | None:
        """Return an artifact's folder, None where it is not there or not complete.

        Raises:
            ConfigError: The id could be a path.
            DamagedError: Its files are not what they were; names each.
        """
        folder = self._folder(kind, id)
        if not is_complete(folder):
            return None
        with told(folder):
            require_whole(folder)
        return folder

    def whole(self, kind: Kind, id: str, progress: Progress) -> Path | None:
        """Return an artifact's folder, None where it must be made, because it is missing or damaged.

        Args:
            progress: Told of the damage; whoever makes the artifact again replaces the damaged one.

        Raises:
            ConfigError: The id could be a path.
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
        """
        folder = self.folder(kind, id)
        with told(folder):
            require_whole(folder)
        return folder

    def folder(self, kind: Kind, id: str) -> Path:
        """Return an artifact's folder as :meth:`path` does, without a look at its files.

        For whoever opens them much later and compares then.

        Raises:
            NotFoundError: There is none; names the nearest.
            ConfigError: The id could be a path.
        """
        folder = self._folder(kind, id)
        if not is_complete(folder):
            raise NotFoundError.of(f"artifact in {self._root / kind}", id, self.ids(kind), hint=MEND)
        return folder

    def ids(self, kind: Kind) -> list[str]:
        """Return the ids of the complete artifacts of a kind, sorted."""
        folder = self._root / _known(kind)
        if not folder.is_dir():
            return []
        return sorted(
            child.name for child in folder.iterdir() if "." not in child.name and is_complete(child)
        )

    def about(self, kind: Kind, id: str) -> dict[str, Any]:
        """Return what the manifest says of an artifact.

        Raises:
            NotFoundError: There is none.
            DamagedError: The manifest is damaged.
        """
        return read_manifest(self.folder(kind, id)).about

    def damage(self, kind: Kind, id: str) -> list[str]:
        """Return what of an artifact is not as it was made, one sentence a file; empty where it is whole.

        Raises:
            NotFoundError: There is no such artifact.
        """
        folder = self.folder(kind, id)
        with told(folder):
            return damage_of(folder)

    def delete(self, kind: Kind, id: str) -> None:
        """Remove an artifact, all of it or nothing; one that is not there is no error.

        Raises:
            ConfigError: The id could be a path.
        """
        folder = self._folder(kind, id)
        if folder.exists():
            with told(folder):
                doom(folder)

    def _folder(self, kind: Kind, id: str) -> Path:
        return self._root / _known(kind) / check_id(id, f"{kind} id")


def _known(kind: str) -> str:
    if kind not in get_args(Kind):
        raise ConfigError(f"{kind!r:.40} is no kind of artifact (there is: {', '.join(get_args(Kind))})")
    return kind
