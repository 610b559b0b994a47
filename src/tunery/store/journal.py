"""A journal: records that are on this machine's disk until the database has them.

Each writer has a folder of its own under the journals' root and holds a lock on it while it lives; the folder
of a dead one is adopted by the next that looks. Lines go to a segment whose room was taken from the disk
before, so that a disk that fills up meanwhile takes nothing from those who are at work; the room behind it is
taken early, and while it cannot be had, :attr:`Journal.problem` says so.

A line is its checksum, a kind, an id and one JSON value; NUL bytes follow the last. A line that a dying
writer began ends at them and is left out with a count. A line of blanks was erased in place.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tunery.core.ids import check_id
from tunery.store.whole_folder import sync as sync_to_disk

SEGMENT_BYTES = 4 * 2**20
"""Room of one segment [bytes]."""
_OWNER, _MOVING, _REACHED = "owner", "moving", "reached"
_ASIDE = "set-aside.log"
"""Entries that the database does not take, beside the journals."""
_CHUNK = 2**18
"""Bytes read at once, and of entries handed on at once."""


class Entry(NamedTuple):
    """One record."""

    kind: str
    """One word, such as ``request``."""
    id: str
    text: str
    """One JSON value without a line break."""


class Place(NamedTuple):
    """Where a reader stands."""

    segment: int
    offset: int
    """In the segment [bytes]."""


class Batch(NamedTuple):
    """Entries in the order they were written."""

    entries: list[Entry]
    end: Place
    """Behind the last of them."""
    damaged: int
    """Lines among them that cannot be read, cut ones included [count]."""


class Journal:
    """One writer's journal: one thread appends, one moves entries on, others may look and erase.

    Args:
        folder: Its folder.
        held: Descriptor that holds the lock on it.
        max_bytes: Room it may take [bytes].
        segment_bytes: Room taken at once [bytes].
    """

    def __init__(
        self, folder: Path, held: int, *, max_bytes: int = 2**30, segment_bytes: int = SEGMENT_BYTES
    ) -> None:
        self.folder = folder
        self.problem: str | None = None
        """Why there is no room behind the segment that is being written; None while there is."""
        self._held = held
        self._max_bytes = max_bytes
        self._segment_bytes = segment_bytes
        self._guard = threading.Lock()
        self._current: int | None = None
        self._number = max((_number(path) for path in _segments(folder)), default=0)
        self._end = self._room = 0
        self._spare: int | None = None
        self._waiting: dict[str, Place] = {}
        self.reached = _reached(folder)
        """Up to where the database has it."""
        self._reached = os.open(folder / _REACHED, os.O_CREAT | os.O_RDWR, 0o600)

    @classmethod
    def create(
        cls, root: Path, name: str, *, about: str, max_bytes: int = 2**30, segment_bytes: int = SEGMENT_BYTES
    ) -> Journal:
        """Make a journal under ``root`` and take room for its first entries.

        Args:
            name: Its folder, unique for ever.
            about: Which database the entries are for; only who says the same adopts them.

        Raises:
            OSError: The folder cannot be made or written.
        """
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _guarded(root):
            folder = root / check_id(name, "journal")
            folder.mkdir(mode=0o700)
            held = os.open(folder / _OWNER, os.O_CREAT | os.O_RDWR, 0o600)
            fcntl.flock(held, fcntl.LOCK_EX)
            os.write(held, json.dumps({"pid": os.getpid(), "database": about}).encode())
        journal = cls(folder, held, max_bytes=max_bytes, segment_bytes=segment_bytes)
        journal.make_room()
        return journal

    @property
    def end(self) -> Place:
        """Where the last entry that was appended ends."""
        with self._guard:
            return Place(self._number, self._end)

    @property
    def waiting(self) -> int:
        """Entries appended here and not moved on yet [count]."""
        return len(self._waiting)

    def append(self, entries: Sequence[Entry], *, sync: bool) -> None:
        """Write entries; once this returns, the end of this process takes none of them away.

        Args:
            sync: Wait for the disk itself, so that a power cut takes none either.

        Raises:
            OSError: They cannot be written, or the journal may take no more room. Some may be there all the
                same: whoever tries again writes them twice, and their ids tell.
        """
        lines = [_line(entry) for entry in entries]
        data = b"".join(lines)
        current = self._current
        if current is None or self._end + len(data) > self._room:
            current = self._next_segment(len(data))
        start = self._end
        try:
            _write_at(current, data, start)
            if sync:
                os.fdatasync(current)
        except OSError:
            # What is there of them ends this segment: a reader stops at the NUL behind it.
            self._current = None
            os.close(current)
            raise
        with self._guard:
            for entry, line in zip(entries, lines, strict=True):
                self._waiting[entry.id] = Place(self._number, start)
                start += len(line)
            self._end = start
        self.make_room()

    def sync(self) -> None:
        """Wait until all that was appended is on the disk."""
        if self._current is not None:
            os.fdatasync(self._current)

    def make_room(self) -> None:
        """Take the room that will be needed next where it is not there; sets :attr:`problem`."""
        if self._spare is not None:
            return
        try:
            self._spare = self._open_segment(self._number + 1, self._segment_bytes)
            self.problem = None
        except OSError as error:
            self.problem = error.strerror or str(error)

    def read(self, limit: int) -> Batch:
        """Return the entries that come next for the database, none only where there are no more."""
        place = self.reached
        entries: list[Entry] = []
        damaged, size = 0, 0
        with self._guard:
            last, until = self._number, self._end if self._current is not None else None
        for path in _segments(self.folder):
            number = _number(path)
            # What is being appended at this moment is not there yet, and behind the last there is room only.
            if number < place.segment or number > last:
                continue
            place = Place(number, place.offset if number == place.segment else 0)
            for line in _lines(path, place.offset, until if number == last else None):
                place = Place(number, line.end)
                damaged += line.entry is None and not line.erased
                if line.entry is not None:
                    entries.append(line.entry)
                    size += len(line.entry.text)
                    if len(entries) >= limit or size >= _CHUNK:
                        return Batch(entries, place, damaged)
        return Batch(entries, place, damaged)

    def advance(self, batch: Batch) -> None:
        """Note that the database has a batch, and free the segments before its end."""
        self.reached = batch.end
        os.pwrite(self._reached, f"{batch.end.segment:08d} {batch.end.offset:012d}\n".encode(), 0)
        with self._guard:
            for entry in batch.entries:
                self._waiting.pop(entry.id, None)
        for path in _segments(self.folder):
            if _number(path) < batch.end.segment:
                path.unlink(missing_ok=True)

    def find(self, kind: str, id: str) -> Entry | None:
        """Return an entry that was appended here and not moved on yet."""
        with self._guard:
            place = self._waiting.get(id)
        if place is None:
            return None
        try:
            entry = next(_lines(_segment(self.folder, place.segment), place.offset, None)).entry
        except (FileNotFoundError, StopIteration):
            return None
        return entry if entry is not None and (entry.kind, entry.id) == (kind, id) else None

    def moving(self) -> contextlib.AbstractContextManager[None]:
        """Hold the lock under which entries are read, stored and noted as stored, or erased."""
        return _locked(self.folder / _MOVING)

    def close(self) -> None:
        """Let go of the journal; a folder without entries is removed, another waits to be adopted."""
        try:
            if not self.read(1).entries:
                shutil.rmtree(self.folder, ignore_errors=True)
        finally:
            for descriptor in (self._current, self._spare, self._reached, self._held):
                if descriptor is not None:
                    os.close(descriptor)
            self._current = self._spare = None

    def _next_segment(self, needed: int) -> int:
        """Begin the next segment, with room for at least this many bytes, and return its descriptor."""
        number, room = self._number + 1, max(needed, self._segment_bytes)
        spare, self._spare = self._spare, None
        if spare is None:
            spare = self._open_segment(number, room)
        elif needed > self._segment_bytes:
            os.posix_fallocate(spare, 0, needed)
        before = self._current
        with self._guard:
            self._current, self._number, self._end, self._room = spare, number, 0, room
        if before is not None:
            os.fdatasync(before)
            os.close(before)
        return spare

    def _open_segment(self, number: int, room: int) -> int:
        taken = sum(path.stat().st_size for path in _segments(self.folder))
        if taken + room > self._max_bytes:
            raise OSError(0, f"the journal holds {taken:,} bytes and may take {self._max_bytes:,}")
        path = _segment(self.folder, number)
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, room)
            os.fsync(descriptor)
            sync_to_disk(self.folder)
        except OSError:
            os.close(descriptor)
            path.unlink(missing_ok=True)
            raise
        return descriptor


def abandoned(root: Path, *, about: str) -> Iterator[Journal]:
    """Yield the journals of dead writers, each adopted until the next is asked for.

    Args:
        about: Which database is at hand; journals for another are left alone.
    """
    for folder in _folders(root):
        held = _adopted(root, folder)
        if held is None:
            continue
        if _database_of(folder) not in (about, None):
            os.close(held)
            continue
        journal = Journal(folder, held)
        try:
            yield journal
        finally:
            journal.close()


def foreign(root: Path, *, about: str) -> list[Path]:
    """Return the journals that hold entries for another database than the one at hand."""
    return [folder for folder in _folders(root) if _database_of(folder) not in (about, None)]


def find_anywhere(root: Path, kind: str, id: str) -> Entry | None:
    """Return an entry of any writer's journal that the database may not have yet."""
    wanted = f" {kind} {id} ".encode("ascii", "replace")
    for folder in _folders(root):
        place = _reached(folder)
        for path in _segments(folder):
            if _number(path) < place.segment:
                continue
            with contextlib.suppress(FileNotFoundError):
                if wanted not in path.read_bytes():
                    continue
                begin = place.offset if _number(path) == place.segment else 0
                for line in _lines(path, begin, None):
                    if line.entry is not None and (line.entry.kind, line.entry.id) == (kind, id):
                        return line.entry
    return None


def erase(root: Path, change: Callable[[Entry], Entry | None]) -> int:
    """Change entries of all journals in place, those too that the database has; return how many [count].

    Args:
        change: Returns the entry as it is, one of the same kind and id with a text that is not longer, or
            None where it is to go.
    """
    changed = 0
    with contextlib.suppress(FileNotFoundError):
        changed += _erase_in(root / _ASIDE, change)
    for folder in _folders(root):
        with contextlib.suppress(FileNotFoundError), _locked(folder / _MOVING):
            for path in _segments(folder):
                changed += _erase_in(path, change)
    return changed


def set_aside(root: Path, entry: Entry) -> Path:
    """Keep an entry that the database does not take, and return the file that holds all such."""
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = root / _ASIDE
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, _line(entry))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return path


class _Line(NamedTuple):
    begin: int
    end: int
    entry: Entry | None
    """None where the line cannot be read or was erased."""
    erased: bool


def _line(entry: Entry) -> bytes:
    content = f"{entry.kind} {entry.id} {entry.text}".encode()
    return b"%08x %b\n" % (zlib.crc32(content), content)


def _parsed(line: bytes) -> Entry | None:
    content = line.rstrip(b" ")[9:]
    try:
        if int(line[:8], 16) != zlib.crc32(content):
            return None
        kind, id, text = content.decode().split(" ", 2)
    except ValueError:
        return None
    return Entry(kind, id, text)


def _lines(path: Path, begin: int, until: int | None) -> Iterator[_Line]:
    """Yield the lines of a segment from one's begin on, up to the first NUL or ``until``."""
    with path.open("rb") as stream:
        stream.seek(begin)
        left, offset = b"", begin
        while True:
            most = _CHUNK if until is None else min(_CHUNK, max(0, until - offset - len(left)))
            chunk = stream.read(most)
            *whole, rest = (left + chunk).split(b"\n")
            for line in whole:
                if line[:1] == b"\0":
                    return
                end = offset + len(line) + 1
                yield _Line(offset, end, _parsed(line), erased=not line.strip())
                offset = end
            left = rest
            cut, nul, _ = left.partition(b"\0")
            if nul or not chunk:
                if cut and until is None:
                    yield _Line(offset, offset + len(cut), None, erased=False)
                return


def _erase_in(path: Path, change: Callable[[Entry], Entry | None]) -> int:
    changed = 0
    with path.open("r+b") as stream:
        for line in list(_lines(path, 0, None)):
            if line.entry is None or (after := change(line.entry)) is line.entry:
                continue
            room = line.end - line.begin - 1
            text = _line(after)[:-1] if after is not None else b""
            stream.seek(line.begin)
            stream.write(text.ljust(room) if len(text) <= room else b" " * room)
            changed += 1
        if changed:
            stream.flush()
            os.fsync(stream.fileno())
    return changed


def _adopted(root: Path, folder: Path) -> int | None:
    """Return the descriptor that now holds a journal's lock; None where its writer lives or it is gone."""
    with _guarded(root):
        try:
            held = os.open(folder / _OWNER, os.O_RDWR)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(held)
            return None
        return held


def _folders(root: Path) -> list[Path]:
    try:
        return sorted(child for child in root.iterdir() if (child / _OWNER).is_file())
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []


def _segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.log"))


def _segment(folder: Path, number: int) -> Path:
    return folder / f"{number:08d}.log"


def _number(segment: Path) -> int:
    return int(segment.stem)


def _reached(folder: Path) -> Place:
    """Return how far the database has a journal; its begin where a crash left no word of that."""
    try:
        segment, offset = (folder / _REACHED).read_text(encoding="ascii").split()
        return Place(int(segment), int(offset))
    except (OSError, ValueError):
        return Place(0, 0)


def _database_of(folder: Path) -> str | None:
    try:
        return str(json.loads((folder / _OWNER).read_text(encoding="utf-8"))["database"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_at(descriptor: int, data: bytes, offset: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _guarded(root: Path) -> contextlib.AbstractContextManager[None]:
    # Else another could find a folder between its making and its locking, and take it for a dead one's.
    return _locked(root / ".lock")
