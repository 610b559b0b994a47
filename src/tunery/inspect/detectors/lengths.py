"""Lengths: prompts and answers of unusual length, and rows that do not fit the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tunery.core.columns import Columns
from tunery.core.figures import counted, percent_of
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
_TOO_LONG = FindingKind(
    "too_long", "Rows of too many tokens", "high", "Shorten them, or raise the training length."
)
KINDS = (_SHORT_PROMPT, _LONG_PROMPT, _SHORT_ANSWER, _TOO_LONG)

_QUANTILES = (50, 90, 95, 99, 100)


def find(
    columns: Columns,
    lengths: Sequence[int] | None = None,
    max_tokens: int | None = None,
    *,
    min_input_chars: int = 10,
    max_input_chars: int = 1000,
    min_output_chars: int = 5,
) -> Iterator[Finding]:
    """Find prompts and answers outside the bounds, the shortest or longest first.

    Of classes in a closed set no length is asked. Empty texts are another detector's.

    Rows of too many tokens are reported where their lengths and the limit are known.

    Raises:
        ValueError: There is not one length a row.
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
    if lengths is not None and max_tokens is not None:
        yield from _too_long(columns, lengths, max_tokens)


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


def _too_long(columns: Columns, lengths: Sequence[int], max_tokens: int) -> Iterator[Finding]:
    """Report rows of more tokens than training takes, the longest first, with quantiles of all rows."""
    if len(lengths) != len(columns):
        raise ValueError(f"{len(lengths)} lengths for {len(columns)} rows")
    over = sorted((i for i, n in enumerate(lengths) if n > max_tokens), key=lambda i: (-lengths[i], i))
    if not over:
        return
    ordered = sorted(lengths)
    quantiles = {f"p{q}": ordered[min(len(ordered) - 1, len(ordered) * q // 100)] for q in _QUANTILES}
    message = (
        f"{counted(len(over), 'row has', 'rows have')} over {max_tokens:,} tokens "
        f"({percent_of(len(over), len(columns))}); the longest has {lengths[over[0]]:,}. Such rows are left "
        "out of training."
    )
    fix = f"Shorten them, or raise the training length: {quantiles['p99']:,} tokens hold 99 % of the rows."
    cases = [Case((i,), columns.prompts[i], f"{lengths[i]:,} tokens") for i in over]
    numbers = {"rows": len(over), "limit": max_tokens, **quantiles}
    yield finding(columns, _TOO_LONG._replace(fix=fix), message, cases, numbers=numbers)
