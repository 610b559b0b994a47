"""``tunery projects``: tenants of this home."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from tunery.cli.output import answer, answer_table
from tunery.cli.parameters import Json
from tunery.cli.session import open_workspace

if TYPE_CHECKING:
    from tunery.core.access import Project
    from tunery.store.workspace import Workspace

app = typer.Typer(no_args_is_help=True, help="Projects, which see nothing of each other: create, list.")


@app.command("create")
def create_project(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Small letters, digits, '.', '_' and '-'.")],
    *,
    description: Annotated[str, typer.Option("--description", help="What it is for.")] = "",
    as_json: Json = False,
) -> None:
    """Make a project; its keys come from 'tunery keys create'."""
    with open_workspace(ctx) as workspace:
        created = workspace.projects.create(name, description)
    told = f"{name} is there\nnext: tunery keys create NAME --project {name} --role train"
    answer(created, lambda: [told], as_json=as_json)


@app.command("ls")
def list_projects(ctx: typer.Context, *, as_json: Json = False) -> None:
    """List projects with what is in each; 'default' is there from the start."""
    from tunery.core.access import DEFAULT_PROJECT

    with open_workspace(ctx) as workspace:
        made = {project.id: project for project in workspace.projects.every()}
        found = [_listed(workspace, name, made.get(name)) for name in (DEFAULT_PROJECT, *reversed(made))]
    rows = [(p.id, p.keys, ", ".join(p.models), p.description, p.created_at) for p in found]
    columns = ["project", ">keys", "models", "for", "created"]
    answer_table([p._asdict() for p in found], columns, rows, as_json=as_json)


class _Listed(NamedTuple):
    """A project in the list."""

    id: str
    description: str
    created_at: datetime | None
    keys: int
    """That work [count]."""
    models: list[str]


def _listed(workspace: Workspace, name: str, project: Project | None) -> _Listed:
    view, now = workspace.whole.of(name), workspace.clock.now()
    return _Listed(
        name,
        project.description if project else "",
        project.created_at if project else None,
        sum(key.works_at(now) for key in view.keys.every()),
        view.model_names.own(),
    )
