"""Read: examples from a dataset version, or from another file by the same recipe."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from tunery.core.dataset import Shape
from tunery.core.example import Dropped, Example
from tunery.core.progress import Progress, Silent
from tunery.data.clean.repair import clean_drafts, to_example
from tunery.data.config import DataConfig, SourceConfig
from tunery.data.conversations.understand import understand
from tunery.data.labels import find_labels
from tunery.data.readers.reading import Reading
from tunery.data.readers.source import Source, iterate, locate
from tunery.data.rows.flaws import refusal
from tunery.data.rows.row import Draft
from tunery.text.pii.types import PiiType


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
        ConfigError: The file is unusable, or rows lack their prompt or answer; with row numbers.
    """
    settings = source.model_copy(
        update={"path": str(path), "limit": None, "limit_per_class": None, "format": _format(path, source)}
    )
    collected = collect(locate(settings, Path()), Silent())
    if collected.dropped:
        raise refusal(str(path), collected.dropped)
    masked: Counter[PiiType] = Counter()
    drafts = clean_drafts(collected.drafts, config.clean, masked)
    examples = _number_repeats([to_example(d, config.system_prompt) for d in drafts])
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
    return ["\n".join(_strings(row.values)) for row in iterate(locate(source, base_dir), ())]


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


class Collected(NamedTuple):
    """What one source gave."""

    drafts: list[Draft]
    dropped: list[Dropped]
    rows: int
    """Rows read [count]."""
    shape: Shape


def collect(source: Source, progress: Progress) -> Collected:
    """Read a source to its end, all of it in memory; every row must be understood.

    Args:
        source: A located source.
        progress: Where rows are reported to.

    Raises:
        ConfigError: No rows, a column missing or empty throughout, rows of several shapes, rows that cannot
            be understood; all of them at once, with row numbers.
    """
    reading = Reading(source, progress)
    drafts: list[Draft] = []
    dropped: list[Dropped] = []
    for rows in reading.chunks():
        found = understand(rows, reading.mapped, source.settings)
        drafts += found.drafts
        dropped += found.dropped
    reading.check()
    return Collected(drafts, dropped, reading.rows, reading.mapped.shape)
