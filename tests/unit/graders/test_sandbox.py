"""Python graders behind walls: hostile ones fail their own row, in bounded time, and no other."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tunery.graders import sandbox_worker
from tunery.graders.sandbox import Limits, Sandbox

GRADE = "import os\ndef grade(sample, item):\n    "
SWITCH = (
    "import os, time\ndef grade(sample, item):\n"
    "    if item['row'] == 1:\n        {}\n    return float(sample['output_text'] == 'yes')\n"
)
QUICK = Limits(seconds=1.0, memory_bytes=1 << 29)
HOSTILE = {
    "loops for ever": ("while True: pass", "no answer within"),
    "forks for ever": ("while True: os.fork()", "os.fork"),
    "takes all memory": ("x = bytearray(1 << 34)", "MemoryError"),
    "opens a socket": ("import socket; socket.socket()", "socket"),
    "reads what is not its own": ("open('/etc/passwd').read()", "/etc/passwd"),
    "writes outside": ("open('/usr/lib/grader', 'w').write('x')", "/usr/lib/grader"),
    "fills the disk": ("open('here', 'w').write('x' * (1 << 24))", "File too large"),
    "kills its parent": ("os.kill(os.getppid(), 9)", "os.kill"),
    "starts a program": ("os.system('true')", "os.system"),
    "loads a library": ("import ctypes; ctypes.CDLL(None)", "ctypes"),
    "writes on the channel": ("os.write(4, b'{}\\n'); os.write(3, b'{}\\n')", "channel"),
    "returns no number": ("return float('nan')", "no finite number"),
    "returns a text": ("return 'good'", "no finite number"),
    "ends its process": ("os._exit(3)", "exit code 3"),
    "raises SystemExit": ("raise SystemExit(0)", "SystemExit"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_grader_that_does_harm_fails_its_row_alone(what: str) -> None:
    code, reason = HOSTILE[what]
    started = time.monotonic()
    with Sandbox(SWITCH.format(code), QUICK) as sandbox:
        grades = [sandbox.grade({"output_text": "yes"}, {"row": row}) for row in range(3)]
    assert time.monotonic() - started < 30
    assert [grade.score for grade in grades] == [1.0, None, 1.0]
    assert reason in str(grades[1].error)


def test_many_rows_share_a_process_and_what_is_printed_is_not_an_answer() -> None:
    source = GRADE + "print('x' * 100000)\n    return os.getpid() * 0 + item['row'] / 10"
    with Sandbox(source) as sandbox:
        assert [sandbox.grade({}, {"row": row}).score for row in range(10)] == [row / 10 for row in range(10)]
        assert sandbox.walls[0] == "limits"


def test_the_environment_and_its_secrets_stay_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    with Sandbox(GRADE + "return float('OPENAI_API_KEY' in os.environ)") as sandbox:
        assert sandbox.grade({}, {}).score == 0.0


def test_code_that_cannot_be_loaded_fails_every_row_at_once() -> None:
    with Sandbox("import nothing_of_that_name\ndef grade(sample, item): return 1") as sandbox:
        grades = [sandbox.grade({}, {}) for _ in range(1000)]
    assert all("nothing_of_that_name" in str(grade.error) for grade in grades)


def test_a_grader_that_never_answers_is_given_up() -> None:
    with Sandbox(GRADE + "os._exit(1)", QUICK) as sandbox:
        grades = [sandbox.grade({}, {}) for _ in range(1000)]
    assert "given up after 20 rows" in str(grades[-1].error)


def test_no_process_and_no_folder_is_left() -> None:
    with Sandbox(GRADE + "while True: pass", QUICK) as sandbox:
        sandbox.grade({}, {})
        sandbox._start()
        process, folder = sandbox._process, Path(sandbox._folder.name)  # type: ignore[union-attr]
    assert process is not None
    assert process.poll() is not None
    assert not folder.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="seccomp is Linux's")
@pytest.mark.parametrize(
    "attack", ["socket.socket()", "os.fork()", "os.kill(os.getpid(), 0)", "os.execv('/bin/true', ['true'])"]
)
def test_the_kernel_refuses_by_itself_what_python_refuses(attack: str) -> None:
    code = (
        "import os, socket, importlib.util as u\n"
        f"s = u.spec_from_file_location('w', {sandbox_worker.__file__!r}); w = u.module_from_spec(s)\n"
        "s.loader.exec_module(w)\nw._call('prctl', 38, 1, 0, 0, 0)\nw._refuse_system_calls()\n"
        f"try: {attack}\nexcept PermissionError: print('refused')\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.stdout == "refused\n", found.stderr


def test_a_system_without_walls_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunery.graders.sandbox._isolation", lambda: ())
    with Sandbox(GRADE + "return 1.0") as sandbox:
        assert sandbox.grade({}, {}).score == 1.0
        assert "network" in str(sandbox.weak)
        assert "trust" in str(sandbox.weak)
    with Sandbox(GRADE + "open('/etc/passwd')") as sandbox:
        assert "/etc/passwd" in str(sandbox.grade({}, {}).error)
