"""Text lengths: prompts and answers of unusual length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tunery.core.columns import Columns
from tunery.core.figures import counted
from tunery.core.finding import Finding, FindingKind
from tunery.inspect.evidence import Case, closed, finding

_SHORT_PROMPT = FindingKind(
    "short_prompt",
    "Short prompts",
    "low",
    "Look whether these ask anything; data.filters.length.min_input_chars removes short prompts.",
)
_LONG_PROMPT = FindingKind(
    "long_prompt",
    "Long prompts",
    "low",
    "Look whether all of it is needed; data.filters.length.max_input_chars removes long prompts.",
)
_SHORT_ANSWER = FindingKind(
    "short_answer",
    "Short answers",
    "low",
    "Look whether these answer; data.filters.length.min_output_chars removes short answers.",
)
KINDS = (_SHORT_PROMPT, _LONG_PROMPT, _SHORT_ANSWER)


def find(
    columns: Columns, *, min_input_chars: int = 10, max_input_chars: int = 1000, min_output_chars: int = 5
) -> Iterator[Finding]:
    """Find prompts and answers outside the bounds, the shortest or longest first.

    Of classes in a closed set no length is asked. Empty texts are another detector's.
    """
    prompts, answers = columns.prompts, columns.answers
    short = sorted((len(t), i) for i, t in enumerate(prompts) if 0 < len(t) < min_input_chars)
    yield from _found(columns, _SHORT_PROMPT, prompts, short, min_input_chars)
    long = sorted(((len(t), i) for i, t in enumerate(prompts) if len(t) > max_input_chars), reverse=True)
    yield from _found(columns, _LONG_PROMPT, prompts, long, max_input_chars)
    if not closed(columns):
        # Numbers and yes or no are whole answers, however short.
        short = sorted(
            (len(t), i) for i, t in enumerate(answers) if 0 < len(t) < min_output_chars and not _whole(t)
        )
        yield from _found(columns, _SHORT_ANSWER, answers, short, min_output_chars)


def _whole(text: str) -> bool:
    return any(c.isdigit() for c in text) or text.strip(" .!").casefold() in ("yes", "no", "true")


def _found(
    columns: Columns, kind: FindingKind, texts: Sequence[str], found: Sequence[tuple[int, int]], bound: int
) -> Iterator[Finding]:
    if found:
        length, noun = kind.name.split("_")
        texts_are = counted(len(found), f"{noun} is", f"{noun}s are")
        message = f"{texts_are} {length}er than {counted(bound, 'character')}."
        cases = [Case((i,), texts[i], counted(size, "character")) for size, i in found]
        yield finding(columns, kind, message, cases, numbers={"rows": len(found)})
