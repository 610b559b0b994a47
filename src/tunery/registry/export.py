"""Export: a model version as a folder that plain PEFT, transformers and vLLM open."""

from __future__ import annotations

import errno
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

from tunery.core.errors import ConflictError, NotFoundError, ResourceError
from tunery.core.training import KEPT_STEPS, WHOLE_MODEL
from tunery.registry.card import render_card
from tunery.registry.lineage import lineage
from tunery.registry.versions import resolve
from tunery.store.artifacts import MANIFEST, RECORD
from tunery.store.workspace import Workspace

CARD = "README.md"
"""Name under which the card lies beside the adapter; hubs show a file of this name."""


def export(
    workspace: Workspace,
    ref: str,
    destination: Path,
    *,
    merged: bool = False,
    check: Callable[[Path], None] | None = None,
) -> Path:
    """Copy what a version was trained to, a PEFT adapter or a whole model, and put its model card beside it.

    What is copied has the checksums it was stored with; the folder appears complete or not at all. The card
    is written from the records; where one of them is no longer stored there is no card.

    Args:
        workspace: Where versions and artifacts lie.
        ref: ``name@N``, ``name@alias`` or ``name``.
        destination: Folder to make; an empty one may exist.
        merged: Whether an adapter is written as a whole model, merged into its base's weights in fp32.
        check: Given the folder before it appears under its name; what it raises leaves nothing behind.

    Returns:
        The folder, absolute.

    Raises:
        NotFoundError: There is no such version, or its adapter is gone.
        DamagedError: The adapter's files are not what was registered, or the base is not what it belongs to.
        ConflictError: The destination holds something already.
        ResourceError: The destination cannot be written, the disk is full, or there is no memory to merge.
    """
    version = resolve(workspace, ref)
    source = workspace.artifacts.path("adapters", version.adapter_id)
    adapter = workspace.adapters.find(version.adapter_id)
    if (source / WHOLE_MODEL).is_dir():
        source, merged = source / WHOLE_MODEL, False
    if merged and adapter is None:
        raise NotFoundError(f"the record of {version.adapter_id} is gone, so its base is not known")
    target = destination.expanduser().absolute()
    try:
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise _occupied(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f"{target.name}.{secrets.token_hex(4)}.partial")
        try:
            if merged and adapter:
                from tunery.model.whole import merge

                merge(adapter.base, source, partial)
            else:
                shutil.copytree(source, partial, ignore=shutil.ignore_patterns(MANIFEST, RECORD, KEPT_STEPS))
            card = card_of(workspace, version.ref, whole=(partial / "config.json").exists())
            if card is not None:
                (partial / CARD).write_text(card, encoding="utf-8")
            if check is not None:
                check(partial)
            if target.exists():
                target.rmdir()
            partial.rename(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        if error.errno == errno.ENOTEMPTY:  # filled since it was looked at
            raise _occupied(target) from None
        raise ResourceError(
            f"{target} cannot be written: {error.strerror or error}",
            hint=f"tunery registry export {version.ref} ANOTHER_FOLDER",
        ) from error
    return target


def card_of(workspace: Workspace, ref: str, *, whole: bool = False) -> str | None:
    """Return a version's model card as Markdown, None where one of the records behind it is gone.

    Args:
        workspace: Where it is registered.
        ref: As :func:`export`.
        whole: Whether the card lies beside all weights rather than an adapter.

    Raises:
        NotFoundError: There is no such version.
    """
    chain = lineage(workspace, ref)
    if not (chain.dataset and chain.adapter and chain.evaluation and chain.gate):
        return None
    subjects = chain.run.evaluations if chain.run else {}
    found = {
        subject: workspace.evaluations.find(id) for subject, id in subjects.items() if subject != "tuned"
    }
    baselines = {subject: evaluation for subject, evaluation in found.items() if evaluation}
    adapter = chain.adapter.with_(model=chain.adapter.model or chain.adapter.base) if whole else chain.adapter
    return render_card(
        chain.model, chain.dataset, adapter, chain.evaluation, baselines, chain.gate, run=chain.run
    )


def _occupied(target: Path) -> ConflictError:
    return ConflictError(
        f"{target} holds something already and is not overwritten",
        hint="give a folder that does not exist or is empty",
    )
