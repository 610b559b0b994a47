"""The folder that a call of ``tunery rescue`` works in, and which of its models it is about."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from tunery.core.errors import BusyError, ConfigError, NotFoundError, listed
from tunery.rescue.commands import command

if TYPE_CHECKING:
    from tunery.core.forwarding import Shutdown
    from tunery.rescue.folder import RescueFolder
    from tunery.rescue.records import Scope

RescueName = Annotated[
    str,
    typer.Option(
        "--name", metavar="NAME", help="Of the rescue: a folder of its own in rescues/ of the home."
    ),
]
OldModel = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="As the source names it; left out, the only one of the rescue."),
]


@contextmanager
def working_on(ctx: typer.Context, name: str) -> Iterator[RescueFolder]:
    """Yield the folder of a rescue, which nobody else writes to meanwhile; raises as :func:`open_rescue`.

    Raises:
        BusyError: Another process does.
    """
    from tunery.store.exclusive import exclusive

    folder = open_rescue(ctx, name)
    with ExitStack() as held:
        try:
            held.enter_context(exclusive(folder.root.parent.parent, f"rescue-{name}"))
        except BusyError:
            raise BusyError(
                f"another command is at work on the rescue {name} right now",
                hint="wait for its end, then type the same command again",
            ) from None
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
        if not models:
            raise ConfigError(
                "the inventory has no fine-tuned model", hint=f"{command(folder.name, 'inventory')} --scope …"
            )
        raise ConfigError(
            f"which fine-tuned model? There are {len(models)}: {listed(models, 5)}",
            hint=f"the same command with its name, such as {models[0]}",
        )
    return models[0]


def scope_of(folder: RescueFolder, model: str) -> Scope:
    """Return the account that a model is of; raises as :func:`model_of`.

    Raises:
        NotFoundError: The newest inventory was taken without it.
    """
    inventory = folder.inventory()
    named = next(each.scope for each in inventory.models if each.id == model)
    found = next((scope for scope in inventory.scopes if scope.name == named), None)
    if found is None:
        raise NotFoundError(
            f"{model} is of scope {named}, and the newest inventory was taken without that scope",
            hint=f"{command(folder.name, 'inventory')} --scope name={named},… for each of the scopes",
        )
    return found


def shutdown_of(folder: RescueFolder, model: str) -> Shutdown | None:
    """Return when a model ends, None where the inventory does not know; raises as :func:`model_of`."""
    return next(each.shutdown for each in folder.inventory().models if each.id == model)
