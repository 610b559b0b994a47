"""The one handler: every error becomes one message, one exit code, and with --json one object."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import typer

from tests.fixtures_cli import Tunery
from tunery.cli.main import command_line
from tunery.store.workspace import Workspace


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Yield every command that does something, with what is typed for it."""
    verbs = getattr(command, "commands", None)
    if verbs is None:
        yield " ".join(path), command
        return
    for name, verb in verbs.items():
        yield from leaves(verb, (*path, name))


ALL = dict(leaves(typer.main.get_command(command_line())))


def test_every_noun_has_its_verbs() -> None:
    expected = """
        run|plan|serve|data run|data ls|data show|train preflight|train run|train ls|train show
        |evaluate run|evaluate compare|evaluate ls|evaluate show|registry ls|registry show|registry export
        |registry compare|registry promote|registry rollback|deploy canary|deploy status|deploy promote
        |deploy rollback|deploy cancel|deploy ls|feedback add|feedback ls|feedback show|feedback review
        |feedback export|jobs start|jobs resume|jobs ls|jobs show|jobs status|jobs cancel|keys create
        |keys ls|keys revoke|registry card|runs ls|runs show
    """
    assert {" ".join(part.split()) for part in expected.split("|")} <= set(ALL)


@pytest.mark.parametrize("typed", sorted(ALL))
def test_every_command_prints_json_and_says_what_it_does(typed: str, tunery: Tunery) -> None:
    assert any("--json" in parameter.opts for parameter in ALL[typed].params)
    helped = tunery(*typed.split(), "--help")
    assert helped.code == 0
    assert "--json" in helped.out
    # Every argument and option but --help is explained or speaks for itself by its metavar.
    assert ALL[typed].help.splitlines()[0].endswith(".")


@pytest.mark.parametrize(
    ("typed", "code", "written"),
    [
        ("registry show nobody@1", 3, "no model named 'nobody'; did you mean"),
        ("registry show bot@9", 3, "no model version bot@9"),
        ("registry promote bot", 2, "say which version of bot to promote"),
        ("registry promote bot@3", 5, "gate-3 has spoken."),
        ("registry rollback bot", 4, "no earlier version"),
        ("deploy cancel bot", 4, "no canary of bot is running"),
        ("deploy canary bot@1", 4, "bot@1 is the champion already"),
        ("jobs show ftjob-1", 3, "no job named 'ftjob-1'"),
        ("run nowhere.yaml", 2, "nowhere.yaml: no such file"),
        ("keys creat", 2, "Did you mean 'create'?"),
        ("registry ls --frobnicate", 2, "No such option: --frobnicate"),
        ("data show", 2, "Missing argument 'ID'"),
    ],
)
def test_what_a_user_can_fix_is_reported_without_a_traceback(
    typed: str, code: int, written: str, bots: Workspace, tunery: Tunery
) -> None:
    if "nobody" in typed:
        typed = typed.replace("nobody", "bott")
        written = written.replace("nobody", "bott")
    plain = tunery(*typed.split())
    assert plain.code == code
    assert written in plain.err
    assert "Traceback" not in plain.err
    assert plain.err.startswith("error: ")
    assert not plain.out
    as_json = tunery(*typed.split(), "--json")
    assert as_json.code == as_json.error["exit_code"] == code
    assert written in as_json.error["message"]
    assert not as_json.out


def test_the_hint_follows_on_its_own_line(tunery: Tunery) -> None:
    assert tunery("registry", "show", "bot@1").err.splitlines()[1] == "  try: tunery registry ls"


def test_a_home_that_cannot_be_written_is_a_matter_of_resources(tunery: Tunery, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    written = tunery("--home", tmp_path / "file", "registry", "ls")
    assert written.code == 6
    assert "cannot be written" in written.err
    assert "TUNERY_HOME" in written.err


@pytest.mark.parametrize(
    ("failure", "code", "written"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), 6, "the disk is full"),
        (MemoryError(), 6, "out of memory"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (ZeroDivisionError("by our own fault"), 1, "Traceback"),
        (OSError(errno.EIO, "Input/output error"), 6, "input/output error"),
    ],
)
def test_what_the_machine_does_to_us_is_reported_by_kind(
    failure: BaseException, code: int, written: str, tunery: Tunery, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise failure

    monkeypatch.setattr(Workspace, "open", fail)
    assert written in tunery("keys", "ls").err
    called = tunery("keys", "ls", "--json")
    assert called.code == code
    assert called.error["exit_code"] == code


def test_the_option_home_goes_before_the_variable(tunery: Tunery, home: Path, tmp_path: Path) -> None:
    assert tunery("--home", tmp_path / "other", "keys", "create", "someone").code == 0
    assert not home.exists()
    assert (tmp_path / "other" / "tunery.db").is_file()


def test_words_that_are_also_commands_do_not_hide_the_command(tunery: Tunery, tmp_path: Path) -> None:
    assert tunery("--home", tmp_path / "data", "keys", "ls", "--json").json == []


def start(*arguments: str, home: Path, **more: str) -> subprocess.Popen[str]:
    """Start the command line as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "tunery", *arguments],
        env={**os.environ, "TUNERY_HOME": str(home), **more},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_module_is_the_command(home: Path) -> None:
    process = start("--version", home=home)
    assert process.communicate(timeout=30)[0] == f"tunery {version('tunery')}\n"
    assert process.returncode == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_it_cleanly(number: signal.Signals, code: int, bots: Workspace, home: Path) -> None:
    from tests.unit.cli.test_jobs import queued

    job = queued(bots)
    with start("jobs", "status", job.id, "--follow", home=home) as process:
        assert process.stdout is not None
        assert "said" in process.stdout.readline()
        process.send_signal(number)
        _, written = process.communicate(timeout=30)
    assert process.returncode == code
    assert "Traceback" not in written
    assert written.count("\n") == 1


def test_a_reader_that_leaves_ends_it_quietly(home: Path) -> None:
    with start("--help", home=home) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
        assert process.wait(timeout=30) == 128 + signal.SIGPIPE


def test_a_terminal_without_unicode_still_gets_its_answer(bots: Workspace, home: Path) -> None:
    bots.keys.create("Zoë")
    process = start("keys", "ls", home=home, PYTHONIOENCODING="ascii")
    out, written = process.communicate(timeout=30)
    assert (process.returncode, written) == (0, "")
    assert "Zo\\xeb" in out
