"""Languages: which ones a dataset is in, rows in another, and answers in another than their prompt."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from tunery.core.columns import Columns
from tunery.core.figures import counted, listed_counts, percent_of
from tunery.core.finding import Finding
from tunery.inspect.evidence import Case, Verdict, closed, made
from tunery.text.language import language

_ROWS = 20
_SHARE = 0.02
_NAMED = re.compile(
    r"\b(?:translat\w*|language|english|french|spanish|german|italian|portuguese|dutch|russian|chinese|mandarin|"
    r"japanese|korean|arabic|hindi|latin|greek|turkish|polish|swedish|norwegian|danish|finnish|czech|hebrew|"
    r"vietnamese|thai|indonesian|swahili|traduc\w*|tradui\w*|übersetz\w*|vertaal\w*|lyrics|poem|pronounce\w*)\b",
    re.I,
)


def language_mix(columns: Columns, *, majority: float = 0.9) -> list[Finding]:
    """Find which languages texts are in.

    Told are texts of 25 letters or more whose language is clear; code, names and short questions are not.
    Rows that speak of a language or of translating are left alone.

    Args:
        columns: The rows; of classes in a closed set only prompts are read.
        majority: Share of the texts in one language from which the others are outliers, in (0.5, 1].

    Returns:
        ``language_outlier`` (medium): rows in another language than almost all others; ``language_mix``
        (low): shares, where two languages have a fiftieth of the texts each, with a word on how unequal they
        are; ``answer_language`` (medium): answers in another language than their prompt, where almost all
        are in the same.
    """
    prompts = [language(text) for text in columns.prompts]
    answers = [None] * len(columns) if closed(columns) else [language(text) for text in columns.answers]
    usual = _majority(prompts, majority)
    # A prompt too short to tell is taken to be in the language of almost all others.
    asked = [a or usual for a in prompts]
    both = [i for i in range(len(columns)) if asked[i] and answers[i]]
    crossed = [i for i in both if asked[i] != answers[i] and not _speaks_of_it(columns, i)]
    # Where only the answer tells, and it is odd, that is said once: below.
    silent = {i for i in crossed if prompts[i] is None}
    told = [None if i in silent else a or b for i, (a, b) in enumerate(zip(prompts, answers, strict=True))]
    found = _mix(columns, told, majority)
    # Answers of which no language can be told, such as sums, do not make the others odd.
    if crossed and len(crossed) <= (1 - majority) * sum(a is not None for a in asked):
        message = f"{counted(len(crossed), 'answer is', 'answers are')} in another language than the prompt."
        cases = [
            Case(
                (i,),
                f"{columns.prompts[i][:80]} / {columns.answers[i]}",
                f"prompt {asked[i]}, answer {answers[i]}",
            )
            for i in crossed
        ]
        verdict = Verdict(
            "answer_language", "medium", message, "Answer in the prompt's language or take the rows out."
        )
        found.append(made(columns, verdict, cases, numbers={"rows": len(crossed)}))
    return found


def _majority(told: Sequence[str | None], share: float) -> str | None:
    counts = Counter(name for name in told if name is not None)
    name, most = counts.most_common(1)[0] if counts else (None, 0)
    return name if counts.total() >= _ROWS and most >= share * counts.total() else None


def _mix(columns: Columns, told: Sequence[str | None], majority: float) -> list[Finding]:
    counts = Counter(name for name in told if name is not None)
    total = counts.total()
    if total < _ROWS or len(counts) < 2:
        return []
    usual, most = counts.most_common(1)[0]
    shares = {name: n / total for name, n in counts.most_common()}
    main = [name for name, share in shares.items() if share >= _SHARE]
    found = []
    if most >= majority * total:
        odd = [i for i, n in enumerate(told) if n not in (None, usual) and not _speaks_of_it(columns, i)]
        if odd:
            message = (
                f"{counted(len(odd), 'row is', 'rows are')} in another language than "
                f"{percent_of(most, total)} of the rows ({usual}): "
                f"{listed_counts(Counter(str(told[i]) for i in odd), 5)}."
            )
            fix = "Translate them, take them out, or add more rows of these languages if they are wanted."
            cases = [Case((i,), _text(columns, i), f"looks like {told[i]}") for i in odd]
            verdict = Verdict("language_outlier", "medium", message, fix)
            found.append(made(columns, verdict, cases, numbers={"usual": usual, "counts": dict(counts)}))
    if len(main) > 1:
        named = ", ".join(f"{name} {percent_of(counts[name], total)}" for name in main[:8])
        fewest = main[-1]
        unequal = (
            f"; {usual} has {most / counts[fewest]:.0f} times the rows of {fewest}"
            if most > 3 * counts[fewest]
            else ""
        )
        message = f"The rows are in {len(main)} languages: {named}{unequal}."
        fix = "Judge each language on test rows of its own; add rows where one is short."
        verdict = Verdict("language_mix", "low", message, fix)
        found.append(made(columns, verdict, [], numbers={"counts": dict(counts), "shares": shares}))
    return found


def _text(columns: Columns, i: int) -> str:
    return columns.prompts[i] if language(columns.prompts[i]) else columns.answers[i]


def _speaks_of_it(columns: Columns, i: int) -> bool:
    return bool(_NAMED.search(columns.prompts[i]))
