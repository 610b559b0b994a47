"""Where a rescue keeps what it saved: plain files, each whole or not there, that outlive any database."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from tunery.core.config import Record
from tunery.core.errors import ConfigError, DamagedError, NotFoundError
from tunery.core.faults import told
from tunery.rescue.commands import command
from tunery.rescue.records import Inventory, Recording
from tunery.store.whole_file import write_whole

_NAME = re.compile(r"^[a-z0-9][a-z0-9_-]{0,40}$")
_ID = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$")
R = TypeVar("R", bound=BaseModel)
RECORDINGS = "recordings.jsonl"
"""Of a model's folder: a :class:`Recording` a line."""


class RescueFolder:
    """``HOME/rescues/NAME``.

    ::

        inventory.json          what the source has
        jobs/ftjob-….json       one job each: its own record, events, checkpoints, as the source gave them
        files/file-…            bytes, as the source gave them
        models/SLUG/            one fine-tuned model each (:meth:`of_model`)
            prompts.jsonl       a :class:`RecordedPrompt` a line: what each prompt is for
            recordings.jsonl    a :class:`Recording` a line
        report.md               the newest report

    Args:
        home: The workspace's root.
        name: Of the rescue.

    Raises:
        ConfigError: The name cannot name a folder.
    """

    def __init__(self, home: Path, name: str) -> None:
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"{name!r:.60} cannot name a rescue: small letters, digits, '-' and '_'", hint="--name openai"
            )
        self.name = name
        self.root = home / "rescues" / name

    @property
    def is_there(self) -> bool:
        """Whether an inventory was ever written."""
        return (self.root / "inventory.json").is_file()

    def inventory(self) -> Inventory:
        """Return the newest inventory.

        Raises:
            NotFoundError: There is none.
            DamagedError: It is not what was written.
        """
        if not self.is_there:
            raise NotFoundError(
                f"no rescue named {self.name} has an inventory yet",
                hint=command(self.name, "inventory"),
            )
        return self.read("inventory.json", Inventory)

    def read(self, path: str | Path, kind: type[R]) -> R:
        """Return a record that lies here, at a path from its root or a whole one within it.

        Raises:
            NotFoundError: There is no such file.
            DamagedError: It does not hold such a record.
        """
        file = self.root / path
        try:
            with told(file):
                return kind.model_validate_json(file.read_bytes())
        except FileNotFoundError:
            raise NotFoundError(f"{file}: no such file") from None
        except ValidationError as error:
            raise damaged(file, error) from error

    def write(self, path: str | Path, record: Record) -> Path:
        """Write a record; it is there whole or not at all.

        Raises:
            ResourceError: It cannot be written.
        """
        return self.write_text(path, record.model_dump_json(indent=1))

    def write_text(self, path: str | Path, text: str) -> Path:
        """Write a text that no other user of this machine may read, as :meth:`write` does."""
        file = self.root / path
        with told(file):
            self.make(file.parent)
            with write_whole(file) as stream:
                os.fchmod(stream.fileno(), 0o600)
                stream.write(text)
        return file

    def make(self, folder: Path) -> Path:
        """Make a folder of this rescue, and those above it, for this user alone; return it."""
        for path in (*reversed(folder.parents), folder):
            if path.is_relative_to(self.root.parent):
                path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder

    def file(self, id: str) -> Path:
        """Return where the bytes of a source's file lie, whether or not they do.

        Raises:
            ConfigError: The source gave an id that is none.
        """
        return self.root / "files" / _checked(id)

    def job(self, id: str) -> Path:
        """Return where a job's own record lies, whether or not it does; raises as :meth:`file`."""
        return self.root / "jobs" / f"{_checked(id)}.json"

    def of_model(self, model: str) -> Path:
        """Return the folder of one fine-tuned model, whether or not it exists; no two share one."""
        slug = re.sub(r"[^a-z0-9]+", "-", model.lower()).strip("-")[:60]
        return self.root / "models" / f"{slug}-{hashlib.sha256(model.encode()).hexdigest()[:8]}"

    def recordings(self, model: str) -> Iterator[Recording]:
        """Yield what a model was recorded to answer, in the order of recording; nothing where none was.

        Raises:
            DamagedError: A line is no recording; says which.
        """
        return self.lines(self.of_model(model) / RECORDINGS, Recording)

    def answers(self, model: str) -> Iterator[Recording]:
        """Yield as :meth:`recordings` does, without log-probabilities: they may be far more than the rest."""
        for one in self.lines(self.of_model(model) / RECORDINGS, _WithoutLogprobs):
            yield Recording.model_construct(**{name: getattr(one, name) for name in _FIELDS})

    def lines(self, file: Path, kind: type[R]) -> Iterator[R]:
        """Yield the records of a file that holds one a line; nothing where there is no such file.

        Raises:
            DamagedError: A line is none; says which.
        """
        if not file.is_file():
            return
        with told(file), file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    record = kind.model_validate_json(line)
                except ValidationError as error:
                    raise DamagedError(f"{file}: line {number} is not as it was written") from error
                yield record

    def write_lines(self, file: Path, records: Iterable[Record]) -> Path:
        """Write records, one a line; as :meth:`write_text`."""
        with told(file):
            self.make(file.parent)
            with write_whole(file) as stream:
                os.fchmod(stream.fileno(), 0o600)
                stream.writelines(f"{record.model_dump_json()}\n" for record in records)
        return file


def damaged(file: Path, error: ValidationError) -> DamagedError:
    """Return what to say of a file that does not hold the record it should."""
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(map(str, first["loc"]))
    return DamagedError(
        f"{file} is not as it was written: {place or 'all of it'}: {first['msg']}",
        hint="restore it from a backup, or move it away and give the step that wrote it again",
    )


_FIELDS: dict[str, Any] = {
    name: (field.annotation, field) for name, field in Recording.model_fields.items() if name != "logprobs"
}
# No record, which would refuse what it does not know: log-probabilities are passed over, and never made into
# objects, which is what takes the time.
_WithoutLogprobs = create_model("_WithoutLogprobs", __config__=ConfigDict(extra="ignore"), **_FIELDS)


def is_source_id(id: object) -> bool:
    """Tell whether a source's id can name a file here.

    >>> is_source_id("file-1"), is_source_id("../x"), is_source_id(None)
    (True, False, False)
    """
    return isinstance(id, str) and _ID.fullmatch(id) is not None


def _checked(id: str) -> str:
    if not is_source_id(id):
        raise ConfigError(f"{id!r:.60} is no id of a file or job")
    return id
