"""Curate: collected rows to examples with splits; every row is kept or dropped with a reason."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tunery.core.engine import Tokenizer
from tunery.core.errors import ConfigError
from tunery.core.example import Dropped, Example, SplitName
from tunery.core.progress import Progress, Task
from tunery.data.checks import filters
from tunery.data.cleaning import clean_drafts, to_example
from tunery.data.collect import Collected
from tunery.data.config import CleanConfig, DataConfig, PiiType, SourceConfig
from tunery.data.dedup import exact_repeats, group_rows, near_repeats, prompt_print, where
from tunery.data.draw import draw_key
from tunery.data.labels import find_labels, label_warnings
from tunery.data.pii import mask
from tunery.data.rows import SEED_PROMPTS, SPLIT_HINT, Drop, dropped_messages
from tunery.data.similarity import Pair
from tunery.data.split import assign, check_rows

_BATCH = 1000
_LARGEST_GROUP = 8
_LARGEST_GROUP_SHARE = 50
"""A similarity group may hold one row in fifty (eight at least) before only strict pairs hold it together."""


@dataclass(frozen=True, slots=True)
class Curated:
    """The outcome of curation, in reading order."""

    examples: list[Example]
    splits: list[SplitName]
    dropped: list[Dropped]
    masked: Mapping[PiiType, int]
    """Type of personal data to spans masked, in kept and dropped rows alike [count]."""
    labels: tuple[str, ...] | None
    warnings: list[str]


@dataclass(slots=True)
class _Bench:
    """Rows still in and rows already out: nothing leaves the first without entering the second."""

    examples: list[Example]
    dropped: list[Dropped]
    group_keys: list[str | None]
    """Value of the mapped group column, beside each example."""
    warnings: list[str] = field(default_factory=list)

    def drop(self, drops: Mapping[int, Drop]) -> list[int]:
        """Take out the examples at the given positions; return the positions that stay, ascending."""
        for i, drop in sorted(drops.items()):
            example = self.examples[i]
            source, row = example.metadata["source"], example.metadata["row"]
            self.dropped.append(dropped_messages(source, row, drop, example.messages, example.rejected))
        stay = [i for i in range(len(self.examples)) if i not in drops]
        self.examples = [self.examples[i] for i in stay]
        self.group_keys = [self.group_keys[i] for i in stay]
        return stay


def curate(
    collected: Sequence[Collected],
    config: DataConfig,
    *,
    tokenizer: Tokenizer | None,
    max_tokens: int | None,
    progress: Progress,
) -> Curated:
    """Clean, check, deduplicate and split collected rows.

    Args:
        collected: One entry per source, in the order of ``config.sources``.
        config: The data settings.
        tokenizer: Counts tokens; None skips the length check.
        max_tokens: Longest example kept [tokens]; None skips the check.
        progress: Where steps are reported to.

    Raises:
        ConfigError: Nothing is left, too little to split, or one class only.
    """
    held_out = [s.split in ("validation", "test") for s in config.sources]
    # Files held out as a whole come first, so that of two equal rows theirs is the one that stays.
    first = sorted(range(len(collected)), key=lambda i: not held_out[i])
    drafts = [d for i in first for d in collected[i].drafts]
    clean = config.clean
    masked: Counter[PiiType] = Counter()
    with progress.task("Cleaning rows", 2 * len(drafts)) as task:
        drafts = clean_drafts(drafts, clean, masked, task)
        bench = _Bench(
            [to_example(d, config.system_prompt) for d in drafts],
            [d for c in collected for d in c.dropped],
            [d.group_key for d in drafts],
        )
        _filter(bench, clean, tokenizer, max_tokens, task)
    if not bench.examples:
        reasons = ", ".join(f"{n:,} {r}" for r, n in Counter(d.reason for d in bench.dropped).most_common())
        raise ConfigError(f"no row is left after cleaning: {reasons}")
    with progress.task("Finding duplicates", None):
        labels = _deduplicate(bench, config)
    splits = _split(bench, config, labels)
    if labels is not None:
        bench.warnings += label_warnings(bench.examples, splits, labels)
    dropped = _sorted_dropped(bench.dropped, config)
    return Curated(bench.examples, splits, dropped, dict(masked), labels, bench.warnings)


def _filter(
    bench: _Bench, clean: CleanConfig, tokenizer: Tokenizer | None, max_tokens: int | None, task: Task
) -> None:
    chain = filters(clean, tokenizer, max_tokens)
    drops: dict[int, Drop] = {}
    for start in range(0, len(bench.examples), _BATCH):
        batch = list(enumerate(bench.examples[start : start + _BATCH], start=start))
        for step in chain:
            verdicts = step.judge([e for _, e in batch])
            drops.update((i, v) for (i, _), v in zip(batch, verdicts, strict=True) if v)
            batch = [(i, e) for i, e in batch if i not in drops]
        task.advance(min(_BATCH, len(bench.examples) - start))
    bench.drop(drops)


def _deduplicate(bench: _Bench, config: DataConfig) -> tuple[str, ...] | None:
    """Remove repeats, tell the label set, and give every example its label and its group."""
    clean = config.clean
    exact = exact_repeats(bench.examples)
    conflicts = [p for p in exact.pairs if p.second not in exact.drops]
    if conflicts:
        bench.warnings.append(_conflicts(bench.examples, conflicts))
    firm = [(p.first, p.second) for p in exact.pairs]
    if clean.exact_duplicates:
        place = {old: new for new, old in enumerate(bench.drop(exact.drops))}
        firm = [(place[p.first], place[p.second]) for p in conflicts]
    check_rows(len(bench.examples), splitting=bool(config.split.test or config.split.validation))
    labels = None
    if not any(e.rejected is not None for e in bench.examples):
        labels = find_labels([e.reference for e in bench.examples], config.labels)
    if labels is not None:
        bench.examples = [e.model_copy(update={"label": e.reference}) for e in bench.examples]
    near: list[Pair] = []
    drops: dict[int, Drop] = {}
    if clean.near_duplicates != "off":
        drop_from = clean.near_threshold if clean.near_duplicates == "drop" else None
        drops, near = near_repeats(bench.examples, drop_from=drop_from, link_from=clean.group_threshold)
    roots = group_rows(
        len(bench.examples),
        [*firm, *_same_key(bench.group_keys)],
        near,
        largest=max(_LARGEST_GROUP, len(bench.examples) // _LARGEST_GROUP_SHARE),
        strict=clean.near_threshold,
    )
    names = [bench.examples[root].id for root in roots]
    stay = bench.drop(drops)
    bench.examples = [
        e.model_copy(update={"group": names[i]}) for i, e in zip(stay, bench.examples, strict=True)
    ]
    return labels


def _conflicts(examples: Sequence[Example], pairs: Sequence[Pair]) -> str:
    shown = [
        f"rows {examples[p.first].metadata['row']} and {examples[p.second].metadata['row']}"
        for p in pairs[:5]
    ]
    more = f" and {len(pairs) - 5} more" if len(pairs) > 5 else ""
    what = "1 prompt has" if len(pairs) == 1 else f"{len(pairs)} prompts have"
    return (
        f"{what} different answers in different rows ({', '.join(shown)}{more}); all are kept, in one split"
    )


def _same_key(keys: Sequence[str | None]) -> list[tuple[int, int]]:
    """Return pairs that tie together the rows of each mapped group."""
    first: dict[str, int] = {}
    return [(first.setdefault(key, i), i) for i, key in enumerate(keys) if key is not None]


def _split(bench: _Bench, config: DataConfig, labels: tuple[str, ...] | None) -> list[SplitName]:
    by_label = config.split.stratify == "label" or (config.split.stratify == "auto" and labels is not None)
    if by_label and labels is None:
        raise ConfigError(
            "split.stratify is 'label', but the answers are open text", hint="set labels: closed"
        )
    pinned = _pinned(bench, config)
    strata = [e.label if by_label else None for e in bench.examples]
    result = assign([e.group for e in bench.examples], strata, config.split, pinned)
    bench.warnings += result.warnings
    stay = bench.drop(_told_of_held_out(bench.examples, result.splits))
    splits = [result.splits[i] for i in stay]
    for source in config.sources:
        if source.limit_per_class is not None:
            surplus = _surplus(bench.examples, splits, source, config.split.seed, labels)
            stay = bench.drop(surplus)
            splits = [splits[i] for i in stay]
    bench.examples = _unique_ids(bench.examples)
    return splits


def _pinned(bench: _Bench, config: DataConfig) -> list[SplitName | None]:
    """Return the split that each row or its file decides; rows that repeat a held-out one are removed."""
    decided: dict[str, SplitName] = {s.path: s.split for s in config.sources if s.split != "auto"}
    splits: list[SplitName | None] = [
        "train" if SPLIT_HINT in e.metadata else decided.get(e.metadata["source"]) for e in bench.examples
    ]
    if not any(splits):
        return splits
    held: dict[str, int] = {}
    for name in ("test", "validation"):
        for i, (example, split) in enumerate(zip(bench.examples, splits, strict=True)):
            if split == name:
                held.setdefault(example.group, i)
    drops = {}
    for i, (example, split) in enumerate(zip(bench.examples, splits, strict=True)):
        keeper = held.get(example.group)
        if keeper is not None and split != splits[keeper]:
            detail = f"resembles {where(bench.examples[keeper])}, which is held out"
            drops[i] = Drop("held_out_elsewhere", detail)
    return [splits[i] for i in bench.drop(drops)]


def _told_of_held_out(examples: Sequence[Example], splits: Sequence[SplitName]) -> dict[int, Drop]:
    """Return synthetic rows made after a row that is held out now, in a draw other than the teacher saw."""
    made = [i for i, e in enumerate(examples) if SEED_PROMPTS in e.metadata]
    if not made:
        return {}
    held = {prompt_print(e): e for e, split in zip(examples, splits, strict=True) if split != "train"}
    drops = {}
    for i in made:
        seed = next((held[p] for p in examples[i].metadata[SEED_PROMPTS] if p in held), None)
        if seed is not None:
            drops[i] = Drop("seed_held_out", f"was made after {where(seed)}, which is held out")
    return drops


def _surplus(
    examples: Sequence[Example],
    splits: Sequence[SplitName],
    source: SourceConfig,
    seed: int,
    labels: tuple[str, ...] | None,
) -> dict[int, Drop]:
    """Return the training rows of a source beyond its limit per class, drawn by hash."""
    limit = source.limit_per_class
    if labels is None:
        raise ConfigError(
            f"{source.path}: limit_per_class needs classes, but the answers are open text",
            hint="use limit: for a number of rows, or set labels: closed",
        )
    classes: dict[str | None, list[int]] = defaultdict(list)
    for i, (example, split) in enumerate(zip(examples, splits, strict=True)):
        if split == "train" and example.metadata["source"] == source.path:
            classes[example.label].append(i)
    drop = Drop("over_limit", f"the source is limited to {limit} training rows of each class")
    return {
        i: drop
        for members in classes.values()
        for i in sorted(members, key=lambda i: draw_key(seed, "class", examples[i].id))[limit:]
    }


def _unique_ids(examples: Sequence[Example]) -> list[Example]:
    """Return examples with a number added to the id of each one whose content occurred before."""
    seen: Counter[str] = Counter()
    unique = []
    for example in examples:
        seen[example.id] += 1
        count = seen[example.id]
        unique.append(example if count == 1 else example.model_copy(update={"id": f"{example.id}-{count}"}))
    return unique


def _sorted_dropped(dropped: Sequence[Dropped], config: DataConfig) -> list[Dropped]:
    """Return dropped rows in reading order, their texts masked like those of kept rows."""
    order = {s.path: i for i, s in enumerate(config.sources)}
    in_order = sorted(dropped, key=lambda d: (order[d.source], d.row))
    if not config.clean.mask_pii:
        return in_order
    texts = mask([d.text for d in in_order], config.clean.pii_types).texts
    return [
        d if d.text == text else d.model_copy(update={"text": text})
        for d, text in zip(in_order, texts, strict=True)
    ]
