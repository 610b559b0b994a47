"""Curate: located sources to examples with splits; every row is kept or dropped with a reason."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa

from tunery.core.engine import Tokenizer
from tunery.core.errors import ConfigError
from tunery.core.example import Drop, Dropped, content_sha256
from tunery.core.figures import listed_counts
from tunery.core.progress import Progress
from tunery.data.chunk import ChunkResult, ChunkTask, clean_chunk, filter_rows
from tunery.data.config import DataConfig
from tunery.data.dedup.stage import drop_exact, find_near
from tunery.data.edits.apply import apply_all
from tunery.data.edits.sets import EditSet
from tunery.data.filters.tokens import TokenFilter
from tunery.data.labels import set_labels, warn_of_labels
from tunery.data.readers.reading import Reading
from tunery.data.readers.source import Source
from tunery.data.rows.curation import Curated, SourceCount
from tunery.data.rows.dropped import masked_clean
from tunery.data.rows.flaws import BAD_ROW, refusal
from tunery.data.rows.rowfile import RowFile
from tunery.data.rows.table import decode_rows, encode_rows, with_verdicts
from tunery.data.select.stage import SelectionInputs, select_rows
from tunery.data.split.assign import check_rows
from tunery.data.split.groups import group_kept
from tunery.data.split.stage import split_rows
from tunery.data.workers import spread


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
    with RowFile(scratch) as rows:
        measure = None
        if tokenizer is not None and max_tokens is not None:
            measure = TokenFilter(tokenizer, max_tokens)
        curated = _collect(rows, sources, config, edits, measure, progress)
        _refuse_mixed(sources, curated.counts)
        _limit(curated)
        if not len(curated.kept):
            raise ConfigError(f"no row is left after cleaning: {_reasons(curated)}")
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
    rows: RowFile,
    sources: Sequence[Source],
    config: DataConfig,
    edits: Sequence[EditSet],
    measure: TokenFilter | None,
    progress: Progress,
) -> Curated:
    """Fill the row file with every row that can be understood."""
    counts: dict[int, SourceCount] = {}
    curated = Curated(rows, config, [], [])
    waiting: list[tuple[int, ChunkResult]] = []
    # Files held out as a whole come first, so that of two equal rows theirs is the one that stays.
    held_out = [s.split in ("validation", "test") for s in config.sources]
    for i in sorted(range(len(sources)), key=lambda i: not held_out[i]):
        reading = Reading(sources[i], progress)
        dropped: list[Dropped] = []
        tasks = (
            ChunkTask(sources[i].settings, reading.mapped, raw, config, filtered=not edits)
            for raw in reading.chunks()
        )
        for result in spread(clean_chunk, tasks, engine=config.engine):
            dropped += result.dropped
            curated.masked.update(result.masked)
            if edits:
                waiting.append((i, result))
            else:
                rows.add(_measured(result.rows, measure), i)
        counts[i] = SourceCount(reading.rows, reading.mapped.shape)
        _refuse_bad(dropped, sources[i], reading.rows, strict=config.strict)
        curated.unread += dropped
        reading.check()
    if edits:
        _edit(curated, waiting, edits, measure)
    rows.finish()
    curated.counts = [counts[i] for i in range(len(sources))]
    kept = np.asarray(rows.column("reason").is_null().to_numpy(), dtype=bool)
    curated.kept = np.flatnonzero(kept)
    bad = sum(d.reason == BAD_ROW for d in curated.unread)
    if bad:
        what = "1 row" if bad == 1 else f"{bad:,} rows"
        curated.warnings.append(f"{what} could not be understood and went to the dropped rows")
    return curated


def _edit(
    curated: Curated,
    waiting: Sequence[tuple[int, ChunkResult]],
    edits: Sequence[EditSet],
    measure: TokenFilter | None,
) -> None:
    """Apply edits to all rows together, since an edit also holds for rows that repeat the one it names."""
    chunks = [decode_rows(result.rows) for _, result in waiting]
    edited = apply_all([e for chunk in chunks for e in chunk], edits, curated.config.clean)
    curated.unread += masked_clean(edited.dropped, curated.config.clean)
    curated.changed += edited.changed
    stay, at, start = edited.stay, 0, 0
    for (source, result), chunk in zip(waiting, chunks, strict=True):
        end = at
        while end < len(stay) and stay[end] < start + len(chunk):
            end += 1
        inside = [i - start for i in stay[at:end]]
        keys, draws, names = (result.rows[name].to_pylist() for name in ("group_keys", "draw", "name_key"))
        examples = edited.examples[at:end]
        rows = encode_rows(
            examples,
            [content_sha256(e.messages, e.rejected) for e in examples],
            [keys[i] for i in inside],
            [draws[i].hex() for i in inside] if result.rows["draw"].null_count == 0 else None,
            [names[i] for i in inside],
        )
        curated.rows.add(_measured(filter_rows(rows, examples, curated.config), measure), source)
        at, start = end, start + len(chunk)


def _measured(rows: pa.RecordBatch, measure: TokenFilter | None) -> pa.RecordBatch:
    """Return the rows with verdicts on those that are too long; only long texts become objects for it."""
    if measure is None:
        return rows
    sizes, roles = rows["bytes"].to_pylist(), rows["roles"].to_pylist()
    unsure = [
        i
        for i, (size, spoken, reason) in enumerate(zip(sizes, roles, rows["reason"].to_pylist(), strict=True))
        if reason is None and not measure.surely_fits(size, spoken)
    ]
    if not unsure:
        return rows
    verdicts = measure.judge(decode_rows(rows, unsure))
    return with_verdicts(rows, {i: v for i, v in zip(unsure, verdicts, strict=True) if v})


def _refuse_bad(dropped: Sequence[Dropped], source: Source, rows: int, *, strict: bool) -> None:
    """Refuse a file with rows that could not be understood.

    Raises:
        ConfigError: The settings are strict, or as many rows are bad as good: then the mapping is wrong.
    """
    bad = [d for d in dropped if d.reason == BAD_ROW]
    if bad and (strict or 2 * len(bad) >= rows):
        raise refusal(source.name, bad)


def _refuse_mixed(sources: Sequence[Source], counts: Sequence[SourceCount]) -> None:
    """Refuse preference pairs beside single answers: no one training method takes both."""
    if len({c.shape == "preference" for c in counts}) > 1:
        listed = ", ".join(f"{s.name}: {c.shape}" for s, c in zip(sources, counts, strict=True))
        raise ConfigError(
            f"the sources mix preference pairs with other rows ({listed})",
            hint="train on one kind at a time, in two recipes",
        )


def _limit(curated: Curated) -> None:
    """Keep ``limit`` rows of a source, drawn by hash: a file sorted by class still gives all classes."""
    for i, settings in enumerate(curated.config.sources):
        if settings.limit is None:
            continue
        positions = np.flatnonzero(curated.rows.sources == i)
        draws = curated.rows.column("draw").take(positions).to_pylist()
        order = sorted(range(len(positions)), key=draws.__getitem__)
        drop = Drop("over_limit", f"the source is limited to {settings.limit} rows")
        curated.drop({int(positions[j]): drop for j in order[settings.limit :]})


def _reasons(curated: Curated) -> str:
    return listed_counts(curated.dropped_counts())
