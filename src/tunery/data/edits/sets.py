"""Edits: changes to rows that a finding's fix or a reviewer asked for, kept as files and made in curation.

Rows are named by their id before the change. Nothing is changed silently: whoever applies edits gets every
row that went, and every row that changed with its text before and after.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from tunery.core.errors import ConfigError
from tunery.core.finding import Action, Changed, Edit
from tunery.core.ids import artifact_id, canonical_json, sha256_text
from tunery.core.progress import Silent
from tunery.data.readers.formats.json import parse_object
from tunery.data.readers.storage.lines import read_lines
from tunery.data.rows.row import BadRow
from tunery.store.dataset_files import write_parquet
from tunery.store.urls import InputFile
from tunery.store.workspace import Workspace

EDITS_FILE = "edits.jsonl"
CHANGED = "changed.parquet"
STAGE_VERSION = 1
"""Raise it when equal edits would be written otherwise than before."""

SHOWN_PROBLEMS = 50
_MAX_LINE_BYTES = 16 * 1_048_576
_ARTIFACT = re.compile(r"edits-[0-9a-f]{16}")


class EditSet(NamedTuple):
    """The edits of one file or artifact; they are applied together."""

    name: str
    """As the recipe refers to it."""
    key: str
    """Changes when the edits, or the version they were made for, change."""
    edits: tuple[Edit, ...]
    dataset: str | None = None
    """The dataset version they were made for; None for a file, which does not tell."""


_CHANGED_SCHEMA = pa.schema(
    [
        pa.field(name, pa.int64() if name == "row" else pa.string(), nullable=False)
        for name in Changed.model_fields
    ]
)


class Settled(NamedTuple):
    """Edits of which each row has one outcome."""

    edits: tuple[Edit, ...]
    overruled: tuple[Edit, ...]
    """Changes to rows that another edit takes out."""


def settle(edits: Iterable[Edit]) -> Settled:
    """Return edits without repeats; where one takes a row out and others change it, it goes.

    Raises:
        ConfigError: Two edits give one text of a row different values; lists the rows.
    """
    first: dict[tuple[str, Action], Edit] = {}
    clashing: dict[str, None] = {}
    for edit in edits:
        known = first.setdefault((edit.row, edit.action), edit)
        if known.value != edit.value:
            clashing[
                f"{edit.row}: {edit.action} is {known.value!r:.60} for {known.reason} and "
                f"{edit.value!r:.60} for {edit.reason}"
            ] = None
    if clashing:
        raise ConfigError.of_problems(
            "edits that contradict each other",
            list(clashing),
            limit=SHOWN_PROBLEMS,
            hint="apply one kind at a time",
        )
    gone = {row for row, action in first if action == "drop"}
    kept = [e for e in first.values() if e.action == "drop" or e.row not in gone]
    overruled = [e for e in first.values() if e.action != "drop" and e.row in gone]
    return Settled(tuple(kept), tuple(overruled))


def store_edits(workspace: Workspace, edits: Sequence[Edit], dataset: str) -> EditSet:
    """Keep edits as an artifact that is named after them and the version they are for.

    Args:
        workspace: Where it is kept, as kind ``edits``.
        edits: As :func:`settle` left them.
        dataset: Id of the dataset version whose rows they name.

    Raises:
        ConfigError: There is no edit.
    """
    if not edits:
        raise ConfigError("there is nothing to change", hint="tunery data inspect RECIPE")
    ordered = sorted(edits, key=lambda e: (e.row, e.action))
    rows = [edit.model_dump() for edit in ordered]
    identity = artifact_id(
        "edits", stage="edits", version=STAGE_VERSION, config={"edits": rows}, inputs={"dataset": dataset}
    )
    about = {
        "dataset": dataset,
        "actions": dict(sorted(Counter(e.action for e in ordered).items())),
        "reasons": dict(sorted(Counter(e.reason for e in ordered).items())),
        "by": sorted({e.by for e in ordered}),
    }
    if workspace.artifacts.whole("edits", identity, Silent()) is None:
        with workspace.artifacts.create("edits", identity, about) as folder:
            text = "".join(f"{canonical_json(row)}\n" for row in rows)
            (folder / EDITS_FILE).write_text(text, encoding="utf-8")
    return EditSet(identity, identity, tuple(ordered), dataset)


def load_edits(references: Sequence[str], workspace: Workspace, base_dir: Path) -> list[EditSet]:
    """Read the edits that a recipe refers to, in its order.

    Args:
        references: Ids of edits artifacts, or paths of JSON Lines files with one edit a line.
        workspace: Where artifacts lie.
        base_dir: Folder that relative paths start from.

    Raises:
        NotFoundError: There is no such artifact.
        ConfigError: A file is missing or a line is no edit; with line numbers.
    """
    return [_load(reference, workspace, base_dir) for reference in references]


def from_anywhere(reference: str, base_dir: Path) -> str:
    """Return a reference as it reads from anywhere: an artifact's id as it is, a file's whole path."""
    return reference if _ARTIFACT.fullmatch(reference) else str(base_dir / reference)


def _load(reference: str, workspace: Workspace, base_dir: Path) -> EditSet:
    if _ARTIFACT.fullmatch(reference):
        folder = workspace.artifacts.path("edits", reference)
        dataset = str(workspace.artifacts.about("edits", reference)["dataset"])
        return EditSet(reference, reference, _read(folder / EDITS_FILE, reference), dataset)
    path = base_dir / reference
    if not path.is_file():
        raise ConfigError(
            f"data.edits: {reference} is neither an edits artifact (edits-…) nor a file",
            hint="tunery data fix RECIPE --apply KIND makes one",
        )
    edits = settle(_read(path, reference)).edits
    rows = canonical_json([e.model_dump() for e in edits])
    return EditSet(reference, f"sha256:{sha256_text(rows)}", edits)


def _read(path: Path, name: str) -> tuple[Edit, ...]:
    edits, problems = [], []
    for number, line in enumerate(read_lines(InputFile(path, name, _MAX_LINE_BYTES)), 1):
        if line.isspace():
            continue
        try:
            edits.append(Edit.model_validate(parse_object(line)))
        except BadRow as bad:
            problems.append(f"line {number}: {bad.flaws[0].fix}")
        except ValidationError as error:
            problems += [
                f"line {number}: {'.'.join(map(str, e['loc'])) or 'edit'}: "
                f"{str(e['msg']).removeprefix('Value error, ')}"
                for e in error.errors(include_url=False)
            ]
    if problems:
        raise ConfigError.of_problems(name, problems, limit=SHOWN_PROBLEMS)
    if not edits:
        raise ConfigError(f"{name}: there is no edit in the file")
    return tuple(edits)


def write_changed(changed: Sequence[Changed], folder: Path) -> None:
    """Write ``changed.parquet``: every text of a version that an edit replaced."""
    write_parquet([c.model_dump() for c in changed], folder / CHANGED, _CHANGED_SCHEMA)


def read_changed(dataset_version: Path) -> list[Changed]:
    """Read the texts that edits replaced in a dataset version; none where it was made without edits."""
    path = dataset_version / CHANGED
    return [Changed(**row) for row in pq.read_table(path).to_pylist()] if path.is_file() else []
