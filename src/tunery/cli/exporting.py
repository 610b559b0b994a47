"""What ``tunery registry export`` writes, measured before it is kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast, get_args

from tunery.core.errors import ConfigError, NotFoundError

if TYPE_CHECKING:
    from tunery.model.gguf.precision import Precision
    from tunery.model.integers import Integers
    from tunery.pipeline.stages.parity import Parity
    from tunery.registry.export import Form
    from tunery.serve.engines.llamacpp import LlamaCppSettings
    from tunery.store.workspace import Workspace


class WantedExport(NamedTuple):
    """What is written, and how it is measured."""

    form: Form
    precision: Precision | Integers | None
    engine: LlamaCppSettings


class DoneExport(NamedTuple):
    """What was written."""

    value: dict[str, Any]
    """JSON-ready."""
    lines: list[str]


def wanted_export(form: str, quantise: str | None, engine: Sequence[str]) -> WantedExport:
    """Read the options of an export.

    Raises:
        NotFoundError: There is no such form or number format; says which there are.
        ConfigError: They do not go together.
    """
    from tunery.core.config import apply_overrides
    from tunery.model.gguf.precision import PRECISIONS
    from tunery.model.integers import INTEGERS
    from tunery.registry.export import Form
    from tunery.serve.engines import engine_settings

    if form not in get_args(Form):
        raise NotFoundError.of("form", form, get_args(Form))
    known = {"gguf": PRECISIONS, "merged": INTEGERS}
    if quantise is not None and form not in known:
        forms = " and ".join(known)
        raise ConfigError(
            f"--quantise is for --format {forms}; {form} is written in the weights' own precision"
        )
    if quantise is not None and quantise not in known[form]:
        raise NotFoundError.of(f"number format of {form}", quantise, known[form])
    settings = engine_settings({**apply_overrides({}, engine), "kind": "llamacpp"})
    return WantedExport(cast("Form", form), quantise, cast("LlamaCppSettings", settings))


def export_checked(
    workspace: Workspace, ref: str, folder: Path, wanted: WantedExport, *, margin: float | None, check: bool
) -> DoneExport:
    """Write a version, having it measured in its new form first; raises as :func:`export`.

    Raises:
        GateFailed: It lost more than the margin.
    """
    from tunery.core.training import ADAPTER_WEIGHTS
    from tunery.registry.export import export
    from tunery.registry.versions import resolve

    version = resolve(workspace, ref)
    found: list[Parity] = []

    def measured(partial: Path) -> None:
        found.append(_parity(workspace, version.ref, partial, wanted, margin))
        found[-1].require()

    path = export(
        workspace,
        version.ref,
        folder,
        form=wanted.form,
        precision=wanted.precision,
        check=measured if check and wanted.form != "adapter" else None,
    )
    parity = found[0] if found else None
    whole = not (path / ADAPTER_WEIGHTS).exists() and wanted.form != "gguf-adapter"
    what = f"all weights, from {version.base}" if whole else f"an adapter on {version.base}"
    value = {"model_version": version.ref, "base": version.base, "path": path, "whole_model": whole}
    value |= {"form": wanted.form, "files": sorted(file.name for file in path.iterdir())}
    value["parity"] = parity.comparison.model_dump(mode="json") if parity else None
    lines = [f"{version.ref} ({what}) is in {path}", *([parity.sentence] if parity else [])]
    return DoneExport(value, lines)


def _parity(
    workspace: Workspace, ref: str, folder: Path, wanted: WantedExport, margin: float | None
) -> Parity:
    from tunery.cli.progress import terminal_progress
    from tunery.pipeline.stages.parity import MARGIN, parity_of_folder, parity_of_gguf, parity_of_integers

    progress, most = terminal_progress(), MARGIN if margin is None else margin
    if wanted.form == "merged" and wanted.precision is not None:
        integers = cast("Integers", wanted.precision)
        return parity_of_integers(workspace, ref, folder, integers, progress=progress, margin=most)
    if not wanted.form.startswith("gguf"):
        return parity_of_folder(workspace, ref, folder, progress=progress, margin=most)
    file = next(folder.glob("*.gguf"))
    return parity_of_gguf(workspace, ref, file, settings=wanted.engine, progress=progress, margin=most)
