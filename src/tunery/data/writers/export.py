"""Export: a dataset version as files that other programs train on, and that a recipe can read again."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import yaml

from tunery.core.dataset import DatasetVersion
from tunery.core.errors import ConfigError, ConflictError, ResourceError
from tunery.core.example import Example, SplitName
from tunery.data.writers.alpaca import _alpaca
from tunery.data.writers.huggingface import _readme, _write_shards
from tunery.data.writers.openai import _openai
from tunery.data.writers.sharegpt import _sharegpt
from tunery.data.writers.spreadsheet import _csv
from tunery.store.dataset_files import read_examples

ExportFormat: TypeAlias = Literal["openai", "alpaca", "sharegpt", "hf", "csv"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")

_ENDINGS: dict[ExportFormat, str] = {"openai": "jsonl", "alpaca": "json", "sharegpt": "json", "csv": "csv"}
_EXPORTED = re.compile(
    rf"(?:{'|'.join(SPLITS)})\.(?:{'|'.join(_ENDINGS.values())})|README\.md|data/[a-z]+-\d+-of-\d+\.parquet"
)
"""Files that an export writes into its folder."""
_SHOWN = 10


class Exported(NamedTuple):
    """What was written."""

    path: Path
    files: Mapping[str, tuple[Path, ...]]
    """Split to its files."""
    rows: Mapping[str, int]
    """Split to rows written [count]."""
    recipe: str
    """The part of a recipe that reads the files again, as YAML."""


def export_dataset(
    version: DatasetVersion,
    folder: Path,
    out: Path,
    *,
    form: ExportFormat,
    split: SplitName | None = None,
    replace: bool = False,
) -> Exported:
    """Write a dataset version in a format that others read.

    One split of a one-file format becomes the file ``out``; all splits, and ``hf``, become a folder with
    files named after their splits, so that test rows never end up among training rows by accident.

    Args:
        version: Which version.
        folder: Where its tables lie.
        out: File or folder to write, whole or not at all.
        form: ``openai`` JSON Lines, ``alpaca`` and ``sharegpt`` JSON, ``csv`` for spreadsheets (cells that
            one would run are escaped), ``hf`` a folder of Parquet that ``datasets.load_dataset`` opens.
        split: One split; all where None.
        replace: Whether what lies at ``out`` is replaced.

    Raises:
        ConflictError: There is something at ``out``.
        ConfigError: Rows do not fit the format; says which and what would take them.
        ResourceError: The place cannot be written.
    """
    if form not in get_args(ExportFormat):
        raise ConfigError(
            f"{form!r:.40} is no export format", hint=f"one of {', '.join(get_args(ExportFormat))}"
        )
    if out.exists():
        _check_replaceable(out, replace=replace)
    splits = [s for s in SPLITS if version.splits.get(s) and split in (None, s)]
    if not splits:
        raise ConfigError(
            f"the {split} split of {version.id} has no rows", hint=f"tunery data show {version.id}"
        )
    in_folder = form == "hf" or split is None
    place = out.absolute()
    partial = place.with_name(f".{place.name}.partial")
    try:
        _remove(partial)
        (partial if in_folder else partial.parent).mkdir(parents=True, exist_ok=True)
        written: dict[str, tuple[Path, ...]] = {}
        rows: dict[str, int] = {}
        for name in splits:
            examples = read_examples(folder, name)
            _check_fit(examples, version, form)
            if form == "hf":
                files = _write_shards(examples, version, partial / "data", name)
            else:
                files = (partial / f"{name}.{_ENDINGS[form]}" if in_folder else partial,)
                _WRITERS[form](examples, version, files[0])
            written[name] = tuple(_moved(f, partial, out) for f in files)
            rows[name] = len(examples)
        if form == "hf":
            names = {s: [f.relative_to(out).as_posix() for f in fs] for s, fs in written.items()}
            (partial / "README.md").write_text(_readme(version, names), encoding="utf-8")
        _put(partial, place)
    except OSError as error:
        raise ResourceError(f"{out} cannot be written: {error.strerror or error}") from None
    finally:
        with contextlib.suppress(OSError):
            _remove(partial)
    return Exported(out, written, rows, recipe_of(version, written, form))


def _check_replaceable(out: Path, *, replace: bool) -> None:
    """Refuse to write over what is there: without ``replace`` anything, with it all but an earlier export.

    Raises:
        ConflictError: Names what is in the way.
    """
    if not replace:
        raise ConflictError(f"{out} is there already", hint="add --replace, or name another place")
    if not out.is_dir():
        return
    if out.resolve() == Path.cwd():
        raise ConflictError("the working folder itself cannot be replaced", hint="name another folder")
    files = (p.relative_to(out).as_posix() for p in sorted(out.rglob("*")) if not p.is_dir())
    strange = next((f for f in files if not _EXPORTED.fullmatch(f)), None)
    if strange is not None:
        raise ConflictError(
            f"{out} holds other things than an export, such as {strange}; they would be lost",
            hint="name another folder",
        )


def _put(partial: Path, place: Path) -> None:
    """Put what was written in its place; what lay there is gone only once it stands."""
    old = place.with_name(f".{place.name}.old")
    _remove(old)
    if place.is_dir():
        place.rename(old)
    partial.replace(place)
    _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _moved(file: Path, partial: Path, out: Path) -> Path:
    return out if file == partial else out / file.relative_to(partial)


def recipe_of(version: DatasetVersion, files: Mapping[str, Sequence[Path]], form: ExportFormat) -> str:
    """Return the ``data`` section that reads an export again and gives the same rows in the same splits."""
    licences = {str(s.get("license")) for s in version.config.get("sources", ()) if s.get("license")}
    sources: list[dict[str, Any]] = []
    for split, paths in files.items():
        for path in paths:
            source: dict[str, Any] = {"path": str(path), "split": split}
            if len(licences) == 1:
                source["license"] = next(iter(licences))
            if form == "sharegpt" and version.preference:
                source["columns"] = {"messages": "conversations", "chosen": "chosen", "rejected": "rejected"}
            if form == "csv":
                source["export"] = "spreadsheet"
                part = "prompt" if version.preference else "input"
                source["columns"] = (
                    {part: part, "chosen": "chosen", "rejected": "rejected"}
                    if version.preference
                    else {part: part, "output": "output"}
                )
            sources.append(source)
    data: dict[str, Any] = {"sources": sources}
    if version.system_prompt is not None:
        data["system_prompt"] = version.system_prompt
    # What was removed is gone, what was masked is masked: a second round could only differ by accident.
    data["clean"] = {
        "normalise": False,
        "mask_pii": False,
        "exact_duplicates": False,
        "near_duplicates": "off",
    }
    data["labels"] = "closed" if version.labels else "open"
    data["split"] = dict.fromkeys(("test", "validation"), 0)
    return yaml.safe_dump({"data": data}, sort_keys=False, allow_unicode=True, width=100)


def _check_fit(examples: Sequence[Example], version: DatasetVersion, form: ExportFormat) -> None:
    """Refuse rows that a format would change in silence."""
    problems = []
    for example in examples:
        why = _misfit(example, version, form)
        if why is not None:
            problems.append(f"{example.id}: {why}")
    if problems:
        raise ConfigError.of_problems(
            f"{version.id} does not fit the format {form}",
            problems,
            limit=_SHOWN,
            hint="--format openai takes every row",
        )


def _misfit(example: Example, version: DatasetVersion, form: ExportFormat) -> str | None:
    if form == "openai" or (form == "hf" and example.rejected is None):
        return None
    if any(m.weight == 0 for m in example.messages):
        return "a turn is kept out of training, which the format cannot say"
    if form in ("sharegpt", "hf"):
        return None
    turns = example.prompt
    if turns and turns[0].role == "system":
        if turns[0].content != version.system_prompt:
            return "it has a system turn of its own"
        turns = turns[1:]
    if len(turns) != 1 or turns[0].role != "user":
        return f"it has {len(turns)} turns before the answer, the format has room for one"
    return None


_WRITERS: Mapping[ExportFormat, Callable[[Sequence[Example], DatasetVersion, Path], None]] = {
    "openai": _openai,
    "alpaca": _alpaca,
    "sharegpt": _sharegpt,
    "csv": _csv,
}
