"""Near-duplicates: how many planted edits are found, beside rensa's MinHash LSH on the same texts.

    python benchmarks/near_duplicates.py PATH/TO/toolformer-dedupe-only-dataset.json [--sample 1000]

The file is GPTeacher's toolformer set (MIT), a JSON list with instruction, input and output. A thousand rows
get a copy each in which one, two or three words are replaced by words from other rows. A copy is found when a
pair or a chain of pairs ties it to its original; a pair is false when its texts share less than the threshold
of their pieces, counted on the texts themselves. The peer uses rensa's RMinHash and RMinHashLSH plainly: sets
of four-character pieces, 128 permutations, 32 bands, no verification. Ours leaves out pieces that a fifth of
the rows share, so it judges rows by what is their own; `plain` counts them too.

The second table says how many rows are left when each row goes that is similar to an earlier kept one, beside
the sizes of the sets that GPTeacher's authors published (their measure is another, so the sizes need not
agree).

Needs the peer: pip install -c constraints.txt -e ".[bench]"
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from rensa import RMinHash, RMinHashLSH

from tunery.text.minhash import close_pairs, common_shingles, join, make_sketch
from tunery.text.sameness import words_alone

THRESHOLDS = (0.7, 0.8)
PUBLISHED = {0.9: 5959, 0.8: 4709, 0.7: 3487, 0.6: 2396}
Finder = Callable[[Sequence[str], float], list[tuple[int, int]]]


def ours(texts: Sequence[str], threshold: float) -> list[tuple[int, int]]:
    """As curation searches."""
    return _pairs(texts, threshold, common_shingles(texts))


def plain(texts: Sequence[str], threshold: float) -> list[tuple[int, int]]:
    """The same, boilerplate counted."""
    return _pairs(texts, threshold, np.empty(0, dtype=np.int32))


def _pairs(texts: Sequence[str], threshold: float, common: np.ndarray) -> list[tuple[int, int]]:
    found = close_pairs(make_sketch(texts, common), threshold)
    return list(zip(found.first.tolist(), found.second.tolist(), strict=True))


def rensa(texts: Sequence[str], threshold: float) -> list[tuple[int, int]]:
    """The peer's own index, queried for every text."""
    index = RMinHashLSH(threshold, 128, 32)
    found = []
    for i, text in enumerate(texts):
        sketch = RMinHash(128, 42)
        sketch.update(list(pieces(text)))
        found += [(j, i) for j in index.query(sketch)]
        index.insert(i, sketch)
    return found


def pieces(text: str) -> frozenset[str]:
    """Return the four-character pieces of a text."""
    return frozenset(text[i : i + 4] for i in range(max(1, len(text) - 3)))


def jaccard(a: str, b: str, common: frozenset[str]) -> float:
    """Return the share of common pieces, counted one by one."""
    one, two = pieces(a) - common, pieces(b) - common
    return len(one & two) / max(1, len(one | two))


def boilerplate(texts: Sequence[str]) -> frozenset[str]:
    """Return pieces that over a fifth of the texts have, counted one by one."""
    counts: dict[str, int] = {}
    for text in texts:
        for piece in pieces(text):
            counts[piece] = counts.get(piece, 0) + 1
    return frozenset(p for p, n in counts.items() if n > max(20, len(texts) / 5))


def main() -> None:
    """Plant, search, count, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--sample", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rows = json.loads(options.path.read_text(encoding="utf-8"))
    texts = [words_alone(f"{r['instruction']} {r['input']} {r['output']}") for r in rows]
    different = list(dict.fromkeys(texts))
    draw = random.Random(options.seed)
    draw.shuffle(different)
    originals = different[: options.sample]
    vocabulary = [word for text in different for word in text.split()]
    finders: dict[str, Finder] = {"ours": ours, "ours, plain": plain, "rensa": rensa}
    print(f"{'from':>5} {'edits':>5} {'who':<12} {'found':>6} {'pairs':>7} {'false':>6} {'seconds':>8}")
    for edits in (1, 2, 3):
        copies = [edited(text, edits, vocabulary, draw) for text in originals]
        every = originals + copies
        common = boilerplate(every)
        for threshold, (who, find) in itertools.product(THRESHOLDS, finders.items()):
            started = time.process_time()
            pairs = find(every, threshold)
            seconds = time.process_time() - started
            roots = join(len(every), np.array(pairs, dtype=np.int64).reshape(-1, 2))
            count = len(originals)
            found = sum(roots[i] == roots[i + count] for i in range(count)) / count
            sample = draw.sample(pairs, min(1000, len(pairs)))
            left_out = common if who == "ours" else frozenset()
            false = sum(jaccard(every[a], every[b], left_out) < threshold - 1e-3 for a, b in sample)
            settings = f"{threshold:>5} {edits:>5} {who:<12}"
            print(f"{settings} {found:>6.3f} {len(pairs):>7,} {false:>6} {seconds:>8.2f}", flush=True)
    print(f"\n{'similarity':>10} {'ours':>6} {'plain':>6} {'published':>9}")
    for threshold, size in PUBLISHED.items():
        left = [kept(texts, find(texts, threshold)) for find in (ours, plain)]
        print(f"{threshold:>10} {left[0]:>6,} {left[1]:>6,} {size:>9,}", flush=True)


def edited(text: str, edits: int, vocabulary: Sequence[str], draw: random.Random) -> str:
    """Return a text with some words replaced."""
    words = text.split()
    for place in draw.sample(range(len(words)), min(edits, len(words))):
        words[place] = draw.choice(vocabulary)
    return " ".join(words)


def kept(texts: Sequence[str], pairs: Sequence[tuple[int, int]]) -> int:
    """Return how many texts stay when each that resembles an earlier kept one goes."""
    gone: set[int] = set()
    for first, second in sorted(pairs, key=lambda p: (p[1], p[0])):
        if first not in gone:
            gone.add(second)
    return len(texts) - len(gone)


if __name__ == "__main__":
    main()
