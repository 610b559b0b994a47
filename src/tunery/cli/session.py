"""What one call of the command line works in: its workspace, its recipe, its progress."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from tunery.cli.stop import Terminated

if TYPE_CHECKING:
    from tunery.pipeline.context import RunContext
    from tunery.store.workspace import Workspace

ACTOR = "cli"
"""Who is recorded as having moved an alias or started a rollout from here."""


@contextmanager
def open_workspace(ctx: typer.Context) -> Iterator[Workspace]:
    """Open the workspace that the call names, and close it afterwards."""
    from tunery.store.workspace import Workspace

    workspace = Workspace.open(ctx.obj)  # what --home says, None where it is left out
    try:
        yield workspace
    finally:
        workspace.close()


@contextmanager
def open_recipe(ctx: typer.Context, recipe: Path, overrides: Sequence[str] | None) -> Iterator[RunContext]:
    """Read a recipe and open the workspace, as every stage needs them; progress goes to stderr.

    The recipe is read first: a wrong one leaves no trace, not even a workspace.
    """
    from tunery.cli.progress import terminal_progress
    from tunery.pipeline.context import RunContext
    from tunery.pipeline.recipe import load_recipe
    from tunery.store.exclusive import in_use

    loaded = load_recipe(recipe, overrides or ())
    with open_workspace(ctx) as workspace, in_use(workspace.root):
        context = RunContext(
            loaded, workspace, folder_of(recipe), terminal_progress(), signals_held=signals_held
        )
        try:
            yield context
        finally:
            context.release_engine()


@contextmanager
def signals_held() -> Iterator[Callable[[], bool]]:
    """Have the first Ctrl-C or SIGTERM within the block only ask to stop; a second one ends at once.

    Yields:
        What tells whether it was asked.

    Raises:
        KeyboardInterrupt: Whoever was asked has stopped, or ended all the same.
    """
    asked: list[type[KeyboardInterrupt]] = []

    def ask(number: int, frame: object) -> None:
        kind = Terminated if number == signal.SIGTERM else KeyboardInterrupt
        if asked:
            raise kind
        asked.append(kind)
        # Not through the progress: whatever it was doing when the signal came is not finished.
        with contextlib.suppress(OSError):
            os.write(2, b"\nstopping after this step, with a checkpoint; once more ends at once\n")

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    except KeyboardInterrupt as stop:
        raise (asked[0] if asked else type(stop))(*stop.args) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if asked:
        raise asked[0]


def folder_of(recipe: Path) -> Path:
    """Return what relative paths of a recipe are relative to."""
    return Path(os.path.abspath(recipe)).parent
