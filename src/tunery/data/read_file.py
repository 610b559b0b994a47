"""Read: examples from a dataset version, or from another file by the same recipe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from tunery.core.errors import ConfigError
from tunery.core.example import Example
from tunery.core.figures import counted
from tunery.core.progress import Silent
from tunery.data.chunk import Treatment, clean_chunk
from tunery.data.config import DataConfig, SourceConfig
from tunery.data.labels import find_labels
from tunery.data.readers.reading import Reading, iterate
from tunery.data.readers.source import locate
from tunery.data.rows.flaws import refusal, refuse_bad
from tunery.data.rows.table import decode_rows


def read_file(path: Path | str, source: SourceConfig, config: DataConfig) -> list[Example]:
    """Read another file by a recipe's mapping: every row becomes an example, in file order.

    Columns, label style, JSON output, system prompt, normalisation and masking are the recipe's, so that the
    model is asked as it was trained. Nothing is dropped, deduplicated, limited or split.

    Args:
        path: The file.
        source: Whose mapping to use.
        config: The recipe's data settings.

    Returns:
        Examples with unique ids: a row that repeats an earlier one has its row number added.

    Raises:
        ConfigError: The file is unusable, rows lack their prompt or answer, with row numbers, or no answer is
            desirable.
    """
    settings = source.model_copy(
        update={"path": str(path), "limit": None, "limit_per_class": None, "format": _format(path, source)}
    )
    found, dropped = [], []
    reading = Reading(locate(settings, Path(), hashed=False), Silent())
    treatment = Treatment(settings, reading.mapped, config.clean, config.system_prompt)
    for rows in reading.chunks():
        result = clean_chunk(rows, treatment)
        found += decode_rows(result.rows)
        dropped += result.dropped
    refuse_bad(dropped, str(path), reading.rows, strict=True)
    reading.check()
    if dropped:
        raise refusal(str(path), dropped)
    # What people did not like is no answer to be held against.
    wanted = [e for e in found if e.desirable is not False]
    if found and not wanted:
        raise ConfigError(
            f"{path}: none of its {counted(len(found), 'row')} has a desirable answer to be held against",
            hint="add rows with desirable answers",
        )
    examples = _number_repeats(wanted)
    if len({e.reference for e in examples}) < 2 or any(e.rejected is not None for e in examples):
        return examples
    if find_labels([e.reference for e in examples], config.labels) is None:
        return examples
    return [e.model_copy(update={"label": e.reference}) for e in examples]


def read_texts(source: SourceConfig, base_dir: Path) -> list[str]:
    """Read every row of a file as one text: all its strings, in the order of its columns.

    For files whose rows need not be examples, such as a benchmark's questions.

    Raises:
        ConfigError: The file is missing or unreadable.
    """
    return ["\n".join(_strings(row.values)) for row in iterate(locate(source, base_dir, hashed=False), ())]


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _strings(inner)


def _format(path: Path | str, source: SourceConfig) -> str:
    """Return the source's format only where both files have the same ending; else the new file's tells."""
    return source.format if Path(source.path).suffix == Path(path).suffix else "auto"


def _number_repeats(examples: list[Example]) -> list[Example]:
    seen: set[str] = set()
    unique = []
    for example in examples:
        identity = example.id
        if identity in seen:
            identity = f"{identity}-{example.metadata['row']}"
        seen.add(identity)
        unique.append(example if identity == example.id else example.model_copy(update={"id": identity}))
    return unique
