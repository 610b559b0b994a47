"""Curate: located sources to examples with splits; every row is kept or dropped with a reason."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tunery.core.engine import Tokenizer
from tunery.core.errors import ConfigError, first_of
from tunery.core.example import Drop, Dropped, content_sha256
from tunery.core.figures import counted, listed_counts
from tunery.core.progress import Progress
from tunery.data.chunk import Treatment, clean_chunk, judge
from tunery.data.config import DataConfig
from tunery.data.decisions import Curated, SourceCount
from tunery.data.dedup.stage import drop_exact, find_near
from tunery.data.edits.apply import apply_all
from tunery.data.edits.sets import EditSet
from tunery.data.filters.filters import Filter, FilterContext, build_filters
from tunery.data.filters.tokens import REFUSED
from tunery.data.labels import set_labels, warn_of_labels
from tunery.data.readers.reading import Reading
from tunery.data.readers.source import Source
from tunery.data.rows.changes import merged
from tunery.data.rows.dropped import masked_drops
from tunery.data.rows.flaws import BAD_ROW, refuse_bad
from tunery.data.rows.table import CARRIED, RowTable, decode_rows, encode_rows
from tunery.data.select.stage import SelectionInputs, select_rows
from tunery.data.split.assign import check_rows
from tunery.data.split.groups import group_kept
from tunery.data.split.stage import split_rows
from tunery.data.workers import Engine, spread

_SHOWN = 5
"""Rows at fault that a sentence names [count]."""


@contextmanager
def curate(  # noqa: PLR0913 - what is read, how it is treated, where it is put meanwhile
    sources: Sequence[Source],
    config: DataConfig,
    *,
    edits: Sequence[EditSet] = (),
    tokenizer: Tokenizer | None,
    max_tokens: int | None,
    selection: SelectionInputs | None = None,
    scratch: Path,
    progress: Progress,
) -> Iterator[Curated]:
    """Read, clean, check, deduplicate and split sources.

    Args:
        sources: In the order of ``config.sources``.
        config: The data settings.
        edits: Changes asked for, applied after cleaning and before filtering.
        tokenizer: Counts tokens; None skips the length check.
        max_tokens: Longest example kept [tokens]; None skips the check.
        selection: What rows are selected by, where the recipe selects some.
        scratch: File that holds the rows meanwhile.
        progress: Where steps are reported to.

    Raises:
        ConfigError: A file or its rows are unusable, nothing is left, too little to split, or one class only.
    """
    filters = build_filters(config.filters, FilterContext(config.clean.pii_dropped, tokenizer, max_tokens))
    with RowTable(scratch) as rows:
        curated = _collect(rows, sources, config, edits, filters, progress)
        _refuse_mixed(sources, curated.counts)
        _note_refused(curated, sources)
        _limit(curated)
        if not len(curated.kept):
            reasons = listed_counts(curated.dropped_counts())
            raise ConfigError(f"no row is left after cleaning: {reasons}")
        with progress.task("Finding duplicates", None):
            same_prompt = drop_exact(curated)
            check_rows(len(curated.kept), splitting=bool(config.split.test or config.split.validation))
            set_labels(curated)
            near = find_near(curated)
            group_kept(curated, same_prompt, near.pairs)
            curated.drop(near.repeats)
        with progress.task("Splitting", None):
            split_rows(curated)
            select_rows(curated, selection or SelectionInputs())
        warn_of_labels(curated)
        yield curated


def _collect(
    rows: RowTable,
    sources: Sequence[Source],
    config: DataConfig,
    edits: Sequence[EditSet],
    filters: tuple[Filter, ...],
    progress: Progress,
) -> Curated:
    """Fill the row file with every row that can be understood."""
    counts: dict[int, SourceCount] = {}
    curated = Curated(rows, config, [], [])
    unedited: list[tuple[int, pa.RecordBatch]] = []
    # Edits name rows that are not filtered yet.
    first = () if edits else filters
    engine: Engine = config.engine if _travels(first) else "here"
    # Files held out as a whole come first, so that of two equal rows theirs is the one that stays.
    held_out = [s.split in ("validation", "test") for s in config.sources]
    for i in sorted(range(len(sources)), key=lambda i: not held_out[i]):
        reading = Reading(sources[i], progress)
        dropped: list[Dropped] = []
        notes: Counter[str] = Counter()
        settings = sources[i].settings
        treatment = Treatment(settings, reading.mapped, config.clean, config.system_prompt, first)
        for result in spread(clean_chunk, reading.chunks(), treatment, engine=engine):
            dropped += result.dropped
            curated.masked.update(result.masked)
            curated.cleaned = merged([*curated.cleaned, *result.changes])
            notes.update(result.notes)
            if edits:
                unedited.append((i, result.rows))
            else:
                rows.add(result.rows, i)
        counts[i] = SourceCount(reading.rows, reading.mapped.shape)
        refuse_bad(dropped, sources[i].name, reading.rows, strict=config.strict)
        curated.unread += dropped
        reading.check()
        curated.warnings += reading.warnings()
        curated.warnings += [f"{sources[i].name}: {note} ({counted(n, 'row')})" for note, n in notes.items()]
    if edits:
        _edit(curated, unedited, edits, filters)
    rows.finish()
    curated.counts = [counts[i] for i in range(len(sources))]
    kept = np.asarray(rows.column("reason").is_null().to_numpy(), dtype=bool)
    curated.kept = np.flatnonzero(kept)
    bad = sum(d.reason == BAD_ROW for d in curated.unread)
    if bad:
        what = "1 row" if bad == 1 else f"{bad:,} rows"
        curated.warnings.append(f"{what} could not be understood and went to the dropped rows")
    return curated


def _travels(filters: tuple[Filter, ...]) -> bool:
    """Tell whether filters can be sent to workers: a tokenizer that a caller brings may not allow it."""
    try:
        pickle.dumps(filters)
    except (pickle.PicklingError, TypeError, AttributeError):
        return False
    return True


def _edit(
    curated: Curated,
    unedited: Sequence[tuple[int, pa.RecordBatch]],
    edits: Sequence[EditSet],
    filters: Sequence[Filter],
) -> None:
    """Apply edits to all rows together, since an edit also holds for rows that repeat the one it names."""
    before = [example for _, rows in unedited for example in decode_rows(rows)]
    edited = apply_all(before, edits, curated.config.clean)
    curated.unread += masked_drops(edited.dropped, curated.config.clean.pii_dropped)
    curated.changed += edited.changed
    start = 0
    for source, rows in unedited:
        low, high = np.searchsorted(edited.stay, [start, start + rows.num_rows])
        if low < high:
            left = rows.take(pa.array(np.subtract(edited.stay[low:high], start)))
            examples = edited.examples[low:high]
            hashes = [content_sha256(e.messages, e.rejected, e.desirable) for e in examples]
            carried = {name: left[name] for name in CARRIED}
            curated.rows.add(encode_rows(examples, hashes, judge(filters, examples), carried), source)
        start += rows.num_rows


def _refuse_mixed(sources: Sequence[Source], counts: Sequence[SourceCount]) -> None:
    """Refuse preference pairs beside single answers: no one training method takes both."""
    if len({c.shape == "preference" for c in counts}) > 1:
        listed = ", ".join(f"{s.name}: {c.shape}" for s, c in zip(sources, counts, strict=True))
        raise ConfigError(
            f"the sources mix preference pairs with other rows ({listed})",
            hint="train on one kind at a time, in two recipes",
        )


def _note_refused(curated: Curated, sources: Sequence[Source]) -> None:
    """Name rows that the base's chat template does not take; refuse a file of which that is half or more.

    Raises:
        ConfigError: Lists the first of them, with the template's words.
    """
    refused = np.asarray(pc.equal(curated.rows.column("reason"), REFUSED).fill_null(False))
    for i, source in enumerate(sources):
        places = np.flatnonzero(refused & (curated.rows.sources == i))
        if not len(places):
            continue
        details = curated.rows.column_at("detail", places[:_SHOWN]).to_pylist()
        problems = [
            f"row {curated.row_number(place)}: {words}"
            for place, words in zip(places.tolist(), details, strict=False)
        ]
        what = f"{source.name}: the base's chat template does not take"
        if curated.config.strict or 2 * len(places) >= curated.counts[i].rows:
            raise ConfigError.of_problems(
                f"{what} {counted(len(places), 'row')} of {curated.counts[i].rows:,}",
                problems,
                total=len(places),
                hint="write such conversations otherwise, or take another base",
            )
        shown = "; ".join(first_of(problems, _SHOWN, total=len(places)))
        curated.warnings.append(f"{what} {counted(len(places), 'row')}, now among the dropped rows ({shown})")


def _limit(curated: Curated) -> None:
    """Keep ``limit`` rows of a source, drawn by hash: a file sorted by class still gives all classes."""
    for i, settings in enumerate(curated.config.sources):
        if settings.limit is None:
            continue
        positions = np.flatnonzero(curated.rows.sources == i)
        keys = curated.rows.column("sampling_key").take(positions).to_pylist()
        order = sorted(range(len(positions)), key=keys.__getitem__)
        drop = Drop("over_limit", f"the source is limited to {settings.limit} rows")
        curated.drop({int(positions[j]): drop for j in order[settings.limit :]})
