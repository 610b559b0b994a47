"""Contamination: training texts that share a run of words with held-out or benchmark texts."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from tunery.core.columns import Columns
from tunery.core.figures import counted, listed_counts
from tunery.core.finding import Finding, FindingKind
from tunery.inspect.evidence import Case, closed, drops, finding
from tunery.text.sameness import words_alone

_KNOWN_TEXTS = FindingKind(
    "contamination",
    "Benchmark texts in training",
    "high",
    "Take the training rows out before you compare with results on those texts.",
)
_HELD_OUT_TEXTS = FindingKind(
    "split_overlap",
    "Held-out texts in training",
    "high",
    "Take the training rows out, or give rows that share texts one group.",
)
KINDS = (_KNOWN_TEXTS, _HELD_OUT_TEXTS)

_COMMON = 10
"""A run of words in more training rows than this is a phrase or a template, not a copied text [rows]."""
_WHOLE_WORDS = 4
"""A reference text of fewer words matches by chance [words]."""


_Texts = Sequence[tuple[str, ...]]
"""Texts of each row that are compared, the prompt first."""


class _Hit(NamedTuple):
    row: int
    reference: str
    """Its name."""
    words: str
    """The run that both have."""


def find(
    columns: Columns, references: Iterable[tuple[str, Iterable[str]]] = (), *, overlap_words: int = 13
) -> Iterator[Finding]:
    """Find training rows that share a run of words with the held-out splits or with reference texts.

    Words stand alone: case and punctuation do not count. A reference text with fewer words
    than a run counts where a training text is the same as a whole, if it has four words at least. A run that
    more than ten training rows have is a template or a phrase and does not count. Reference runs are hashed
    once and each training text is read once, so time is linear in the number of words. Of a closed set of
    classes only prompts are read.

    Returns:
        ``contamination``: overlap with a reference. ``split_overlap`` (medium where training rows of less
        than a tenth of the held-out rows' number are concerned): overlap with a held-out split. Edits take
        out the training rows.

    Source:
        Brown et al. (2020), arXiv 2005.14165, appendix C: 13 words, and runs in more than ten training
        documents left out.
    """
    held = [i for i, split in enumerate(columns.splits) if split != "train"]
    texts: _Texts = [(prompt,) for prompt in columns.prompts]
    if not closed(columns):
        texts = list(zip(columns.prompts, columns.answers, strict=True))
    outside = ((name, text) for name, many in references for text in many)
    if hits := _hits(columns, texts, outside, overlap_words):
        yield _finding(columns, _KNOWN_TEXTS, hits, overlap_words, "{}")
    inside = ((columns.splits[i], text) for i in held for text in texts[i])
    if hits := _hits(columns, texts, inside, overlap_words):
        few = 10 * len({hit.row for hit in hits}) < len(held)
        kind = _HELD_OUT_TEXTS._replace(severity="medium") if few else _HELD_OUT_TEXTS
        yield _finding(columns, kind, hits, overlap_words, "held-out rows ({})")


def _finding(columns: Columns, kind: FindingKind, hits: Sequence[_Hit], words: int, what: str) -> Finding:
    rows = dict.fromkeys(hit.row for hit in hits)
    cases = [
        Case((hit.row,), hit.words, f"also in {hit.reference}; here {columns.where(hit.row)}") for hit in hits
    ]
    counts = Counter(name for _, name in {(hit.row, hit.reference) for hit in hits})
    message = (
        f"{counted(len(rows), 'training row shares', 'training rows share')} {counted(words, 'word')} in a "
        f"row, or a whole short text, with {what.format(listed_counts(counts, 5))}."
    )
    numbers = {"rows": len(rows), "references": dict(counts)}
    return finding(columns, kind, message, cases, edits=drops(columns, kind, rows), numbers=numbers)


def _hits(columns: Columns, texts: _Texts, references: Iterable[tuple[str, str]], words: int) -> list[_Hit]:
    """Return the first shared run of each training row with each reference."""
    names: dict[int, str] = {}
    whole: dict[str, str] = {}
    for name, text in references:
        split = words_alone(text).split()
        if len(split) >= words:
            for run in _runs(split, words):
                names.setdefault(run, name)
        elif len(split) >= _WHOLE_WORDS:
            whole.setdefault(" ".join(split), name)
    if not names and not whole:
        return []
    found: list[_Hit] = []
    runs_of: dict[int, list[tuple[int, int]]] = defaultdict(list)  # run to (row, place in found)
    for i, part in enumerate(columns.splits):
        if part != "train":
            continue
        for k, text in enumerate(texts[i]):
            split = words_alone(text).split()
            # A short answer ('Paris is the capital of France') is no copy; a short prompt is.
            if k == 0 and len(split) < words and (known := whole.get(" ".join(split))):
                found.append(_Hit(i, known, text))
            shared = [(n, run) for n, run in enumerate(_runs(split, words)) if run in names]
            for n, run in shared:
                runs_of[run].append((i, len(found)))
                found.append(_Hit(i, names[run], " ".join(split[n : n + words])))
    common = {
        place for hits in runs_of.values() if len({row for row, _ in hits}) > _COMMON for _, place in hits
    }
    first: dict[tuple[int, str], _Hit] = {}
    for place, hit in enumerate(found):
        if place not in common:
            first.setdefault((hit.row, hit.reference), hit)
    return list(first.values())


def _runs(split: Sequence[str], words: int) -> Iterator[int]:
    """Yield a hash of every run of that many words."""
    for n in range(len(split) - words + 1):
        yield hash(tuple(split[n : n + words]))
