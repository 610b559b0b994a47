"""Bounds: prompts and answers of unusual length, and answers that say the same words over and over."""

from __future__ import annotations

from collections.abc import Sequence

from tunery.core.columns import Columns
from tunery.core.finding import Finding
from tunery.inspect.config import InspectConfig
from tunery.inspect.evidence import Case, Verdict, closed, counted, made


def bounds(columns: Columns, settings: InspectConfig) -> list[Finding]:
    """Find prompts and answers outside the bounds of the settings.

    Of classes in a closed set no length is asked, and no variety.

    Returns:
        ``short_prompt``, ``long_prompt``, ``short_answer``, ``repeated_words``; shortest, longest or poorest
        rows first. Empty texts are another detector's.
    """
    prompts, answers = columns.prompts, columns.answers
    shortest, longest = settings.min_input_chars, settings.max_input_chars
    found = [
        *_lengths(
            columns,
            Verdict(
                "short_prompt",
                "low",
                f"{{}} shorter than {counted(shortest, 'character')}.",
                "Look whether these ask anything; data.filters.length.min_input_chars removes short prompts.",
            ),
            sorted((len(t), i) for i, t in enumerate(prompts) if 0 < len(t) < shortest),
            prompts,
        ),
        *_lengths(
            columns,
            Verdict(
                "long_prompt",
                "low",
                f"{{}} longer than {counted(longest, 'character')}.",
                "Look whether all of it is needed; data.filters.length.max_input_chars removes long prompts.",
            ),
            sorted(((len(t), i) for i, t in enumerate(prompts) if len(t) > longest), reverse=True),
            prompts,
        ),
    ]
    if closed(columns):
        return found
    least = settings.min_output_chars
    found += _lengths(
        columns,
        Verdict(
            "short_answer",
            "low",
            f"{{}} shorter than {counted(least, 'character')}.",
            "Look whether these answer; data.filters.length.min_output_chars removes short answers.",
        ),
        # Numbers and yes or no are whole answers, however short.
        sorted((len(t), i) for i, t in enumerate(answers) if 0 < len(t) < least and not _whole(t)),
        answers,
    )
    return found + _repeated_words(columns, settings)


def _whole(text: str) -> bool:
    return any(c.isdigit() for c in text) or text.strip(" .!").casefold() in ("yes", "no", "true")


def _lengths(
    columns: Columns, verdict: Verdict, found: Sequence[tuple[int, int]], texts: Sequence[str]
) -> list[Finding]:
    if not found:
        return []
    noun = verdict.kind.split("_")[1]
    message = verdict.message.format(counted(len(found), f"{noun} is", f"{noun}s are"))
    cases = [Case((i,), texts[i], counted(length, "character")) for length, i in found]
    return [made(columns, verdict._replace(message=message), cases, numbers={"rows": len(found)})]


def _repeated_words(columns: Columns, settings: InspectConfig) -> list[Finding]:
    found = []
    for i, text in enumerate(columns.answers):
        words = text.casefold().split()
        if len(words) < settings.unique_words_from:
            continue
        ratio = len(set(words)) / len(words)
        # A long text repeats its words by nature: the bar falls as the vocabulary of a language runs out.
        if ratio < settings.min_unique_words * min(1.0, (_LONG / len(words)) ** 0.5):
            found.append((ratio, i, len(words)))
    if not found:
        return []
    found.sort()
    verdict = Verdict(
        "repeated_words",
        "medium",
        f"{counted(len(found), 'answer has', 'answers have')} fewer than "
        f"{settings.min_unique_words:.0%} different words.",
        "Look at them and take out those that only repeat themselves.",
    )
    cases = [
        Case((i,), columns.answers[i], f"{ratio:.0%} of {counted(count, 'word')} are different")
        for ratio, i, count in found
    ]
    return [made(columns, verdict, cases, numbers={"rows": len(found)})]


_LONG = 300
"""Words from which a text's share of different words falls below any fixed bar [words]."""
