"""The folder that a call of ``tunery rescue`` works in, and which of its models it is about."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from tunery.core.errors import ConfigError, NotFoundError, listed

if TYPE_CHECKING:
    from tunery.core.forwarding import Shutdown
    from tunery.rescue.folder import RescueFolder
    from tunery.rescue.records import Scope

RescueName = Annotated[str, typer.Option("--name", metavar="NAME", help="Of the rescue.")]
OldModel = Annotated[
    str,
    typer.Argument(metavar="[MODEL]", help="As the source names it; left out, the only one of the rescue."),
]


@contextmanager
def working_on(ctx: typer.Context, name: str) -> Iterator[RescueFolder]:
    """Yield the folder of a rescue, which nobody else writes to meanwhile; raises as :func:`open_rescue`.

    Raises:
        BusyError: Another process does.
    """
    from tunery.store.exclusive import exclusive

    folder = open_rescue(ctx, name)
    with exclusive(folder.root.parent.parent, f"rescue-{name}"):
        yield folder


def open_rescue(ctx: typer.Context, name: str) -> RescueFolder:
    """Return the folder of a rescue in the home that the call names; it opens no database.

    Raises:
        ConfigError: The name cannot name one.
        ResourceError: The home cannot be written.
    """
    from tunery.rescue.folder import RescueFolder
    from tunery.store.workspace import make_writable, root_of

    root = root_of(ctx.obj)
    folder = RescueFolder(root, name)
    make_writable(root)
    return folder


def model_of(folder: RescueFolder, model: str) -> str:
    """Return the fine-tuned model that a call is about.

    Raises:
        NotFoundError: The inventory has none of that name, or there is no inventory.
        ConfigError: None is named, and there are several.
    """
    models = [each.id for each in folder.inventory().models]
    if model:
        if model not in models:
            raise NotFoundError.of("fine-tuned model", model, models)
        return model
    if len(models) != 1:
        there = f"there are {len(models)}: {listed(models, 5)}" if models else "the inventory has none"
        raise ConfigError(
            f"name a fine-tuned model; {there}", hint=f"tunery rescue inventory --name {folder.name}"
        )
    return models[0]


def scope_of(folder: RescueFolder, model: str) -> Scope:
    """Return the account that a model is of; raises as :func:`model_of`."""
    inventory = folder.inventory()
    named = next(each.scope for each in inventory.models if each.id == model)
    return next(scope for scope in inventory.scopes if scope.name == named)


def shutdown_of(folder: RescueFolder, model: str) -> Shutdown | None:
    """Return when a model ends, None where the inventory does not know; raises as :func:`model_of`."""
    return next(each.shutdown for each in folder.inventory().models if each.id == model)
