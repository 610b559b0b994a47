"""The other side of :mod:`tunery.graders.sandbox`: walls itself in, then grades one row a line.

Run as a script by ``python -I -S``; it imports nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import math
import os
import platform
import resource
import struct
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

_MS_RDONLY, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18
_PR_SET_SECCOMP, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_SET_DUMPABLE = 22, 24, 38, 4
_CAPABILITIES = 64
_REFUSED: Mapping[str, tuple[int, tuple[int, ...]]] = {
    # Architecture as seccomp names it, and the numbers of: sockets; new processes and programs; signals;
    # tracing; namespaces, mounts and roots; what reaches around the filter (io_uring, bpf, keys); limits.
    "x86_64": (
        0xC000003E,
        (
            *(
                41,
                42,
                43,
                44,
                46,
                49,
                50,
                53,
                288,
                56,
                57,
                58,
                59,
                322,
                435,
                62,
                129,
                200,
                234,
                297,
                424,
                434,
                438,
            ),
            *(
                101,
                310,
                311,
                272,
                308,
                165,
                166,
                155,
                161,
                425,
                426,
                427,
                321,
                248,
                249,
                250,
                302,
                160,
                298,
                323,
            ),
            *(428, 429, 430, 442, 304, 135, 109, 112),
        ),
    ),
    "aarch64": (
        0xC00000B7,
        (
            *(
                198,
                203,
                202,
                206,
                211,
                200,
                201,
                199,
                242,
                220,
                221,
                281,
                435,
                129,
                130,
                131,
                138,
                240,
                424,
                434,
            ),
            *(
                438,
                117,
                270,
                271,
                97,
                268,
                40,
                39,
                41,
                51,
                425,
                426,
                427,
                280,
                217,
                218,
                219,
                261,
                164,
                241,
                282,
            ),
            *(428, 429, 430, 442, 265, 92, 154, 157),
        ),
    ),
}
_X32 = 0x40000000
"""System calls from here on are the same ones by other numbers."""
_REASON_CHARS = 200
_FORBIDDEN_EVENTS: tuple[str, ...] = (
    *("socket.", "subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "pty."),
    *("os.kill", "signal.pthread_kill", "ctypes.", "resource.", "shutil."),
    *("os.remove", "os.rename", "os.chmod", "os.chown", "os.link", "os.symlink", "os.mkdir", "os.rmdir"),
    *("os.scandir", "os.truncate", "os.utime"),
)


def _call(name: str, *arguments: Any) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")


def _see_only(root: str, folders: Iterable[str]) -> None:
    """Make ``root`` all that there is of the file system, with the folders of Python in it, read-only."""
    _call("mount", b"none", b"/", None, _MS_REC | _MS_PRIVATE, None)
    for folder in folders:
        inside = os.fsencode(root + folder)
        os.makedirs(inside, exist_ok=True)
        _call("mount", os.fsencode(folder), inside, None, _MS_BIND | _MS_REC, None)
        _call("mount", None, inside, None, _MS_BIND | _MS_REMOUNT | _MS_RDONLY | 2 | 4, None)  # nosuid, nodev
    os.chroot(root)
    os.chdir("/tmp")  # noqa: S108 - of the new root


def _drop_capabilities() -> None:
    for capability in range(_CAPABILITIES):
        with contextlib.suppress(OSError):
            _call("prctl", _PR_CAPBSET_DROP, capability, 0, 0, 0)
    _call("capset", struct.pack("Ii", 0x20080522, 0), bytes(24))


def _refuse_system_calls() -> None:
    """Have the kernel answer EPERM to sockets, processes, signals and what could take the walls down."""
    architecture, numbers = _REFUSED[platform.machine()]
    count = len(numbers)
    # Load the architecture; another one, or a number of the x32 table, is refused like those of the list.
    program = [(0x20, 0, 0, 4), (0x15, 0, count + 2, architecture), (0x20, 0, 0, 0), (0x35, count, 0, _X32)]
    program += [(0x15, count - 1 - i, 0, number) for i, number in enumerate(numbers)]
    program[-1] = (0x15, 0, 1, numbers[-1])
    program += [(0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7FFF0000)]
    code = b"".join(struct.pack("HBBI", *line) for line in program)
    kept = ctypes.create_string_buffer(code, len(code))
    pointed = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(program), ctypes.addressof(kept)))
    _call("prctl", _PR_SET_SECCOMP, 2, pointed, 0, 0)


def _refuse_in_python(readable: tuple[str, ...]) -> None:
    """Refuse the same within Python: the weaker wall, which stands on every system."""

    def look(event: str, arguments: tuple[Any, ...]) -> None:
        if event.startswith(_FORBIDDEN_EVENTS):
            raise PermissionError(f"a grader may not use {event}")
        if event in ("open", "os.listdir") and not isinstance(arguments[0], int):
            path = os.path.realpath(os.fsdecode(arguments[0] or "."))
            writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & 3
            allowed = (here,) if writes else (here, *readable)
            if not any(path == folder or path.startswith(folder + os.sep) for folder in allowed):
                raise PermissionError(f"a grader may not open {path}")

    here = os.path.realpath(".")
    sys.addaudithook(look)


def _wall_in(setup: Mapping[str, Any]) -> list[str]:
    """Build every wall that the system allows; return those that stand."""
    folders, walls = tuple(setup["folders"]), ["limits"]
    _call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) if sys.platform == "linux" else None
    if setup["isolated"]:
        walls += ["network", "processes"]
        with contextlib.suppress(OSError, AttributeError):
            _see_only(setup["root"], folders)
            walls.append("files")
        with contextlib.suppress(OSError, AttributeError):
            _drop_capabilities()
    for name, most in setup["limits"].items():
        with contextlib.suppress(ValueError, OSError):  # a lower limit stands already, or macOS knows none
            resource.setrlimit(getattr(resource, name), (most, most))
    if sys.platform == "linux":
        with contextlib.suppress(OSError, KeyError, AttributeError):
            _refuse_system_calls()
            walls.append("system calls")
    for name in ("ctypes", "_ctypes"):
        sys.modules.pop(name, None)
    _refuse_in_python(tuple(os.path.realpath(folder) for folder in folders))
    return walls


def _grader(source: str) -> Callable[[Any, Any], Any]:
    names: dict[str, Any] = {"__name__": "grader"}
    exec(compile(source, "grader", "exec"), names)  # noqa: S102 - that is what the walls are for
    grade = names.get("grade")
    if not callable(grade):
        raise NameError("the source defines no function grade(sample, item)")
    return grade  # type: ignore[no-any-return]  # anything callable


def _answer(work: Callable[[], Any]) -> dict[str, Any]:
    try:
        value = work()
    except BaseException as error:
        return {"error": f"{type(error).__name__}: {error}"[:_REASON_CHARS]}
    if isinstance(value, bool):
        value = float(value)
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        return {"error": f"grade returned {value!r:.60}, which is no finite number"}
    return {"score": float(value)}


def main() -> None:
    """Read the setup and then rows from standard input, and answer each on what was standard output."""
    questions, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    setup = json.loads(questions.readline())
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nowhere, number)
    import collections, datetime, decimal, difflib, fractions, itertools, random, re, statistics, string  # noqa: E401, F401, I001 - found before the walls stand

    walls = _wall_in(setup)
    grade: list[Callable[[Any, Any], Any]] = []
    loaded = _answer(lambda: grade.append(_grader(setup["source"])) or 0.0)  # type: ignore[func-returns-value]
    first = {"walls": walls, **loaded}
    while True:
        answers.write(json.dumps(first).encode() + b"\n")
        answers.flush()
        line = questions.readline()
        if not line:
            return
        row = json.loads(line)
        first = {"key": row["key"], **_answer(partial(grade[0], row["sample"], row["item"]))}


if __name__ == "__main__":
    main()
