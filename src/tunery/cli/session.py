"""What one call of the command line works in: its workspace, its recipe, its progress."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from tunery.cli.changes import written_down
from tunery.cli.stop import until_asked

if TYPE_CHECKING:
    from tunery.pipeline.context import RunContext
    from tunery.store.workspace import Workspace

ACTOR = "cli"
"""Who is recorded as having moved an alias or started a rollout from here."""
PROJECT = "tunery.project"
"""Place in a call's notes of the project that stands before the command."""
_STOPPING = "stopping after this step, with a checkpoint; once more ends at once"

_OUTAGE_S = 300.0
"""How long what computes for minutes waits for a database that went away meanwhile [s]."""


@contextmanager
def open_workspace(ctx: typer.Context, project: str | None = None) -> Iterator[Workspace]:
    """Open the workspace that the call names, and close it afterwards; a change leaves an audit record.

    Args:
        ctx: The call.
        project: Whose things there are, as typed behind the command; None for all, unless ``--project``
            stands before the command.

    Raises:
        NotFoundError: There is no such project.
    """
    from tunery.store.workspace import Workspace

    whole = Workspace.open(ctx.obj)  # what --home says, None where it is left out
    named = project or ctx.meta.get(PROJECT)
    try:
        workspace = whole.of(whole.projects.require(named)) if named else whole
        with written_down(ctx, workspace):
            yield workspace
    finally:
        whole.close()


@contextmanager
def open_recipe(ctx: typer.Context, recipe: Path, overrides: Sequence[str] | None) -> Iterator[RunContext]:
    """Read a recipe and open the workspace, as every stage needs them; progress goes to stderr.

    The recipe is read first: a wrong one leaves no trace, not even a workspace.
    """
    from tunery.cli.progress import terminal_progress
    from tunery.pipeline.context import RunContext
    from tunery.pipeline.recipe import load_recipe
    from tunery.store.database import Patience
    from tunery.store.exclusive import in_use

    loaded = load_recipe(recipe, overrides or ())
    with open_workspace(ctx) as workspace, in_use(workspace.root):
        workspace.database.patience = Patience(_OUTAGE_S)
        context = RunContext(loaded, workspace, folder_of(recipe), terminal_progress())
        context.signals_held = lambda: until_asked(_STOPPING)
        try:
            yield context
        finally:
            context.release_engine()


def folder_of(recipe: Path) -> Path:
    """Return what relative paths of a recipe are relative to."""
    return Path(os.path.abspath(recipe)).parent
