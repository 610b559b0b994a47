"""Export: a model version as a folder that plain PEFT, transformers, vLLM or llama.cpp open."""

from __future__ import annotations

import errno
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

from tunery.core.errors import ConfigError, ConflictError, NotFoundError, ResourceError
from tunery.core.registry import ModelVersion
from tunery.core.training import KEPT_STEPS, WHOLE_MODEL, Adapter
from tunery.registry.card import render_card
from tunery.registry.lineage import lineage
from tunery.registry.versions import resolve
from tunery.store.artifacts import MANIFEST, RECORD
from tunery.store.workspace import Workspace

if TYPE_CHECKING:
    from tunery.model.gguf.precision import Precision
    from tunery.model.integers import Integers

Form = Literal["adapter", "merged", "gguf", "gguf-adapter"]
"""``adapter``: a PEFT folder, as it was judged. ``merged``: all weights in fp32, for transformers and vLLM.
``gguf``: all weights in one file for llama.cpp. ``gguf-adapter``: the adapter for a base in GGUF."""
LORA_SUFFIX = "-lora"
"""How the name of an adapter's GGUF file ends."""
CARD = "README.md"
"""Name under which the card lies beside the adapter; hubs show a file of this name."""


def export(
    workspace: Workspace,
    ref: str,
    destination: Path,
    *,
    form: Form = "adapter",
    precision: Precision | Integers | None = None,
    check: Callable[[Path], None] | None = None,
) -> Path:
    """Write what a version was trained to in one of several forms, and put its model card beside it.

    What is copied has the checksums it was stored with; the folder appears complete or not at all. The card
    is written from the records; where one of them is no longer stored there is no card. A version that is a
    model of its own has all its weights in every form.

    Args:
        workspace: Where versions and artifacts lie.
        ref: ``name@N``, ``name@alias`` or ``name``.
        destination: Folder to make; an empty one may exist.
        form: What is written.
        precision: Number format of the matrices. None writes f16 into a GGUF file, and leaves merged weights
            in floating point.
        check: Given the folder before it appears under its name; what it raises leaves nothing behind.

    Returns:
        The folder, absolute.

    Raises:
        NotFoundError: There is no such version, or its adapter is gone.
        ConfigError: The base has no such form, or the version has no adapter to write.
        DamagedError: The adapter's files are not what was registered, or the base is not what it belongs to.
        ConflictError: The destination holds something already.
        ResourceError: The destination cannot be written, the disk is full, or there is no memory to merge.
    """
    version = resolve(workspace, ref)
    exported = _exported(workspace, version)
    target = destination.expanduser().absolute()
    try:
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise _occupied(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f"{target.name}.{secrets.token_hex(4)}.partial")
        try:
            _write(exported, partial, form, precision)
            whole = exported.whole or form in ("merged", "gguf")
            card = card_of(workspace, version.ref, whole=whole)
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


class _Exported(NamedTuple):
    """What a version is made of."""

    version: ModelVersion
    source: Path
    """Folder of the adapter, or of all weights."""
    whole: bool
    adapter: Adapter | None
    """None where its record is gone."""

    @property
    def recorded(self) -> Adapter:
        if self.adapter is None:
            raise NotFoundError(f"the record of {self.version.adapter_id} is gone, so its base is not known")
        return self.adapter


def _exported(workspace: Workspace, version: ModelVersion) -> _Exported:
    source = workspace.artifacts.path("adapters", version.adapter_id)
    whole = (source / WHOLE_MODEL).is_dir()
    adapter = workspace.adapters.find(version.adapter_id)
    return _Exported(version, source / WHOLE_MODEL if whole else source, whole, adapter)


def _write(exported: _Exported, folder: Path, form: Form, precision: Precision | Integers | None) -> None:
    """Write a version's weights into a folder that is made."""
    named = f"{exported.version.name}-{exported.version.version}"
    if form == "gguf":
        given = cast("Precision", precision or "f16")
        _write_gguf(exported, folder, f"{named}-{given}.gguf", given)
    elif form == "gguf-adapter":
        _write_gguf_adapter(exported, folder, f"{named}{LORA_SUFFIX}.gguf")
    elif form == "merged" and not exported.whole:
        _merge(exported, folder)
    else:
        shutil.copytree(exported.source, folder, ignore=shutil.ignore_patterns(MANIFEST, RECORD, KEPT_STEPS))
    if form == "merged" and precision is not None:
        _as_integers(folder, cast("Integers", precision))


def _as_integers(folder: Path, integers: Integers) -> None:
    from tunery.model.integers import to_integers

    to_integers(folder, integers)


def _merge(exported: _Exported, folder: Path) -> None:
    from tunery.model.whole import merge

    merge(exported.recorded.base, exported.source, folder)


def _write_gguf(exported: _Exported, folder: Path, name: str, precision: Precision) -> None:
    from tunery.model.gguf.write import write_model

    folder.mkdir(parents=True)
    weights = exported.source
    if not exported.whole:
        weights = folder / "merged"
        _merge(exported, weights)
    write_model(weights, folder / name, precision, name=exported.version.ref)
    if not exported.whole:
        shutil.rmtree(weights)


def _write_gguf_adapter(exported: _Exported, folder: Path, name: str) -> None:
    from tunery.model.gguf.write import write_adapter

    if exported.whole:
        raise ConfigError(
            f"{exported.version.ref} is a model of its own, not an adapter",
            hint=f"tunery registry export {exported.version.ref} FOLDER --format gguf",
        )
    folder.mkdir(parents=True)
    write_adapter(Path(exported.recorded.base.path), exported.source, folder / name)


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
