"""Export: a model version as a folder that plain PEFT and vLLM open."""

from __future__ import annotations

import errno
import secrets
import shutil
from pathlib import Path

from tunery.core.errors import ConflictError, ResourceError
from tunery.registry.versions import resolve
from tunery.store.artifacts import MANIFEST
from tunery.store.workspace import Workspace

CARD = "README.md"
"""Name under which a card lies beside an adapter; hubs show a file of this name."""


def export(workspace: Workspace, ref: str, destination: Path) -> Path:
    """Copy a version's PEFT adapter folder, with its model card if there is one, to a new folder.

    What is copied has the checksums it was registered with; the folder appears complete or not at all.

    Args:
        workspace: Where versions and artifacts lie.
        ref: ``name@N``, ``name@alias`` or ``name``.
        destination: Folder to make; an empty one may exist.

    Returns:
        The folder, absolute.

    Raises:
        NotFoundError: There is no such version, or its adapter is gone.
        ConfigError: The adapter's files are not what was registered.
        ConflictError: The destination holds something already.
        ResourceError: The destination cannot be written or the disk is full.
    """
    version = resolve(workspace, ref)
    workspace.artifacts.verify("adapters", version.adapter_id)
    source = workspace.artifacts.path("adapters", version.adapter_id)
    target = destination.expanduser().absolute()
    try:
        _refuse_occupied(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f"{target.name}.{secrets.token_hex(4)}.partial")
        try:
            shutil.copytree(source, partial, ignore=_only_the_store_reads)
            if target.exists():
                target.rmdir()
            partial.rename(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise _occupied(target) from None
        raise ResourceError(
            f"{target} cannot be written: {error.strerror or error}",
            hint=f"tunery registry export {version.ref} ANOTHER_FOLDER",
        ) from error
    return target


def _only_the_store_reads(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if name == MANIFEST]


def _refuse_occupied(target: Path) -> None:
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise _occupied(target)


def _occupied(target: Path) -> ConflictError:
    return ConflictError(
        f"{target} holds something already and is not overwritten",
        hint="give a folder that does not exist or is empty",
    )
