"""Export: a dataset version as files that other programs train on, and that a recipe can read again."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, cast

import yaml

from tunery.core.dataset import DatasetVersion
from tunery.core.errors import ConfigError, ConflictError, ResourceError
from tunery.core.example import Example
from tunery.core.plugins import load_plugin, plugin_names
from tunery.core.splits import SPLITS, SplitName
from tunery.data.writers.writer import Writer
from tunery.store.dataset_files import read_examples

PACKAGE = "tunery.data.writers"
"""Where formats are found."""
_SHOWN = 10


def writers() -> dict[str, Writer]:
    """Return every format by its name, as ``--format`` takes it."""
    return {n: cast(Writer, load_plugin(PACKAGE, "format", n).WRITER) for n in plugin_names(PACKAGE)}


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
    form: str,
    split: SplitName | None = None,
    replace: bool = False,
) -> Exported:
    """Write a dataset version in a format that others read.

    One split of a one-file format becomes the file ``out``; all splits, and a format of several files, become
    a folder with files named after their splits, so that test rows never end up among training rows by
    accident.

    Args:
        version: Which version.
        folder: Where its tables lie.
        out: File or folder to write, whole or not at all.
        form: One of :func:`writers`.
        split: One split; all where None.
        replace: Whether what lies at ``out`` is replaced.

    Raises:
        ConflictError: There is something at ``out``.
        ConfigError: There is no such format or no row, or rows do not fit the format; says which and what
            would take them.
        ResourceError: The place cannot be written.
    """
    known = writers()
    writer = known.get(form)
    if writer is None:
        listed = ", ".join(f"{name} ({w.title})" for name, w in known.items())
        raise ConfigError(f"{form!r:.40} is no export format", hint=f"one of {listed}")
    if out.exists():
        _check_replaceable(out, replace=replace)
    splits = [s for s in SPLITS if version.splits.get(s) and split in (None, s)]
    if not splits:
        raise ConfigError(
            f"the {split} split of {version.id} has no rows", hint=f"tunery data show {version.id}"
        )
    in_folder = writer.shard_rows is not None or split is None
    place = out.absolute()
    partial = place.with_name(f".{place.name}.partial")
    names: dict[str, tuple[str, ...]] = {}
    rows: dict[str, int] = {}
    try:
        _remove(partial)
        partial.parent.mkdir(parents=True, exist_ok=True)
        for name in splits:
            examples = read_examples(folder, name)
            rows[name] = len(examples)
            _check_fit(examples, version, form)
            files = _files(examples, writer, name) if in_folder else {"": examples}
            for file, part in files.items():
                (partial / file).parent.mkdir(parents=True, exist_ok=True)
                writer.write(part, version, partial / file)
            names[name] = tuple(files)
        if writer.readme is not None:
            (partial / "README.md").write_text(writer.readme(version, names), encoding="utf-8")
        _put(partial, place)
    except OSError as error:
        raise ResourceError(f"{out} cannot be written: {error.strerror or error}") from None
    finally:
        with contextlib.suppress(OSError):
            _remove(partial)
    written = {name: tuple(out / file for file in files) for name, files in names.items()}
    return Exported(out, written, rows, recipe_of(version, written, writer))


def _files(examples: Sequence[Example], writer: Writer, split: SplitName) -> dict[str, Sequence[Example]]:
    """Return the files that a split becomes in a folder, each with its rows."""
    size = writer.shard_rows
    if size is None:
        return {f"{split}.{writer.ending}": examples}
    count = -(-len(examples) // size)
    return {
        f"data/{split}-{i:05d}-of-{count:05d}.{writer.ending}": examples[i * size : (i + 1) * size]
        for i in range(count)
    }


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
    exported = _names_of_exports()
    foreign = next((f for f in files if not exported.fullmatch(f)), None)
    if foreign is not None:
        raise ConflictError(
            f"{out} holds other things than an export, such as {foreign}; they would be lost",
            hint="name another folder",
        )


def _names_of_exports() -> re.Pattern[str]:
    """Return what the files are called that exports write into their folders."""
    endings = "|".join(re.escape(writer.ending) for writer in writers().values())
    return re.compile(rf"(?:{'|'.join(SPLITS)}|data/[a-z]+-\d+-of-\d+)\.(?:{endings})|README\.md")


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


def recipe_of(version: DatasetVersion, files: Mapping[str, Sequence[Path]], writer: Writer) -> str:
    """Return the ``data`` section that reads an export again and gives the same rows in the same splits."""
    licences = {str(s.get("license")) for s in version.config.get("sources", ()) if s.get("license")}
    about = {"license": licences.pop()} if len(licences) == 1 else {}
    # Each source has its own mapping of columns: YAML would write a shared one as an anchor.
    sources = [
        {"path": str(p), "split": split, **about, **writer.source(version)}
        for split, paths in files.items()
        for p in paths
    ]
    data: dict[str, object] = {"sources": sources}
    if version.system_prompt is not None:
        data["system_prompt"] = version.system_prompt
    # What was removed is gone, what was masked is masked: a second round could only differ by accident.
    data["clean"] = {
        "normalise": "off",
        "mask_pii": False,
        "exact_duplicates": False,
        "near_duplicates": "off",
    }
    data["labels"] = "closed" if version.labels else "open"
    data["split"] = dict.fromkeys(("test", "validation"), 0)
    return yaml.safe_dump({"data": data}, sort_keys=False, allow_unicode=True, width=100)


def _check_fit(examples: Sequence[Example], version: DatasetVersion, form: str) -> None:
    """Refuse rows that a format would change in silence."""
    known = writers()
    misfits = [(e, why) for e in examples if (why := known[form].misfit(e, version)) is not None]
    if misfits:
        fitting = [n for n, w in known.items() if all(w.misfit(e, version) is None for e, _ in misfits)]
        raise ConfigError.of_problems(
            f"{version.id} does not fit the format {form} ({known[form].title})",
            [f"{example.id}: {why}" for example, why in misfits],
            limit=_SHOWN,
            hint=f"--format {' or '.join(fitting)} takes these rows" if fitting else None,
        )
