"""Faults of the machine in words: the one table from what libraries raise to what a user can act on.

A full disk reaches us as an ``OSError`` from Python, as ``PytorchStreamWriter failed writing file`` from
PyTorch and as ``database or disk is full`` from SQLite; memory has as many forms. Whoever knows the place,
and the setting that helps, translates where it happens with :func:`told`; the faces translate what is left.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tunery.core.errors import ResourceError, TuneryError


class _Fault(NamedTuple):
    what: str
    """What happened, as the end of a sentence."""
    hint: str
    """What helps; ``{place}`` is the folder concerned."""
    numbers: frozenset[int]
    """Of ``errno``."""
    words: re.Pattern[str]
    """In messages of exceptions that carry no number."""


def _fault(what: str, hint: str, numbers: set[int], words: str) -> _Fault:
    return _Fault(what, hint, frozenset(numbers), re.compile(words, re.IGNORECASE))


_DISK = (
    _fault(
        "the disk is full; nothing of it was kept",
        "df -h {place} shows what is free, tunery gc frees what was left over; then give the command again",
        {errno.ENOSPC},
        # PyTorch tells no more than that it could not write, and of a full disk nearly always.
        r"no space left on device|database or disk is full|os error 28\b"
        r"|PytorchStreamWriter failed writing|unexpected pos \d+ vs \d+|file write failed",
    ),
    _fault(
        "the disk quota is used up; nothing of it was kept",
        "quota -s shows what is used, tunery gc frees what was left over; then give the command again",
        {errno.EDQUOT},
        r"disk quota exceeded|os error 122\b",
    ),
    _fault(
        "the file system may only be read",
        "set TUNERY_HOME to a folder you can write, as in: export TUNERY_HOME=$HOME/tunery",
        {errno.EROFS},
        r"read-only file system|os error 30\b|attempt to write a readonly database",
    ),
    _fault(
        "there is no permission to read or write it",
        "set TUNERY_HOME to a folder you can write, as in: export TUNERY_HOME=$HOME/tunery",
        {errno.EACCES, errno.EPERM},
        r"permission denied|os error 13\b",
    ),
    _fault(
        "the disk does not read or write it (input/output error)",
        "dmesg | tail shows what the disk reports; copy TUNERY_HOME to another one",
        {errno.EIO},
        r"input/output error|os error 5\b|disk i/o error",
    ),
    _fault(
        "too many files are open",
        "ulimit -n 65536, then give the command again",
        {errno.EMFILE, errno.ENFILE},
        r"too many open files|os error 24\b",
    ),
)
_MEMORY = _fault(
    "there is not enough memory",
    "free -h shows what is free; end other programs, or lower train.micro_batch_size, data.max_tokens "
    "or the engine's max_cache_tokens",
    {errno.ENOMEM},
    r"not enough memory|can(?:no|')t allocate memory|bad_alloc|os error 12\b|out of memory"
    r"|CUBLAS_STATUS_ALLOC_FAILED|unable to allocate|failed to allocate|[mr]e?alloc of size",
)
_THREADS = _fault(
    "no more threads or processes can be started",
    "ulimit -u shows the limit; end other programs, or lower train.threads",
    {errno.EAGAIN},
    r"can't start new thread|resource temporarily unavailable",
)
_FAULTS = (*_DISK, _MEMORY, _THREADS)


def explained(
    error: BaseException, *, place: Path | None = None, memory_hint: str | None = None
) -> TuneryError | None:
    """Return the error that tells a fault of the machine, None where ``error`` is none.

    Args:
        error: What was raised; what it was raised from is looked at too. One of ours is returned as it is.
        place: What was being written or read.
        memory_hint: What helps against too little memory here.
    """
    if isinstance(error, TuneryError):
        return error
    for raised in _chain(error):
        fault = _fault_of(raised)
        if fault is not None:
            return _in_words(fault, raised, place, memory_hint)
    return None


def is_out_of_memory(error: BaseException | None) -> bool:
    """Tell whether an exception, or one that it came from, is a failed allocation of memory.

    PyTorch has a type for a full GPU alone; on a CPU it raises a RuntimeError whose text tells.

    >>> is_out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"))
    True
    """
    if error is None or isinstance(error, TuneryError):
        return False
    return any(_fault_of(raised) is _MEMORY for raised in _chain(error))


@contextmanager
def told(place: Path | None = None, *, memory_hint: str | None = None) -> Iterator[None]:
    """Tell a fault of the machine inside the block in words; arguments as for :func:`explained`.

    Raises:
        ResourceError: The disk is full or may not be written, or there is not enough memory.
    """
    try:
        yield
    except TuneryError:
        raise
    except Exception as error:
        found = explained(error, place=place, memory_hint=memory_hint)
        if found is None:
            raise
        raise found from error


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        yield current
        seen.add(id(current))
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)


def _fault_of(error: BaseException) -> _Fault | None:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return _MEMORY
    if isinstance(error, OSError) and error.errno is not None:
        # A socket that would block says EAGAIN too; it is no fault of the machine.
        wanted = {error.errno} - ({errno.EAGAIN} if isinstance(error, BlockingIOError) else set())
        return next((fault for fault in _FAULTS if wanted & fault.numbers), None)
    if type(error).__module__.partition(".")[0] in ("pydantic_core", "pydantic"):
        return None  # quotes what the user wrote
    if isinstance(error, (TuneryError, TypeError, KeyError, AttributeError, AssertionError)):
        return None
    message = str(error)
    return next((fault for fault in _FAULTS if fault.words.search(message)), None)


def _in_words(
    fault: _Fault, raised: BaseException, place: Path | None, memory_hint: str | None
) -> ResourceError:
    if fault in _DISK:
        named = getattr(raised, "filename", None)
        where = place or (Path(str(named)) if named else None)
        folder = next((p for p in (where, *where.parents) if p.is_dir()), None) if where else None
        reason = (str(raised).strip() or type(raised).__name__).splitlines()[0]
        message = f"{where}: {fault.what}" if where else f"{fault.what} ({reason:.200})"
        return ResourceError(message, hint=fault.hint.format(place=folder or "$TUNERY_HOME"))
    reason = (str(raised).strip() or "out of memory").splitlines()[0]
    hint = memory_hint if fault is _MEMORY and memory_hint else fault.hint
    return ResourceError(f"{fault.what} ({reason:.200})", hint=hint)
