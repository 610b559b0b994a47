"""Languages: which ones a dataset is in, rows in another, and answers in another than their prompt."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from tunery.core.columns import Columns
from tunery.core.figures import counted, listed_counts, percent, percent_of
from tunery.core.finding import Finding, FindingKind
from tunery.inspect.evidence import FEWEST_ROWS, Case, closed, finding, usual
from tunery.text.language import language

_CROSSED = FindingKind(
    "answer_language",
    "Answers in another language",
    "medium",
    "Answer in the prompt's language or take the rows out.",
)
_OUTLIER = FindingKind(
    "language_outlier",
    "Rows in another language",
    "medium",
    "Translate them, take them out, or add more rows of these languages if they are wanted.",
)
_MIX = FindingKind(
    "language_mix",
    "Several languages",
    "low",
    "Judge each language on test rows of its own; add rows where one is short.",
)
KINDS = (_CROSSED, _OUTLIER, _MIX)

_SHARE = 0.02
_NAMED = re.compile(
    r"\b(?:translat\w*|language|english|french|spanish|german|italian|portuguese|dutch|russian|chinese|mandarin|"
    r"japanese|korean|arabic|hindi|latin|greek|turkish|polish|swedish|norwegian|danish|finnish|czech|hebrew|"
    r"vietnamese|thai|indonesian|swahili|traduc\w*|tradui\w*|übersetz\w*|vertaal\w*|lyrics|poem|pronounce\w*)\b",
    re.I,
)


def find(columns: Columns, *, majority: float = 0.9) -> Iterator[Finding]:
    """Find which languages texts are in.

    Texts of 25 letters or more count whose language is clear; code, names and short questions do not. Rows
    that speak of a language or of translating are left alone.

    Of classes in a closed set only prompts are read.

    Returns:
        ``language_outlier``: rows in another language than almost all others; ``language_mix``: shares,
        where two languages have a fiftieth of the texts each, with a word on how unequal they are;
        ``answer_language``: answers in another language than their prompt, where almost all are in the same.
    """
    prompts = [language(text) for text in columns.prompts]
    answers = [None] * len(columns) if closed(columns) else [language(text) for text in columns.answers]
    found = usual(filter(None, prompts), majority)
    # A prompt too short to tell is taken to be in the language of almost all others.
    expected = [a or (found and found[0]) for a in prompts]
    both = [i for i in range(len(columns)) if expected[i] and answers[i]]
    crossed = [i for i in both if expected[i] != answers[i] and not _speaks_of_it(columns, i)]
    # Where only the answer tells, and it is odd, that is reported once: below.
    silent = {i for i in crossed if prompts[i] is None}
    known = [None if i in silent else a or b for i, (a, b) in enumerate(zip(prompts, answers, strict=True))]
    yield from _mix(columns, known, majority)
    # Answers of which no language can be told, such as sums, do not make the others odd.
    if crossed and len(crossed) <= (1 - majority) * sum(a is not None for a in expected):
        message = f"{counted(len(crossed), 'answer is', 'answers are')} in another language than the prompt."
        cases = [
            Case(
                (i,),
                f"{columns.prompts[i][:80]} / {columns.answers[i]}",
                f"prompt {expected[i]}, answer {answers[i]}",
            )
            for i in crossed
        ]
        yield finding(columns, _CROSSED, message, cases, numbers={"rows": len(crossed)})


def _mix(columns: Columns, known: Sequence[str | None], majority: float) -> Iterator[Finding]:
    counts = Counter(name for name in known if name is not None)
    total = counts.total()
    if total < FEWEST_ROWS or len(counts) < 2:
        return
    common, most = counts.most_common(1)[0]
    shares = {name: n / total for name, n in counts.most_common()}
    if most >= majority * total:
        odd = [i for i, n in enumerate(known) if n not in (None, common) and not _speaks_of_it(columns, i)]
        if odd:
            others = listed_counts(Counter(str(known[i]) for i in odd), 5)
            message = (
                f"{counted(len(odd), 'row is', 'rows are')} in another language than "
                f"{percent_of(most, total)} of the rows ({common}): {others}."
            )
            texts = [columns.prompts[i] if language(columns.prompts[i]) else columns.answers[i] for i in odd]
            cases = [Case((i,), text, f"looks like {known[i]}") for i, text in zip(odd, texts, strict=True)]
            numbers = {"usual": common, "counts": dict(counts)}
            yield finding(columns, _OUTLIER, message, cases, numbers=numbers)
    main = [name for name, share in shares.items() if share >= _SHARE]
    if len(main) > 1:
        named = ", ".join(f"{name} {percent(shares[name])}" for name in main[:8])
        times = most / counts[main[-1]]
        unequal = f"; {common} has {times:.0f} times the rows of {main[-1]}" if times > 3 else ""
        message = f"The rows are in {len(main)} languages: {named}{unequal}."
        yield finding(columns, _MIX, message, [], numbers={"counts": dict(counts), "shares": shares})


def _speaks_of_it(columns: Columns, i: int) -> bool:
    return bool(_NAMED.search(columns.prompts[i]))
