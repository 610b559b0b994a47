"""A server that is started here: it is watched, started again, and never outlives whoever started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tunery.core.errors import ResourceError
from tunery.serve.engines.upstream.started import free_port
from tunery.serve.server_process import Command, ServerProcess

SERVER = """
import http.server, os, subprocess, sys
port, helper = int(sys.argv[1]), len(sys.argv) > 2
if helper:
    child = subprocess.Popen(["sleep", "300"], start_new_session=True)  # one that leaves the process group
    print("helper", child.pid, flush=True)
print("serving", os.getpid(), "api_key=" + os.environ["SECRET"], flush=True)
http.server.ThreadingHTTPServer(("127.0.0.1", port), http.server.BaseHTTPRequestHandler).serve_forever()
"""


def answering(port: int) -> Callable[[], bool]:
    def healthy() -> bool:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=1)
        except urllib.error.HTTPError:
            return True  # 501: it is there
        except OSError:
            return False
        return True

    return healthy


def wait(condition: Callable[[], object], what: str, timeout_s: float = 20) -> None:
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until, what
        time.sleep(0.05)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "engine.log"


def pids(log: Path, word: str = "serving") -> list[int]:
    if not log.exists():
        return []
    return [int(line.split()[1]) for line in log.read_text("utf-8").splitlines() if line.startswith(word)]


@pytest.fixture
def started(log: Path) -> Iterator[tuple[ServerProcess, int]]:
    port = free_port()
    command = Command((sys.executable, "-c", SERVER, str(port), "helper"), {"SECRET": "s3cr3t-value"})
    process = ServerProcess(command._replace(secrets=("s3cr3t-value",), log=log), answering(port))
    yield process, port
    process.close()


def test_it_is_started_again_when_it_is_killed(started: tuple[ServerProcess, int], log: Path) -> None:
    process, port = started
    assert process.problem is None
    os.kill(pids(log)[-1], signal.SIGKILL)
    wait(lambda: process.problem, "nobody noticed")
    assert "ended with 137" in str(process.problem)
    assert process.wait_up(20)
    wait(lambda: len(pids(log)) == 2, "it was not started again")
    assert answering(port)()


def test_closing_it_ends_what_it_started_too(started: tuple[ServerProcess, int], log: Path) -> None:
    process, _ = started
    wait(lambda: pids(log), "no log")
    left = [*pids(log), *pids(log, "helper")]
    assert len(left) == 2
    process.close()
    assert not any(psutil.pid_exists(pid) for pid in left)
    assert process.problem == "it is closed"


def test_secrets_are_not_in_its_log(started: tuple[ServerProcess, int], log: Path) -> None:
    wait(lambda: pids(log), "no log")
    assert "s3cr3t" not in log.read_text("utf-8")


@pytest.mark.parametrize(
    ("script", "why"),
    [("import sys; sys.exit('no such model')", "no such model"), ("import time; time.sleep(60)", "within")],
)
def test_one_that_does_not_come_up_is_an_error_with_its_last_lines(script: str, why: str) -> None:
    command = Command((sys.executable, "-c", script), start_s=0.6 if why == "within" else 20)
    with pytest.raises(ResourceError, match=why):
        ServerProcess(command, lambda: False)


def test_a_program_that_does_not_exist_is_named() -> None:
    with pytest.raises(ResourceError, match="no-such-program cannot be started"):
        ServerProcess(Command(("no-such-program",)), lambda: False)


def test_it_ends_when_whoever_started_it_is_killed(log: Path) -> None:
    port = free_port()
    starter = f"""
import sys, time
from pathlib import Path
from tests.unit.serve.test_server_process import SERVER, answering
from tunery.serve.server_process import Command, ServerProcess
words = (sys.executable, "-c", SERVER, "{port}", "helper")
ServerProcess(Command(words, {{"SECRET": "x"}}, log=Path({str(log)!r})), answering({port}))
print("up", flush=True)
time.sleep(60)
"""
    ours = subprocess.Popen([sys.executable, "-c", starter], stdout=subprocess.PIPE, text=True)
    assert ours.stdout is not None
    with ours.stdout:
        assert ours.stdout.readline() == "up\n"
        left = [*pids(log), *pids(log, "helper")]
        assert len(left) == 2
        assert all(psutil.pid_exists(pid) for pid in left)
        ours.kill()
        ours.wait()
    wait(lambda: not any(psutil.pid_exists(pid) for pid in left), "it outlived whoever started it")
