"""Artifacts in a bucket or on another shared store: uploaded whole, found by their manifest, fetched to open.

``URL/kind/id/UPLOAD/…`` holds an artifact's files, ``URL/kind/id/manifest.json`` says which upload is the
artifact and what its files' checksums are. The manifest is written last and removed first, so an artifact is
there or it is not, whoever is killed. Two machines that make one artifact at once upload into folders of
their own; the manifest that comes first stays.
"""

from __future__ import annotations

import hashlib
import json
import logging
import posixpath
import secrets
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from tunery.core.errors import ConfigError, DamagedError, ResourceError
from tunery.store.urls import is_url, open_filesystem, redacted_url
from tunery.store.whole_folder import (
    MANIFEST,
    MEND,
    Manifest,
    doom,
    is_complete,
    read_manifest,
    write_whole_folder,
)

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

log = logging.getLogger(__name__)
T = TypeVar("T")

_PAUSES_S = (0.2, 1.0, 3.0)
"""Waits before a call that failed is made again [s]."""
_KNOWN_S = 30.0
"""How long an artifact that was found is taken to be there without looking again [s]."""
_UPLOAD = "upload"
"""Key in a remote manifest: the folder beside it that holds the files."""
_CHUNK_BYTES = 8 << 20
_WRITTEN_AT = ("LastModified", "last_modified", "updated", "mtime", "created")
"""What stores call the time at which a file was written."""
_FOLDERS = frozenset({"file", "local", "sftp", "ssh", "smb", "hdfs"})
"""Schemes of stores in which a file needs a folder."""
STRAY_AGE_S = 24 * 3600.0
"""Age from which an upload without a manifest is taken for that of a killed process [s]."""


class Stray(NamedTuple):
    """An upload that never became an artifact."""

    url: str
    bytes: int


class RemoteArtifacts:
    """The artifacts under a URL; safe to use from many threads.

    Args:
        url: Such as ``s3://bucket/prefix``; credentials are found as the store's own tools find them.

    Raises:
        ConfigError: It is no URL, holds a password, or its package is missing.
    """

    def __init__(self, url: str) -> None:
        if not is_url(url):
            raise ConfigError(
                f"{url!r:.80} is no URL of a store",
                hint="TUNERY_ARTIFACTS=s3://bucket/prefix, or leave it out",
            )
        self.url = redacted_url(url).rstrip("/")
        self._opened = open_filesystem(url)
        self._known: dict[tuple[str, str], tuple[float, Manifest, str]] = {}

    @property
    def _files(self) -> AbstractFileSystem:
        return self._opened[0]

    @cached_property
    def _root(self) -> str:
        return self._opened[1].rstrip("/")

    def manifest(self, kind: str, id: str, *, look_again: bool = False) -> Manifest | None:
        """Return what an artifact says of itself; None where there is none.

        Args:
            kind: Of artifact.
            id: Of it.
            look_again: Whether what was found within the last half minute is not enough.

        Raises:
            DamagedError: The manifest is not one.
            ResourceError: The store is away.
        """
        found = self._found(kind, id, look_again=look_again)
        return found[0] if found else None

    def ids(self, kind: str) -> list[str]:
        """Return the ids of the artifacts of a kind, sorted.

        Raises:
            ResourceError: The store is away.
        """

        def listed() -> list[str]:
            self._files.invalidate_cache()
            return [str(path) for path in self._files.glob(f"{self._root}/{kind}/*/{MANIFEST}")]

        return sorted(posixpath.basename(posixpath.dirname(path)) for path in self._call(listed, missing=[]))

    def put(self, kind: str, folder: Path, manifest: Manifest, may_write: Callable[[], None]) -> None:
        """Upload a finished folder; where there is a whole artifact of its id already, that one stays.

        Args:
            kind: Of artifact.
            folder: As :func:`tunery.store.whole_folder.write_whole_folder` made it.
            manifest: Its own.
            may_write: Asked before the manifest is written; raises where the caller may write no more.

        Raises:
            ResourceError: The store is away or full.
        """
        id = folder.name
        before, damaged = None, False
        try:
            before = self._found(kind, id, look_again=True)
        except DamagedError:
            damaged = True
        if before and not self.damage(kind, id):
            return
        upload = secrets.token_hex(8)
        for name in manifest.checksums:
            self._put_file(folder / name, f"{self._root}/{kind}/{id}/{upload}/{name}")
        may_write()
        said = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        content = json.dumps({**said, _UPLOAD: upload}, indent=1).encode()
        self._put_manifest(
            f"{self._root}/{kind}/{id}/{MANIFEST}", content, replaces=damaged or before is not None
        )
        if before is not None:
            self._remove(f"{self._root}/{kind}/{id}/{before[1]}")
        self._known.pop((kind, id), None)

    def fetch(self, kind: str, id: str, final: Path) -> bool:
        """Bring an artifact to ``final``, compared with its checksums on the way.

        A complete one with the same manifest is left as it is; anything else is replaced.

        Returns:
            Whether there is such an artifact.

        Raises:
            DamagedError: A file is missing or not what it was; names each.
            OSError: ``final`` cannot be written.
            ResourceError: The store is away.
        """
        found = self._found(kind, id)
        if found is None:
            return False
        manifest, upload = found
        if is_complete(final) and _says_the_same(final, manifest):
            return True
        if final.exists():
            doom(final)
        with write_whole_folder(final, kind, manifest.about) as partial:
            problems = [
                problem
                for name, sha256 in manifest.checksums.items()
                if (problem := self._get_file(kind, id, upload, name, sha256, partial / name))
            ]
            if problems:
                raise DamagedError(
                    f"{self.url}/{kind}/{id} is not what it was: {'; '.join(problems)}", hint=MEND
                )
        return True

    def damage(self, kind: str, id: str) -> list[str]:
        """Return what of an artifact is not as it was made, one sentence a file, reading every byte of it.

        Raises:
            ResourceError: The store is away.
        """
        try:
            found = self._found(kind, id, look_again=True)
        except DamagedError:
            return [f"{MANIFEST}: not readable"]
        if found is None:
            return [f"{MANIFEST}: missing"]
        manifest, upload = found
        every = (
            self._get_file(kind, id, upload, n, sha256, None) for n, sha256 in manifest.checksums.items()
        )
        return sorted(problem for problem in every if problem)

    def delete(self, kind: str, id: str) -> None:
        """Remove an artifact, its manifest first; one that is not there is no error.

        Raises:
            ResourceError: The store is away.
        """
        self._known.pop((kind, id), None)
        self._remove(f"{self._root}/{kind}/{id}/{MANIFEST}")
        self._remove(f"{self._root}/{kind}/{id}")

    def strays(self, kind: str, *, remove: bool) -> Iterator[Stray]:
        """Yield uploads of a kind that are a day old and belong to no artifact.

        Args:
            kind: Of artifact.
            remove: Whether they go.

        Raises:
            ResourceError: The store is away.
        """
        uploads: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for path, about in self._details(f"{self._root}/{kind}").items():
            parts = path.removeprefix(f"{self._root}/{kind}/").split("/")
            if len(parts) > 2:
                uploads.setdefault((parts[0], parts[1]), []).append(about)
        for (id, upload), files in sorted(uploads.items()):
            if min(map(_age_s, files)) < STRAY_AGE_S:
                continue
            try:
                found = self._found(kind, id, look_again=True)
            except DamagedError:  # nothing says which upload is the artifact
                continue
            if found is None or found[1] != upload:
                if remove:
                    self._remove(f"{self._root}/{kind}/{id}/{upload}")
                yield Stray(f"{self.url}/{kind}/{id}/{upload}", sum(int(f.get("size") or 0) for f in files))

    def mark(self) -> str:
        """Return a token that the store keeps and that is its own, made the first time.

        Raises:
            ResourceError: The store is away or may not be written.
        """
        path = f"{self._root}/home-id"
        found = self._call(lambda: self._files.cat_file(path), missing=None)
        if found is None:
            self._put_manifest(path, f"{secrets.token_hex(16)}\n".encode(), replaces=False)
            found = self._call(lambda: self._files.cat_file(path), missing=b"")
        return bytes(found).decode("ascii", "replace").strip()

    def _found(self, kind: str, id: str, *, look_again: bool = False) -> tuple[Manifest, str] | None:
        """Return an artifact's manifest and the name of its upload."""
        known = self._known.get((kind, id))
        if known and not look_again and time.monotonic() - known[0] < _KNOWN_S:
            return known[1], known[2]
        path = f"{self._root}/{kind}/{id}/{MANIFEST}"
        content = self._call(lambda: self._files.cat_file(path), missing=None)
        if content is None:
            self._known.pop((kind, id), None)
            return None
        try:
            said = json.loads(content)
            manifest, upload = Manifest.of(said), str(said[_UPLOAD])
            if not upload.isalnum() or not all(map(_is_inside, manifest.checksums)):
                raise ValueError(upload)
        except (ValueError, KeyError, TypeError, RecursionError):
            raise DamagedError(f"{self.url}/{kind}/{id}/{MANIFEST} is damaged", hint=MEND) from None
        self._known[kind, id] = (time.monotonic(), manifest, upload)
        return manifest, upload

    def _get_file(
        self, kind: str, id: str, upload: str, name: str, sha256: str, to: Path | None
    ) -> str | None:
        """Read a file, into ``to`` where there is one; return what is wrong with it."""
        path = f"{self._root}/{kind}/{id}/{upload}/{name}"

        def read() -> str:
            digest = hashlib.sha256()
            if to is not None:
                to.parent.mkdir(parents=True, exist_ok=True)
            with self._files.open(path, "rb", cache_type="none") as stream:
                target = to.open("wb") if to is not None else None
                try:
                    while chunk := stream.read(_CHUNK_BYTES):
                        digest.update(chunk)
                        if target is not None:
                            target.write(chunk)
                finally:
                    if target is not None:
                        target.close()
            return digest.hexdigest()

        found = self._call(read, missing=None)
        if found is None:
            return f"{name}: missing"
        return None if found == sha256 else f"{name}: checksum differs from the manifest's"

    def _put_file(self, source: Path, path: str) -> None:
        self._make_folder(path)
        self._call(lambda: self._files.put_file(str(source), path))

    def _make_folder(self, path: str) -> None:
        """Make the folder that a file lies in, where the store has folders; in a bucket none is made."""
        protocol = self._files.protocol
        if _FOLDERS & {protocol, *(() if isinstance(protocol, str) else protocol)}:
            self._call(lambda: self._files.makedirs(posixpath.dirname(path), exist_ok=True))

    def _put_manifest(self, path: str, content: bytes, *, replaces: bool) -> None:
        """Write a small file in one call; without ``replaces`` one that came first stays."""

        def put() -> None:
            try:
                self._files.pipe_file(path, content, mode="overwrite" if replaces else "create")
            except FileExistsError:
                log.info("%s was written by somebody else first", posixpath.basename(path))

        self._make_folder(path)
        self._call(put)

    def _remove(self, path: str) -> None:
        self._call(lambda: self._files.rm(path, recursive=True), missing=None)

    def _details(self, path: str) -> dict[str, Any]:
        def find() -> dict[str, Any]:
            self._files.invalidate_cache()
            return dict(self._files.find(path, detail=True))

        return self._call(find, missing={})

    def _call(self, act: Callable[[], T], *, missing: Any = ...) -> T:
        """Return what a call to the store gives, made again where it failed; ``missing`` for nothing there.

        Raises:
            ResourceError: It failed each time.
        """
        for pause in (*_PAUSES_S, None):
            try:
                return act()
            except FileNotFoundError as error:
                if missing is ...:
                    raise self._away(error) from error
                return missing  # type: ignore[no-any-return]
            except Exception as error:  # each store has errors of its own, and none of them is ours
                if pause is None or isinstance(error, PermissionError):
                    raise self._away(error) from error
                time.sleep(pause)
        raise AssertionError("the last round returned or raised")

    def _away(self, error: Exception) -> ResourceError:
        lines = str(error).splitlines()
        return ResourceError(
            f"{self.url} cannot be used: {type(error).__name__}: {redacted_url(lines[0]) if lines else ''}",
            hint="check TUNERY_ARTIFACTS, the store's credentials, and that it is reachable from here",
        )


def _says_the_same(folder: Path, manifest: Manifest) -> bool:
    """Tell whether a local copy is that of a manifest; its files may be damaged since."""
    try:
        return read_manifest(folder) == manifest
    except DamagedError:
        return False


def _is_inside(name: str) -> bool:
    """Tell whether a file's name stays within its folder."""
    parts = name.split("/")
    return bool(name) and not name.startswith("/") and not {"", ".", ".."} & set(parts) and "\\" not in name


def _age_s(about: dict[str, Any]) -> float:
    """Return how long ago a file was written, 0 where its store does not say [s]."""
    when = next((about[key] for key in _WRITTEN_AT if about.get(key)), None)
    if isinstance(when, datetime):
        when = when.timestamp()
    return time.time() - when if isinstance(when, (int, float)) else 0.0
