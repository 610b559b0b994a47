"""The first rows of a file, understood and cleaned as a recipe would, in bounded time."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tunery.core.errors import ConfigError
from tunery.core.example import Dropped, Example
from tunery.core.progress import Silent
from tunery.data.chunk import Treatment, clean_chunk
from tunery.data.config import CleanConfig, ColumnsConfig, SourceConfig
from tunery.data.conversations.shapes import Mapped, map_columns
from tunery.data.readers.reading import Reading, iterate
from tunery.data.readers.source import Source, locate
from tunery.data.rows.table import decode_rows

MOST_ROWS = 20_000
"""Rows looked at [count]."""
_MOST_SECONDS = 3.0
"""Time that reading and cleaning them may take, the piece under way not counted [s]."""
_PIECE = 200
"""Rows cleaned between two looks at the clock [count]."""
_CLASSES = ("label", "category", "intent", "class", "target", "sentiment")
_ANSWERS = ("output", "answer", "response", "completion", *_CLASSES, "summary", "translation", "reply", "key")
"""Names that tables give to what is to be answered, the surest first; classes may be numbers."""
_PROMPTS = (
    *("input", "text", "question", "prompt", "query", "instruction", "sentence", "document"),
    *("utterance", "message", "comment", "context", "article", "content"),
)
"""Names that they give to what is asked."""
_NAME_THEM = "tunery doctor FILE --input COLUMN --output COLUMN"


@dataclass(slots=True)
class Sample:
    """What was read of a file."""

    source: Source
    mapped: Mapped
    guessed: bool
    """Whether columns were taken by names that no format has."""
    columns: Mapping[str, str]
    """Part of a conversation to the column of the first row that plays it."""
    examples: list[Example] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    personal: Counter[str] = field(default_factory=Counter)
    """Type of personal data to its places [count]."""
    warnings: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """What stops the file from being read by a recipe."""
    rows: int = 0
    """Rows looked at [count]."""
    whole: bool = True
    """Whether these are all there are."""
    repeats: int = 0
    """Rows that say the same as an earlier one, answer included [count]."""
    contradictory: list[tuple[int, int]] = field(default_factory=list)
    """Numbers of two rows with one prompt and two answers, of each such prompt the first two."""


def read_sample(settings: SourceConfig, *, most_rows: int = MOST_ROWS) -> Sample:
    """Read the first rows of a file.

    Args:
        settings: The file and what the caller says of it; columns left out are taken by their usual names.
        most_rows: Rows to look at [count].

    Raises:
        ConfigError: The file is missing, empty or broken, or nothing tells how to read its rows.
    """
    source, guessed = _with_columns(locate(settings, Path(), hashed=False))
    reading = Reading(source, Silent())
    sample = Sample(
        source, reading.mapped, guessed, _played(reading.mapped, next(iterate(source, ())).values)
    )
    keys = _read(sample, reading, most_rows)
    _find_repeats(sample, keys)
    try:
        reading.check()
    except ConfigError as error:
        sample.problems.append(error.message)
    sample.warnings += [
        warning.removeprefix(f"{source.name}: ")
        for warning in reading.warnings()  # of every row read, those behind the last one cleaned too
    ]
    return sample


def _played(mapped: Mapped, first: Mapping[str, object]) -> dict[str, str]:
    """Return the parts that columns of the first row play."""
    parts = mapped.column.items()
    if mapped.shape == "columns":
        parts = {p: n for p, n in parts if p in ("input", "output")}.items()
    beside = ((part, name) for part, names in mapped.beside.items() for name in names)
    return {p: n for p, n in (*parts, *beside) if n in mapped.used and first.get(n) is not None}


def _with_columns(source: Source) -> tuple[Source, bool]:
    """Return the source with columns mapped by their names, where its format does not say them."""
    first = next(iterate(source, ()), None)
    if first is None:
        raise ConfigError(f"{source.name}: there is no row in the file")
    settings, guessed = source.settings, False
    try:
        mapped = map_columns(settings, first.values)
    except ConfigError as error:
        columns = guess_columns(first.values)
        if columns is None:
            raise ConfigError(error.message, hint=_NAME_THEM) from None
        settings, guessed = settings.model_copy(update={"columns": columns}), True
        mapped = map_columns(settings, first.values)
    if mapped.shape in ("columns", "instruction") and isinstance(
        first.values.get(mapped.column["output"]), (Mapping, list)
    ):
        settings = settings.model_copy(update={"output_json": True})
    return source._replace(settings=settings), guessed


def guess_columns(first: Mapping[str, object]) -> ColumnsConfig | None:
    """Return the columns of question and answer by their usual names; None where names tell nothing.

    >>> guess_columns({"text": "Where is my card?", "category": "card_arrival"}).output
    'category'
    """
    by_name = {name.casefold().strip(): name for name in first}
    named = ((n, by_name[n]) for n in _ANSWERS if n in by_name)
    answer = next((name for n, name in named if n in _CLASSES or not _is_number(first[name])), None)
    prompt = next((by_name[n] for n in _PROMPTS if n in by_name and by_name[n] != answer), None)
    others = [n for n, v in first.items() if n not in (answer, prompt) and isinstance(v, str)]
    if len(first) == 2 and len(others) == 1:  # of two columns the other one is the other part
        answer, prompt = answer or others[0], prompt or others[0]
    if answer is None or prompt is None or answer == prompt:
        return None
    return ColumnsConfig(input=prompt, output=answer)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float))


def _read(sample: Sample, reading: Reading, most_rows: int) -> list[tuple[int, int, int, int]]:
    """Clean rows until there are enough; return their numbers with the keys that repeats are found by."""
    ends_at = time.monotonic() + _MOST_SECONDS
    treatment = Treatment(sample.source.settings, reading.mapped, CleanConfig(), None)
    keys: list[tuple[int, int, int, int]] = []
    notes: Counter[str] = Counter()
    for chunk in reading.chunks():
        for start in range(0, len(chunk), _PIECE):
            if sample.rows >= most_rows or time.monotonic() > ends_at:
                sample.whole = False
                break
            piece = chunk[start : start + _PIECE]
            done = clean_chunk(piece, treatment)
            sample.rows += len(piece)
            sample.examples += decode_rows(done.rows)
            sample.dropped += done.dropped
            sample.personal.update({str(kind): n for kind, n in done.masked.items()})
            notes.update(done.notes)
            columns = (done.rows[name].to_pylist() for name in ("row", "row_key", "prompt_key", "answer_key"))
            keys += zip(*columns, strict=True)
        if not sample.whole:
            break
    sample.warnings += [f"{note} ({n:,} rows)" for note, n in notes.items()]
    return keys


def _find_repeats(sample: Sample, keys: Sequence[tuple[int, int, int, int]]) -> None:
    seen: set[int] = set()
    answers: dict[int, tuple[int, int]] = {}
    clash: dict[int, tuple[int, int]] = {}
    for number, row, prompt, answer in keys:
        sample.repeats += row in seen
        seen.add(row)
        first, earlier = answers.setdefault(prompt, (number, answer))
        if earlier != answer:
            clash.setdefault(prompt, (first, number))
    judged = sample.mapped.shape == "preference" or any(e.desirable is not None for e in sample.examples)
    if not judged:  # several pairs or judged answers on one prompt contradict nothing
        sample.contradictory = [*clash.values()]
