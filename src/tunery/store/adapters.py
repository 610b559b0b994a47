"""Where an adapter's files lie, opened only if they are what its training recorded, and what serves it."""

from __future__ import annotations

from pathlib import Path

from tunery.core.errors import DamagedError
from tunery.core.faults import told
from tunery.core.training import ADAPTER_WEIGHTS, WHOLE_MODEL, Adapter, BaseModelInfo
from tunery.store.checksums import checksum
from tunery.store.whole_folder import MEND
from tunery.store.workspace import Workspace


def adapter_folder(workspace: Workspace, adapter: Adapter) -> Path:
    """Return an adapter's folder, every file of it compared with its checksum.

    Raises:
        NotFoundError: It is gone.
        DamagedError: A file is not what it was; names each.
    """
    folder = workspace.artifacts.path("adapters", adapter.id)
    if adapter.model is not None:
        return folder  # its files were compared with the manifest's, and the engine compares them again
    with told(folder):
        found = checksum(folder / ADAPTER_WEIGHTS)
    if found != adapter.sha256:
        raise DamagedError(
            f"{folder / ADAPTER_WEIGHTS} has sha256 {found[:12]}, recorded {adapter.sha256[:12]}",
            hint=MEND,
        )
    return folder


def base_here(workspace: Workspace, base: BaseModelInfo) -> BaseModelInfo:
    """Return a base with where it lies now: one that lies in the home moves with it."""
    here = workspace.root / "models" / Path(base.path).name
    moved = not Path(base.path).is_dir() and here.is_dir()
    return base.with_(path=str(here)) if moved else base


def serving_base(workspace: Workspace, adapter: Adapter) -> BaseModelInfo:
    """Return the base whose engine answers with what training made: its own weights where it has all of them.

    Raises:
        NotFoundError: Its folder is gone.
    """
    if adapter.model is None:
        return base_here(workspace, adapter.base)
    folder = workspace.artifacts.folder("adapters", adapter.id)
    return adapter.model.with_(path=str(folder / WHOLE_MODEL))
