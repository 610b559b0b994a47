"""Export: a dataset version as files that other programs train on, and that a recipe can read again."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from tunery.core.dataset import DatasetVersion
from tunery.core.errors import ConfigError, ConflictError, ResourceError
from tunery.core.example import Example, Message, SplitName
from tunery.core.tool_text import Described, describe, read_answer, read_functions, write_answer
from tunery.data.card import data_card
from tunery.data.sheet import write_sheet
from tunery.store.dataset_files import read_examples

ExportFormat: TypeAlias = Literal["openai", "alpaca", "sharegpt", "hf", "csv"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")

_ENDINGS: dict[ExportFormat, str] = {"openai": "jsonl", "alpaca": "json", "sharegpt": "json", "csv": "csv"}
_EXPORTED = re.compile(
    rf"(?:{'|'.join(SPLITS)})\.(?:{'|'.join(_ENDINGS.values())})|README\.md|data/[a-z]+-\d+-of-\d+\.parquet"
)
"""Files that an export writes into its folder."""
_SHARD_ROWS = 100_000
_SHOWN = 10
_SHAREGPT = {"system": "system", "user": "human", "assistant": "gpt", "tool": "observation"}

_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string()), ("weight", pa.int8())]))
_TURNS = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
_ORIGIN = [("id", pa.string()), ("label", pa.string()), ("source", pa.string()), ("row", pa.int64())]
_CHAT_SCHEMA = pa.schema([("messages", _MESSAGES), *_ORIGIN])
_PAIR_SCHEMA = pa.schema([("prompt", _TURNS), ("chosen", _TURNS), ("rejected", _TURNS), *_ORIGIN])


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
        more = len(problems) - _SHOWN
        raise ConfigError.of_problems(
            f"{version.id} does not fit the format {form}",
            problems[:_SHOWN] + ([f"and {more:,} more"] if more > 0 else []),
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


def _openai(examples: Sequence[Example], version: DatasetVersion, path: Path) -> None:
    _write_lines(path, (_openai_row(e) for e in examples))


def _openai_row(example: Example) -> dict[str, Any]:
    if example.rejected is None:
        return _openai_talk(example.messages)
    return {
        "input": _openai_talk(example.prompt),
        "preferred_output": [_openai_turn("assistant", example.reference)],
        "non_preferred_output": [_openai_turn("assistant", example.rejected)],
    }


def _openai_talk(messages: Sequence[Message]) -> dict[str, Any]:
    """Return a conversation with its functions and calls as OpenAI writes them."""
    turns: list[dict[str, Any]] = []
    waiting: list[str] = []  # ids of calls whose results come next, in their order
    for message in messages:
        turn = _openai_turn(message.role, message.content, message.weight, first=len(turns))
        if message.role == "tool" and waiting:
            turn["tool_call_id"] = waiting.pop(0)
        waiting += [call["id"] for call in turn.get("tool_calls", ())]
        turns.append(turn)
    told = read_functions(messages[0].content) if messages and messages[0].role == "system" else None
    if told is None or not told.functions or not _same_text(messages[0].content, told):
        return {"messages": turns}
    head = [_turn("system", told.text)] if told.text else []
    tools = [{"type": "function", "function": f} for f in told.functions]
    return {"messages": [*head, *turns[1:]], "tools": tools}


def _same_text(system: str, told: Described) -> bool:
    """Tell whether reading the functions again gives the very same system turn."""
    return system == "\n\n".join([*([told.text] if told.text else []), describe(told.functions)])


def _openai_turn(role: str, content: str, weight: int = 1, *, first: int = 0) -> dict[str, Any]:
    """Return a turn; an assistant's calls leave its text where reading them again gives the same text."""
    said = read_answer(content) if role == "assistant" else None
    if said is None or not said.calls or write_answer(said.text, said.calls) != content:
        return _turn(role, content, weight)
    calls = [
        {
            "id": f"call_{first}_{i}",
            "type": "function",
            "function": {"name": c.name, "arguments": c.arguments},
        }
        for i, c in enumerate(said.calls)
    ]
    return {**_turn(role, content, weight), "content": said.text or None, "tool_calls": calls}


def _turn(role: str, content: str, weight: int = 1) -> dict[str, Any]:
    turn: dict[str, Any] = {"role": role, "content": content}
    return turn if weight else {**turn, "weight": 0}


def _alpaca(examples: Sequence[Example], version: DatasetVersion, path: Path) -> None:
    def row(example: Example) -> dict[str, Any]:
        asked = {"instruction": example.prompt[-1].content, "input": ""}
        if example.rejected is None:
            return {**asked, "output": example.reference}
        return {**asked, "chosen": example.reference, "rejected": example.rejected}

    _write_array(path, (row(e) for e in examples))


def _sharegpt(examples: Sequence[Example], version: DatasetVersion, path: Path) -> None:
    def said(role: str, text: str) -> dict[str, str]:
        return {"from": _SHAREGPT[role], "value": text}

    def row(example: Example) -> dict[str, Any]:
        if example.rejected is None:
            return {"conversations": [said(m.role, m.content) for m in example.messages]}
        return {
            "conversations": [said(m.role, m.content) for m in example.prompt],
            "chosen": said("assistant", example.reference),
            "rejected": said("assistant", example.rejected),
        }

    _write_array(path, (row(e) for e in examples))


def _csv(examples: Sequence[Example], version: DatasetVersion, path: Path) -> None:
    if version.preference:
        pairs = ([e.prompt[-1].content, e.reference, e.rejected or ""] for e in examples)
        write_sheet(path, ["prompt", "chosen", "rejected"], pairs)
    else:
        write_sheet(path, ["input", "output"], ([e.prompt[-1].content, e.reference] for e in examples))


_WRITERS: Mapping[ExportFormat, Callable[[Sequence[Example], DatasetVersion, Path], None]] = {
    "openai": _openai,
    "alpaca": _alpaca,
    "sharegpt": _sharegpt,
    "csv": _csv,
}


def _write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        for row in rows:
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")


def _write_array(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        separator = "[\n"
        for row in rows:
            stream.write(separator + json.dumps(row, ensure_ascii=False))
            separator = ",\n"
        stream.write("\n]\n")


def _write_shards(
    examples: Sequence[Example], version: DatasetVersion, folder: Path, split: SplitName
) -> tuple[Path, ...]:
    folder.mkdir(exist_ok=True)
    schema = _PAIR_SCHEMA if version.preference else _CHAT_SCHEMA
    count = -(-len(examples) // _SHARD_ROWS)
    files = []
    for number, shard in enumerate(_shards(examples)):
        path = folder / f"{split}-{number:05d}-of-{count:05d}.parquet"
        pq.write_table(
            pa.Table.from_pylist([_hf_row(e) for e in shard], schema=schema), path, compression="zstd"
        )
        files.append(path)
    return tuple(files)


def _shards(examples: Sequence[Example]) -> Iterator[list[Example]]:
    rest = iter(examples)
    while shard := list(islice(rest, _SHARD_ROWS)):
        yield shard


def _hf_row(example: Example) -> dict[str, Any]:
    origin = {
        "id": example.id,
        "label": example.label,
        "source": example.metadata["source"],
        "row": example.metadata["row"],
    }
    if example.rejected is None:
        turns = [{"role": m.role, "content": m.content, "weight": m.weight} for m in example.messages]
        return {"messages": turns, **origin}
    return {
        "prompt": [_turn(m.role, m.content) for m in example.prompt],
        "chosen": [_turn("assistant", example.reference)],
        "rejected": [_turn("assistant", example.rejected)],
        **origin,
    }


def _readme(version: DatasetVersion, files: Mapping[str, Sequence[str]]) -> str:
    about = {
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": list(names)} for split, names in files.items()],
            }
        ],
        "tags": ["tunery"],
    }
    front = yaml.safe_dump(about, sort_keys=False, allow_unicode=True)
    return f"---\n{front}---\n\n{data_card(version)}"
