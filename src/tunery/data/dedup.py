"""Duplicates: rows that say what an earlier row says, and groups that must share a split."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tunery.core.example import Example
from tunery.core.ids import sha256_text
from tunery.data.normalise import fingerprint
from tunery.data.rows import Drop
from tunery.data.similarity import Pair, jaccard, shingles, similar_pairs

_NUMBER = re.compile(r"\d+")


class Repeats(NamedTuple):
    """What a search for repeats found, by position among the examples."""

    drops: dict[int, Drop]
    """Rows to remove, and why."""
    pairs: list[Pair]
    """Rows that belong together; the first of an exact search's pairs is never one to remove."""


def prompt_text(example: Example) -> str:
    """Return what was said before the answer, system turns left out: they are the same for all rows."""
    return "\n".join(m.content for m in example.prompt if m.role != "system")


def prompt_print(example: Example) -> str:
    """Return 16 hex digits that prompts have in common which differ in case, spacing or punctuation only."""
    return sha256_text(fingerprint(prompt_text(example)))[:16]


def exact_repeats(examples: Sequence[Example]) -> Repeats:
    """Find rows whose prompt and answer repeat an earlier row's.

    Prompts are compared by fingerprint, answers letter by letter. Equal prompts with different answers are
    paired but both stay: which of them is right is for a person to say.
    """
    keepers: dict[tuple[str, ...], int] = {}
    first_of_prompt: dict[str, int] = {}
    drops: dict[int, Drop] = {}
    pairs: list[Pair] = []
    for i, example in enumerate(examples):
        prompt = _prompt_key(example)
        keeper = keepers.setdefault((prompt, example.reference, example.rejected or ""), i)
        if keeper != i:
            drops[i] = Drop("exact_duplicate", f"repeats {where(examples[keeper])}")
        same_prompt = first_of_prompt.setdefault(prompt, i)
        if same_prompt != i:
            pairs.append(Pair(same_prompt, i, 1.0))
    return Repeats(drops, pairs)


def _prompt_key(example: Example) -> str:
    return "\n".join(f"{m.role}:{fingerprint(m.content)}" for m in example.prompt)


def where(example: Example) -> str:
    """Return where an example came from, for a message."""
    return f"row {example.metadata['row']} of {example.metadata['source']}"


def near_repeats(examples: Sequence[Example], *, drop_from: float | None, link_from: float) -> Repeats:
    """Find rows whose prompt resembles an earlier row's.

    Args:
        examples: In row order.
        drop_from: Similarity from which a row is removed if its answer and its numbers are the same too; None
            removes nothing.
        link_from: Similarity from which two rows are paired.
    """
    prints = [fingerprint(prompt_text(e)) for e in examples]
    position: dict[str, int] = {}
    same = []
    for i, text in enumerate(prints):
        first = position.setdefault(text, i)
        if first != i:
            same.append(Pair(first, i, 1.0))
    originals = list(position.values())
    near = [
        Pair(originals[p.first], originals[p.second], p.similarity)
        for p in similar_pairs([prints[i] for i in originals], link_from)
    ]
    # Equal prompts are the exact search's business: what it left stays, because the answers differ.
    drops = {} if drop_from is None else _near_drops(examples, prints, near, drop_from)
    return Repeats(drops, same + near)


def _near_drops(
    examples: Sequence[Example], prints: Sequence[str], pairs: Iterable[Pair], drop_from: float
) -> dict[int, Drop]:
    """Remove a row when an earlier kept row says the same; never by way of a third row only."""
    keeper_of: dict[int, int] = {}
    drops: dict[int, Drop] = {}
    for pair in sorted(pairs, key=lambda p: (p.second, p.first)):
        if pair.second in drops or pair.similarity < drop_from:
            continue
        keeper = keeper_of.get(pair.first, pair.first)
        similarity = pair.similarity
        if keeper != pair.first:
            similarity = jaccard(shingles(prints[keeper]), shingles(prints[pair.second]))
        if similarity >= drop_from and _same_answer(examples[keeper], examples[pair.second], drop_from):
            keeper_of[pair.second] = keeper
            drops[pair.second] = Drop(
                "near_duplicate", f"{similarity:.0%} like {where(examples[keeper])}, with the same answer"
            )
    return drops


def _same_answer(a: Example, b: Example, threshold: float) -> bool:
    """Tell whether two similar prompts also have the same numbers and (nearly) the same answers."""
    if _numbers(a) != _numbers(b) or len(a.messages) != len(b.messages):
        return False
    if a.label is not None or b.label is not None:
        return a.label == b.label
    return all(
        x == y or jaccard(shingles(fingerprint(x)), shingles(fingerprint(y))) >= threshold
        for x, y in ((a.reference, b.reference), (a.rejected or "", b.rejected or ""))
    )


def _numbers(example: Example) -> list[str]:
    texts = [m.content for m in example.messages if m.role != "system"]
    return sorted(_NUMBER.findall("\n".join(texts)))


def group_rows(
    count: int, firm: Iterable[tuple[int, int]], near: Sequence[Pair], *, largest: int, strict: float
) -> list[int]:
    """Return for each row the first row of the group it shares a split with.

    Similarity is not transitive: a chain of rewordings can tie half a dataset of one template together, and
    then nothing could be held out. Inside a group of more than ``largest`` rows only ``strict`` pairs hold.

    Args:
        count: Rows.
        firm: Pairs that must stay together whatever the group's size.
        near: Similar pairs.
        largest: Group size from which similarity must be strict [rows].
        strict: Similarity that holds in large groups too.
    """
    firm = list(firm)
    roots = join(count, [*firm, *((p.first, p.second) for p in near)])
    sizes = Counter(roots)
    held = [p for p in near if sizes[roots[p.first]] <= largest or p.similarity >= strict]
    if len(held) == len(near):
        return roots
    return join(count, [*firm, *((p.first, p.second) for p in held)])


def join(count: int, links: Iterable[tuple[int, int]]) -> list[int]:
    """Return for each of ``count`` rows the first row of its connected group.

    >>> join(4, [(0, 2), (2, 3)])
    [0, 1, 0, 0]
    """
    parent = list(range(count))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for a, b in links:
        low, high = sorted((root(a), root(b)))
        parent[high] = low
    return [root(i) for i in range(count)]
