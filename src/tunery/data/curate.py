"""Curate: located sources to examples with splits; every row is kept or dropped with a reason."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tunery.core.dataset import Shape
from tunery.core.engine import Tokenizer
from tunery.core.errors import ConfigError
from tunery.core.example import Dropped, SplitName, content_sha256
from tunery.core.ids import canonical_json
from tunery.core.progress import Progress
from tunery.data.checks import TokenFilter
from tunery.data.chunk import (
    ChunkResult,
    ChunkTask,
    clean_chunk,
    decode_rows,
    encode_rows,
    filter_rows,
    masked_texts,
    with_verdicts,
)
from tunery.data.collect import Reading
from tunery.data.columns import Columns
from tunery.data.config import DataConfig, PiiType, SelectConfig, SourceConfig
from tunery.data.dedup import Answers, Integers, first_of_key, follow_earliest, group_rows, near_keepers
from tunery.data.draw import draw_key
from tunery.data.edits import Changed, EditSet, apply_all
from tunery.data.labels import find_labels, label_warnings
from tunery.data.quality import RowQuality, merits
from tunery.data.rowfile import RowFile
from tunery.data.rows import SEED_PROMPTS, Drop, Flaw, FlawList, RawRow, dropped_row
from tunery.data.similarity import (
    SAMPLE,
    Pairs,
    Sketch,
    SketchTask,
    close_pairs,
    combined,
    common_shingles,
    no_pairs,
    sketch_texts,
)
from tunery.data.sources import Source
from tunery.data.split import SPLITS, assign, assign_by_time, by_hash, check_rows
from tunery.data.spread import spread

_LARGEST_GROUP = 8
_LARGEST_GROUP_SHARE = 50
"""A similarity group may hold one row in fifty (eight at least) before only strict pairs hold it together."""
_MOST_CLASSES_LOOKED_AT = 1000


class SourceCount(NamedTuple):
    """What one source gave."""

    rows: int
    """Rows read [count]."""
    shape: Shape


@dataclass(slots=True)
class Curated:
    """The outcome of curation; rows lie in a file that is gone when its block ends."""

    rows: RowFile
    config: DataConfig
    counts: list[SourceCount]
    """Beside ``config.sources``."""
    unread: list[Dropped]
    """Rows dropped before they became part of ``rows``."""
    masked: Counter[PiiType] = field(default_factory=Counter)
    """Type of personal data to spans masked, in kept and dropped rows alike [count]."""
    changed: list[Changed] = field(default_factory=list)
    """Texts that edits replaced."""
    warnings: list[str] = field(default_factory=list)
    drops: dict[int, Drop] = field(default_factory=dict)
    """Position in ``rows`` to why that row goes, filters aside: those are told in ``rows``."""
    kept: Integers = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    """Positions of the rows that stay, ascending."""
    splits: npt.NDArray[np.int8] = field(default_factory=lambda: np.empty(0, dtype=np.int8))
    """Index into :data:`tunery.data.split.SPLITS`, beside ``kept``."""
    groups: Integers = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    """Position of the first row of each row's group, beside ``kept``."""
    apart: Pairs = field(default_factory=no_pairs)
    """Pairs of positions that must not end up in different splits although their groups are not one."""
    labels: tuple[str, ...] | None = None
    answers: list[str] = field(default_factory=list)
    """All different answers, where they are few."""
    answer_codes: Integers = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    """Index into ``answers``, beside ``rows``."""

    def drop(self, drops: Mapping[int, Drop]) -> None:
        """Take out rows by position."""
        self.drops.update(drops)
        gone = np.isin(self.kept, np.fromiter(drops, dtype=np.int64, count=len(drops)))
        for name in ("splits", "groups"):
            column = getattr(self, name)
            if len(column):
                setattr(self, name, column[~gone])
        self.kept = self.kept[~gone]

    def where(self, position: int) -> str:
        """Return where a row came from, for a message."""
        return f"row {self.row_number(position)} of {self.source(position).path}"

    def row_number(self, position: int) -> int:
        """Return a row's number in its file."""
        return int(self.rows.numbers("row")[position])

    def source(self, position: int) -> SourceConfig:
        """Return the source that a row came from."""
        return self.config.sources[int(self.rows.sources[position])]

    def row_labels(self) -> list[str | None]:
        """Return the class of each kept row, None throughout where answers are open text."""
        if self.labels is None:
            return [None] * len(self.kept)
        return [self.answers[c] for c in self.answer_codes[self.kept].tolist()]

    def metadata(self) -> list[dict[str, Any]]:
        """Return the mapped extra columns of each kept row."""
        return [json.loads(text) for text in self.rows.column("metadata").take(self.kept).to_pylist()]

    def ids(self) -> list[str]:
        """Return the id of each kept row: of its content, with a number where the content occurred before."""
        hashes = self.rows.column("sha256").take(self.kept).to_pylist()
        seen: Counter[bytes] = Counter()
        ids = []
        for sha256 in hashes:
            short = sha256[:8]
            seen[short] += 1
            number = seen[short]
            ids.append(f"ex-{short.hex()}" if number == 1 else f"ex-{short.hex()}-{number}")
        return ids

    def dropped_counts(self) -> Counter[str]:
        """Return how many rows went for each reason."""
        counts = Counter(d.reason for d in self.unread)
        counts.update(d.reason for d in self.drops.values())
        filtered = self.rows.column("reason")
        # A row drawn out of a limited source went before the filters looked at it.
        left = np.ones(len(self.rows), dtype=bool)
        left[np.fromiter(self.drops, dtype=np.int64, count=len(self.drops))] = False
        counts.update(filtered.filter(pa.array(left)).drop_null().to_pylist())
        return counts


@contextmanager
def curate(  # noqa: PLR0913 - what is read, how it is treated, where it is put meanwhile
    sources: Sequence[Source],
    config: DataConfig,
    *,
    edits: Sequence[EditSet] = (),
    tokenizer: Tokenizer | None,
    max_tokens: int | None,
    scores: Sequence[RowQuality] = (),
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
        scores: Of rows under a base model, where some are selected by them.
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
            _Deduplication(curated).run()
        with progress.task("Splitting", None):
            _split(curated, scores)
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
        flawed: list[tuple[RawRow, tuple[Flaw, ...]]] = []
        tasks = (
            ChunkTask(sources[i].settings, reading.mapped, raw, config, filtered=not edits)
            for raw in reading.chunks()
        )
        for result in spread(clean_chunk, tasks, engine=config.engine):
            curated.unread += result.unusable
            curated.masked.update(result.masked)
            flawed += result.flawed
            if edits:
                waiting.append((i, result))
            else:
                rows.add(_measured(result.rows, measure), i)
        counts[i] = SourceCount(reading.rows, reading.mapped.shape)
        curated.unread += _judge_flawed(flawed, sources[i], reading.rows, config)
        reading.check()
    if edits:
        _edit(curated, waiting, edits, measure)
    rows.finish()
    curated.counts = [counts[i] for i in range(len(sources))]
    kept = np.asarray(rows.column("reason").is_null().to_numpy(), dtype=bool)
    curated.kept = np.flatnonzero(kept)
    bad = sum(d.reason == "bad_row" for d in curated.unread)
    if bad:
        curated.warnings.append(f"{bad:,} rows could not be understood; each is kept among the dropped rows")
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
    curated.unread += edited.dropped
    curated.changed += edited.changed
    stay, at, start = edited.stay, 0, 0
    for (source, result), chunk in zip(waiting, chunks, strict=True):
        end = at
        while end < len(stay) and stay[end] < start + len(chunk):
            end += 1
        inside = [i - start for i in stay[at:end]]
        keys, draws = (result.rows[name].to_pylist() for name in ("group_keys", "draw"))
        examples = edited.examples[at:end]
        rows = encode_rows(
            examples,
            [content_sha256(e.messages, e.rejected) for e in examples],
            [keys[i] for i in inside],
            [draws[i].hex() for i in inside] if result.rows["draw"].null_count == 0 else None,
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


def _judge_flawed(
    flawed: Sequence[tuple[RawRow, tuple[Flaw, ...]]], source: Source, rows: int, config: DataConfig
) -> list[Dropped]:
    """Return rows that could not be understood as dropped ones, or refuse them.

    Raises:
        ConfigError: The settings are strict, or as many rows are bad as good: then the mapping is wrong.
    """
    if not flawed:
        return []
    if config.strict or 2 * len(flawed) >= rows:
        flaws = FlawList(source.name)
        for raw, what in flawed:
            flaws.add(raw.number, what)
        flaws.raise_if_any()
    dropped = []
    for raw, what in flawed:
        detail = "; ".join(f"{f.field}: {f.value}; {f.fix}" for f in what)
        dropped.append(dropped_row(source.name, raw.number, Drop("bad_row", detail), dict(raw.values)))
    return masked_texts(dropped, config)


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
    counts = curated.dropped_counts()
    return ", ".join(f"{n:,} {r}" for r, n in sorted(counts.items(), key=lambda c: (-c[1], c[0])))


class _Deduplication:
    """Removes repeats, tells the label set, and finds which rows must share a split."""

    def __init__(self, curated: Curated) -> None:
        self._curated = curated
        self._clean = curated.config.clean

    def run(self) -> None:
        curated, clean = self._curated, self._clean
        split = curated.config.split
        same_prompt = self._exact()
        check_rows(len(curated.kept), splitting=bool(split.test or split.validation))
        curated.labels = self._labels()
        near, keepers = self._near()
        # From here on rows go by their place among those that are left.
        place = np.full(len(curated.rows), -1, dtype=np.int64)
        place[curated.kept] = np.arange(len(curated.kept))
        links = place[same_prompt]
        near = Pairs(place[near.first], place[near.second], near.similarity)
        tied = self._tied()
        count, strict = len(curated.kept), clean.near_threshold
        largest = max(_LARGEST_GROUP, count // _LARGEST_GROUP_SHARE)
        if by_hash(split):
            same = Pairs(links[:, 0], links[:, 1], np.ones(len(links)))
            every = Pairs(*(np.concatenate(columns) for columns in zip(same, near, strict=True)))
            roots, curated.apart = follow_earliest(count, tied, every, largest=largest, strict=strict)
        else:
            roots = group_rows(count, np.concatenate([links, tied]), near, largest=largest, strict=strict)
        curated.groups = curated.kept[roots]
        curated.apart = Pairs(
            curated.kept[curated.apart.first], curated.kept[curated.apart.second], curated.apart.similarity
        )
        curated.drop(keepers)

    def _exact(self) -> Integers:
        """Remove rows whose prompt and answer repeat an earlier row's; return pairs of equal prompts.

        Prompts are compared by fingerprint, answers letter by letter. Equal prompts with different answers
        both stay: which of them is right is for a person to say.
        """
        curated = self._curated
        kept = curated.kept
        first = first_of_key(curated.rows.numbers("row_key")[kept])
        repeats = np.flatnonzero(first != np.arange(len(kept)))
        same = first_of_key(curated.rows.numbers("prompt_key")[kept])
        others = np.flatnonzero((same != np.arange(len(kept))) & (first == np.arange(len(kept))))
        if len(others):
            curated.warnings.append(self._conflicts(kept[same[others]], kept[others]))
        if self._clean.exact_duplicates:
            curated.drop(
                {
                    int(kept[i]): Drop("exact_duplicate", f"repeats {curated.where(int(kept[first[i]]))}")
                    for i in repeats
                }
            )
        else:
            others = np.flatnonzero(same != np.arange(len(kept)))
        return np.stack([kept[same[others]], kept[others]], axis=1)

    def _conflicts(self, first: Integers, second: Integers) -> str:
        number = self._curated.row_number
        shown = [f"rows {number(a)} and {number(b)}" for a, b in zip(first[:5], second[:5], strict=True)]
        more = f" and {len(first) - 5} more" if len(first) > 5 else ""
        what = "1 prompt has" if len(first) == 1 else f"{len(first)} prompts have"
        listed = ", ".join(shown) + more
        return f"{what} different answers in different rows ({listed}); all are kept, in one split"

    def _labels(self) -> tuple[str, ...] | None:
        curated = self._curated
        mode = curated.config.labels
        if len(curated.rows.column("rejected").drop_null()):
            return None
        answers = curated.rows.numbers("answer_key")
        if mode == "auto" and len(np.unique(answers[curated.kept])) > _MOST_CLASSES_LOOKED_AT:
            return None
        _, first, curated.answer_codes = np.unique(answers, return_index=True, return_inverse=True)
        curated.answers = curated.rows.references(first)
        return find_labels([curated.answers[c] for c in curated.answer_codes[curated.kept].tolist()], mode)

    def _near(self) -> tuple[Pairs, dict[int, Drop]]:
        """Return similar pairs by position, and the rows that repeat an earlier one."""
        curated, clean = self._curated, self._clean
        none = np.empty(0, dtype=np.int64)
        if clean.near_duplicates == "off":
            return Pairs(none, none, np.empty(0)), {}
        # Equal prompts are the exact search's business: what it left stays, because the answers differ.
        texts = curated.rows.numbers("text_key")[curated.kept]
        first = first_of_key(texts)
        originals = curated.kept[np.flatnonzero(first == np.arange(len(first)))]
        repeats = np.flatnonzero(first != np.arange(len(first)))
        same = Pairs(curated.kept[first[repeats]], curated.kept[repeats], np.ones(len(repeats)))
        sketch = self._sketch(originals)
        pairs = close_pairs(sketch, clean.group_threshold)
        drops = {}
        if clean.near_duplicates == "drop":
            keepers = near_keepers(pairs, self._answers(originals), sketch, drop_from=clean.near_threshold)
            for second, keeper in keepers.items():
                where = curated.where(int(originals[keeper.row]))
                drops[int(originals[second])] = Drop(
                    "near_duplicate", f"{keeper.similarity:.0%} like {where}, with the same answer"
                )
        near = Pairs(originals[pairs.first], originals[pairs.second], pairs.similarity)
        return Pairs(*(np.concatenate(columns) for columns in zip(same, near, strict=True))), drops

    def _sketch(self, originals: Integers) -> Sketch:
        rows = self._curated.rows
        sample = originals[:: max(1, len(originals) // SAMPLE)]
        common = common_shingles(rows.column("text").take(sample).to_pylist())
        tasks = (SketchTask(texts, common) for texts in rows.texts(originals))
        sketches = spread(sketch_texts, tasks, engine=self._curated.config.engine)
        characters = pc.sum(pc.utf8_length(rows.column("text"))).as_py()
        return combined(sketches, texts=len(originals), characters=characters)

    def _answers(self, originals: Integers) -> Answers:
        rows = self._curated.rows
        numbers, turns, exact = (rows.numbers(n)[originals] for n in ("numbers_key", "turns", "answer_key"))
        if self._curated.labels is not None:
            return Answers(numbers, turns, exact, None)

        def texts(i: int) -> Sequence[str]:
            (example,) = rows.examples([int(originals[i])])
            return (example.reference, example.rejected or "")

        return Answers(numbers, turns, exact, texts)

    def _tied(self) -> Integers:
        """Return pairs, by place among the kept rows, that tie together the rows of each mapped group."""
        keys = self._curated.rows.column("group_keys").take(self._curated.kept).combine_chunks()
        rows, values = pc.list_parent_indices(keys).to_numpy(), pc.list_flatten(keys)
        if not len(values):
            return np.empty((0, 2), dtype=np.int64)
        codes = values.dictionary_encode().indices.to_numpy()
        return np.stack([rows[first_of_key(codes.astype(np.uint64))], rows], axis=1)


def _split(curated: Curated, scores: Sequence[RowQuality]) -> None:
    config = curated.config
    pinned = _pinned(curated)
    names = _group_names(curated)
    if config.split.by_time is not None:
        result = assign_by_time(names, _times(curated, config.split.by_time), config.split, pinned)
    else:
        result = assign(names, _strata(curated), config.split, pinned)
    curated.warnings += result.warnings
    curated.splits = np.array([SPLITS.index(s) for s in result.splits], dtype=np.int8)
    _part(curated)
    _drop_told(curated)
    for i, source in enumerate(config.sources):
        if source.limit_per_class is not None:
            curated.drop(_surplus(curated, i, source))
    if config.select is not None:
        curated.drop(_not_selected(curated, config.select, scores))
    if curated.labels is not None:
        curated.warnings += label_warnings(
            curated.row_labels(), [SPLITS[s] for s in curated.splits], curated.labels
        )


def _strata(curated: Curated) -> list[str | None]:
    """Return what each kept row is stratified by, None throughout for nothing."""
    stratify = curated.config.split.stratify
    if stratify == "auto":
        stratify = "none" if curated.labels is None else "label"
    if stratify == "none":
        return [None] * len(curated.kept)
    columns = ("label",) if isinstance(stratify, str) else stratify
    if "label" in columns and curated.labels is None:
        raise ConfigError(
            "split.stratify is 'label', but the answers are open text", hint="set labels: closed"
        )
    labels = curated.row_labels()
    if columns == ("label",):
        return labels
    about = curated.metadata()
    return [
        canonical_json([label if c == "label" else row.get(c) for c in columns])
        for label, row in zip(labels, about, strict=True)
    ]


def _times(curated: Curated, column: str) -> list[float]:
    """Return the time of each kept row.

    Raises:
        ConfigError: A row has none, or one that is neither a number nor a date; lists the first ten.
    """
    times, problems = [], []
    for position, row in zip(curated.kept.tolist(), curated.metadata(), strict=True):
        value = row.get(column)
        try:
            times.append(_time(value))
        except ValueError:
            problems.append(f"{curated.where(position)}: {column} is {value!r:.40}, no number and no date")
    if problems:
        more = [f"and {len(problems) - 10:,} more"] if len(problems) > 10 else []
        raise ConfigError.of_problems("data.split.by_time", [*problems[:10], *more])
    return times


def _time(value: object) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    text = str(value or "").strip()
    try:
        return float(text)
    except ValueError:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _group_names(curated: Curated) -> list[str]:
    """Name each row's group after what does not change when answers or system prompts do.

    That is the mapped group where there is one, else the prompt of the group's first row: a label that is put
    right does not move a row to another split.
    """
    texts = curated.rows.numbers("text_key")
    roots, back = np.unique(curated.groups, return_inverse=True)
    keys = curated.rows.column("group_keys").take(roots).to_pylist()
    names = [
        f"group:{mapped[0]}" if mapped else f"prompt:{text:016x}"
        for mapped, text in zip(keys, texts[roots].tolist(), strict=True)
    ]
    return [names[i] for i in back.tolist()]


def _pinned(curated: Curated) -> list[SplitName | None]:
    """Return the split that each row or its file decides; rows that repeat a held-out one are removed."""
    decided: list[SplitName | None] = [None if s.split == "auto" else s.split for s in curated.config.sources]
    hinted = curated.rows.column("hinted").to_numpy()
    if not any(decided) and not hinted.any():
        return [None] * len(curated.kept)
    sources = curated.rows.sources
    splits: list[SplitName | None] = [
        "train" if hinted[i] else decided[sources[i]] for i in curated.kept.tolist()
    ]
    held: dict[int, int] = {}
    for name in ("test", "validation"):
        for i, (group, split) in enumerate(zip(curated.groups.tolist(), splits, strict=True)):
            if split == name:
                held.setdefault(group, i)
    drops = {}
    for i, (group, split) in enumerate(zip(curated.groups.tolist(), splits, strict=True)):
        keeper = held.get(group)
        if keeper is not None and split != splits[keeper]:
            detail = f"resembles {curated.where(int(curated.kept[keeper]))}, which is held out"
            drops[int(curated.kept[i])] = Drop("held_out_elsewhere", detail)
    left = [s for i, s in zip(curated.kept.tolist(), splits, strict=True) if i not in drops]
    curated.drop(drops)
    return left


def _part(curated: Curated) -> None:
    """Remove the later of two similar rows that ended up in different splits."""
    pairs = curated.apart
    split_of = np.full(len(curated.rows), -1, dtype=np.int8)
    split_of[curated.kept] = curated.splits
    a, b = split_of[pairs.first], split_of[pairs.second]
    astride = pairs.where((a >= 0) & (b >= 0) & (a != b))
    order = np.argsort(astride.second, kind="stable")
    drops: dict[int, Drop] = {}
    for first, second in zip(astride.first[order].tolist(), astride.second[order].tolist(), strict=True):
        if first not in drops and second not in drops:
            where = f"{curated.where(first)}, which is in the {SPLITS[split_of[first]]} split"
            drops[second] = Drop("held_out_elsewhere", f"resembles {where}")
    curated.drop(drops)


def _drop_told(curated: Curated) -> None:
    """Remove synthetic rows made after a row that is held out now, in a draw other than the teacher saw."""
    made = np.flatnonzero(
        pc.match_substring(curated.rows.column("metadata"), f'"{SEED_PROMPTS}"').to_numpy()[curated.kept]
    )
    if not len(made):
        return
    held = np.flatnonzero(curated.splits != SPLITS.index("train"))
    texts = curated.rows.numbers("text_key")[curated.kept[held]].tolist()
    place = {f"{text:016x}": int(curated.kept[i]) for text, i in zip(texts, held.tolist(), strict=True)}
    drops = {}
    for i, example in zip(made.tolist(), curated.rows.examples(curated.kept[made]), strict=True):
        prints = example.metadata.get(SEED_PROMPTS, ())
        seed = next((place[p] for p in prints if p in place), None)
        if seed is not None:
            drops[int(curated.kept[i])] = Drop(
                "seed_held_out", f"was made after {curated.where(seed)}, which is held out"
            )
    curated.drop(drops)


def _surplus(curated: Curated, position: int, source: SourceConfig) -> dict[int, Drop]:
    """Return the training rows of a source beyond its limit per class, drawn by hash."""
    limit, seed = source.limit_per_class, curated.config.split.seed
    if curated.labels is None:
        raise ConfigError(
            f"{source.path}: limit_per_class needs classes, but the answers are open text",
            hint="use limit: for a number of rows, or set labels: closed",
        )
    train = SPLITS.index("train")
    mine = np.flatnonzero((curated.splits == train) & (curated.rows.sources[curated.kept] == position))
    ids, labels = curated.ids(), curated.row_labels()
    classes: dict[str | None, list[int]] = {}
    for i in mine.tolist():
        classes.setdefault(labels[i], []).append(i)
    drop = Drop("over_limit", f"the source is limited to {limit} training rows of each class")
    return {
        int(curated.kept[i]): drop
        for members in classes.values()
        for i in sorted(members, key=lambda i: draw_key(seed, "class", ids[i]))[limit:]
    }


def _not_selected(curated: Curated, settings: SelectConfig, scores: Sequence[RowQuality]) -> dict[int, Drop]:
    """Return the training rows that are not among those chosen."""
    from tunery.data.select import choose

    examples = curated.rows.examples(curated.kept)
    columns = Columns(
        ids=curated.ids(),
        prompts=["\n".join(m.content for m in e.prompt if m.role != "system") for e in examples],
        answers=[e.reference for e in examples],
        rejected=[e.rejected for e in examples],
        labels=curated.row_labels(),
        splits=[SPLITS[s] for s in curated.splits],
        groups=[str(group) for group in curated.groups.tolist()],
        sources=[e.metadata["source"] for e in examples],
        rows=[e.metadata["row"] for e in examples],
    )
    found = merits(scores, columns.ids) if scores else None
    chosen = set(choose(columns, settings.rows, settings.by, scores=found, seed=settings.seed))
    drop = Drop("not_selected", f"is not among the {settings.rows:,} training rows chosen by {settings.by}")
    return {
        int(curated.kept[i]): drop
        for i, split in enumerate(columns.splits)
        if split == "train" and i not in chosen
    }
