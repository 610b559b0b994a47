"""The command line: its commands, and the one place where an error becomes a message and an exit code."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Collection, Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, NoReturn

# Looking for pydantic plugins reads the metadata of every installed package, a tenth of the time budget.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
# Libraries draw no bars of their own into ours.
os.environ.setdefault("TQDM_DISABLE", "1")

import typer

from tunery.cli.session import PROJECT
from tunery.cli.stop import Terminated
from tunery.core.cores import prepare_threads
from tunery.core.errors import TuneryError
from tunery.core.faults import explained

prepare_threads()

EXIT_BUG = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143


COMMANDS = {
    "run": "tunery.cli.run:run",
    "plan": "tunery.cli.plan:plan",
    "doctor": "tunery.cli.doctor:doctor",
    "import": "tunery.cli.import_recipe:import_recipe",
    "data": "tunery.cli.data:app",
    "train": "tunery.cli.train:app",
    "evaluate": "tunery.cli.evaluate:app",
    "registry": "tunery.cli.registry:app",
    "deploy": "tunery.cli.deploy:app",
    "requests": "tunery.cli.requests:app",
    "feedback": "tunery.cli.feedback:app",
    "rescue": "tunery.cli.rescue:app",
    "serve": "tunery.cli.serve:serve",
    "status": "tunery.cli.status:status",
    "jobs": "tunery.cli.jobs:app",
    "batches": "tunery.cli.batches:app",
    "webhooks": "tunery.cli.webhooks:app",
    "projects": "tunery.cli.projects:app",
    "keys": "tunery.cli.keys:app",
    "audit": "tunery.cli.audit:app",
    "limits": "tunery.cli.limits:app",
    "usage": "tunery.cli.usage:usage",
    "runs": "tunery.cli.run:runs",
    "ci": "tunery.cli.ci:app",
    "tokens": "tunery.cli.texts:tokens",
    "embed": "tunery.cli.texts:embed",
    "verify": "tunery.cli.upkeep:verify",
    "gc": "tunery.cli.upkeep:gc",
}
"""What can be typed, in the order of the help text: a function, or a noun with its verbs."""


def command_line(names: Collection[str] = COMMANDS) -> typer.Typer:
    """Return the command line with these commands; loading only what was typed saves a fifth of the time."""
    # Plain help instead of typer's boxes: drawing those would take a third of the 0.3 s that --help may take.
    app = typer.Typer(
        name="tunery",
        rich_markup_mode=None,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
        callback=_options,
    )
    for name, place in COMMANDS.items():
        if name in names:
            module, _, attribute = place.partition(":")
            found = getattr(import_module(module), attribute)
            if isinstance(found, typer.Typer):
                app.add_typer(found, name=name)
            else:
                app.command(name)(found)
    return app


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - typer's signature
    if wanted:
        from importlib.metadata import version

        sys.stdout.write(f"tunery {version('tunery')}\n")
        raise typer.Exit


def _options(
    ctx: typer.Context,
    *,
    home: Annotated[
        Path | None,
        typer.Option(
            "--home", metavar="FOLDER", help="Where everything is kept; else TUNERY_HOME, else ~/.tunery."
        ),
    ] = None,
    project: Annotated[
        str | None,
        typer.Option(
            "--project",
            metavar="PROJECT",
            envvar="TUNERY_PROJECT",
            help="See and make things of one.",
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Turn your own examples into a small model you can ship, with the evidence that it beats prompting.

    Answers go to stdout, progress to stderr; --json on any command prints one JSON value.
    """
    ctx.obj = home
    ctx.meta[PROJECT] = project


def main() -> None:
    """Run the command line of this process and leave with its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # A terminal that cannot write a character shows its code; it is no reason to lose the answer.
            stream.reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGTERM, _terminate)
    several = "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1
    sys.exit(_as_rank(sys.argv[1:]) if several else execute(sys.argv[1:]))


def _as_rank(arguments: Sequence[str]) -> int:
    """Run the command as rank 0 of those that torchrun started; the others join its trainings."""
    from tunery.train.together import dismiss, follow, rank

    if rank() > 0:
        return follow()
    try:
        return execute(arguments)
    finally:
        dismiss()


def execute(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; whatever goes wrong is written to stderr.

    Args:
        arguments: As typed behind ``tunery``.
    """
    as_json = "--json" in arguments
    try:
        _invoke(arguments)
    except typer.Exit as exit:
        return exit.exit_code
    except TuneryError as error:
        return _tell(error, as_json=as_json)
    except typer.TyperException as error:
        return _tell_usage(error, as_json=as_json)
    except Terminated as stop:
        return _tell_stop("terminated", EXIT_TERMINATED, stop, as_json=as_json)
    except (KeyboardInterrupt, typer.Abort) as stop:
        return _tell_stop("interrupted", EXIT_INTERRUPTED, stop, as_json=as_json)
    except BrokenPipeError:
        return _leave_quietly()
    except Exception as error:
        fault = explained(error)
        # Whatever is none of the above is a fault of ours, and its traceback is what we need to see.
        return _tell_bug(error, as_json=as_json) if fault is None else _tell(fault, as_json=as_json)
    return 0


def _invoke(arguments: Sequence[str]) -> None:
    # A word that is a command's name may stand elsewhere too; then a command too many is loaded.
    command = typer.main.get_command(command_line(COMMANDS.keys() & set(arguments) or COMMANDS))
    if "_TUNERY_COMPLETE" in os.environ:  # the shell asks for completions
        command.main(list(arguments), prog_name="tunery")
    # Not command.main(), which would tell Ctrl-C and SIGTERM no more apart.
    with command.make_context("tunery", list(arguments)) as ctx:
        command.invoke(ctx)


def _leave_quietly() -> int:
    """End as a program does whose output nobody reads any more (``tunery … | head``)."""
    # The interpreter flushes stdout once more at exit; it must find a file that takes it.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 128 + signal.SIGPIPE


def _tell_stop(how: str, exit_code: int, stop: BaseException, *, as_json: bool) -> int:
    # Whoever was stopped may say what that means for it.
    meaning = str(stop) or "what was finished is kept, and the same command continues from there"
    if as_json:
        _tell_json(how, f"{how}; {meaning}" if str(stop) else how, exit_code)
    else:
        _say(f"{how}; {meaning}")
    return exit_code


def _tell(error: TuneryError, *, as_json: bool) -> int:
    if as_json:
        _tell_json(error.code, error.message, error.exit_code, hint=error.hint, param=error.param)
    else:
        _say(f"error: {error}")
    return error.exit_code


def _tell_usage(error: typer.TyperException, *, as_json: bool) -> int:
    ctx: typer.Context | None = getattr(error, "ctx", None)
    hint = f"{ctx.command_path} --help" if ctx else "tunery --help"
    if as_json:
        _tell_json("usage", error.format_message(), EXIT_USAGE, hint=hint)
    elif type(error).__name__ == "NoArgsIsHelpError":
        _say(error.format_message())
    else:
        _say(f"error: {error.format_message()}\n  try: {hint}")
    return EXIT_USAGE


def _tell_bug(error: Exception, *, as_json: bool) -> int:
    _say("".join(traceback.format_exception(error)).rstrip("\n"))
    if as_json:
        _tell_json("internal_error", f"{type(error).__name__}: {error}", EXIT_BUG)
    return EXIT_BUG


def _tell_json(code: str, message: str, exit_code: int, **more: Any) -> None:
    body = {"code": code, "message": message, "hint": None, "param": None, "exit_code": exit_code, **more}
    _say(json.dumps({"error": body}))


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # nobody reads stderr any more; the exit code still tells
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def _terminate(number: int, frame: object) -> NoReturn:
    raise Terminated
