"""Output style: how almost all answers are written, and the few that are written otherwise."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from tunery.core.columns import Columns
from tunery.core.figures import counted, percent_of
from tunery.core.finding import Edit, Finding, Severity
from tunery.inspect.detectors.answers import cut_off
from tunery.inspect.detectors.json_answers import json_value, unfenced
from tunery.inspect.evidence import Case, Verdict, closed, made

_ROWS = 20
"""Answers that must show a trait before their majority says anything [rows]."""
_SHORT = 120
_ENDS = ".!?…。！？"
_CLOSES = "\"'”’»)]*_"
_ASKS_FOR_FORMAT = re.compile(
    r"\b(?:json|yaml|xml|csv|arrays?|dict(?:ionary|ionaries)?|objects?|lists?|code|function|script|schema|format)\b",
    re.I,
)


class _Trait(NamedTuple):
    kind: str
    severity: Severity
    value: Callable[[str], str | None]
    """What a text shows of the trait; None where it shows nothing."""
    mended: Callable[[str, str, str], str | None]
    """(text, its value, majority's value) to the text in the majority's style, if that is mechanical."""
    said: dict[str, str]
    """Value to words that complete 'answers ...'."""


def output_style(columns: Columns, *, majority: float = 0.9) -> list[Finding]:
    """Find answers in another style than almost all others.

    Args:
        columns: The rows; of classes in a closed set no style is asked.
        majority: Share of the answers that show a trait which must agree, in (0.5, 1].

    Returns:
        ``format_outlier`` (JSON or prose), ``fence_outlier`` (JSON and code in a code fence or bare),
        ``key_outlier`` (the keys of JSON objects), ``case_outlier`` (how the first letter is written) and
        ``punctuation_outlier`` (a full stop at the end, or none).
    """
    if closed(columns):
        return []
    found = [f for trait in _TRAITS if (f := _outliers(columns, trait, majority)) is not None]
    keys = _key_outliers(columns, majority)
    return [*found, keys] if keys else found


def _outliers(columns: Columns, trait: _Trait, majority: float) -> Finding | None:
    values = [trait.value(text) for text in columns.answers]
    counts = Counter(v for v in values if v is not None)
    total = counts.total()
    if total < _ROWS or len(counts) < 2:
        return None
    usual, count = counts.most_common(1)[0]
    if count < majority * total:
        return None
    odd = [i for i, v in enumerate(values) if v not in (None, usual)]
    if trait.kind == "format_outlier":
        # Where the prompt asks for another format, the row is right.
        odd = [i for i in odd if usual != "prose" or not _ASKS_FOR_FORMAT.search(columns.prompts[i])]
    if not odd:
        return None
    others = Counter(str(values[i]) for i in odd)
    cases = [Case((i,), columns.answers[i], f"the others {trait.said[usual]}") for i in odd]
    edits = []
    # A full stop behind an answer that was cut off would make it look whole.
    unfinished = {case.rows[0] for case in cut_off(columns)}
    for i in odd:
        if i in unfinished:
            continue
        text = trait.mended(columns.answers[i], str(values[i]), usual)
        if text is not None and text.strip() and text != columns.answers[i]:
            edits.append(Edit(row=columns.ids[i], action="set_output", value=text, reason=trait.kind))
    described = " and ".join(f"{n:,} {trait.said[v]}" for v, n in others.most_common())
    message = (
        f"{counted(count, 'answer')} of {total:,} ({percent_of(count, total)}) "
        f"{trait.said[usual]}; {described}."
    )
    fix = (
        "Apply the edits, and rewrite what they leave, so that the model sees one style."
        if edits
        else "Rewrite the others in the style of the majority, or take them out."
    )
    verdict = Verdict(trait.kind, trait.severity, message, fix)
    return made(columns, verdict, cases, edits=edits, numbers={"usual": usual, "counts": dict(counts)})


def _format(text: str) -> str | None:
    bare = text.strip()
    if not bare:
        return None
    inner = unfenced(bare)
    if json_value((inner if inner is not None else bare).strip()) is not None:
        return "json"
    # Broken JSON is broken, not prose: the bad answers' detector says so.
    return None if bare[0] in "{[" or inner is not None else "prose"


def _to_json(text: str, value: str, usual: str) -> str | None:
    if usual != "json":
        return None
    found = []
    for opening, closing in ("{}", "[]"):
        start, end = text.find(opening), text.rfind(closing)
        if 0 <= start < end and json_value(text[start : end + 1]) is not None:
            found.append(text[start : end + 1])
    return max(found, key=len, default=None)


def _fence(text: str) -> str | None:
    bare = text.strip()
    if unfenced(bare) is not None:
        return "fenced"
    return "bare" if json_value(bare) is not None else None


def _refence(text: str, value: str, usual: str) -> str | None:
    if usual == "bare":
        inner = unfenced(text)
        return inner if inner is not None and json_value(inner.strip()) is not None else None
    return f"```json\n{text.strip()}\n```"


def _case(text: str) -> str | None:
    letters = [c for c in text if c.isalpha()]
    first = text.lstrip(" \"'“(*_")[:1]
    if len(letters) < 2 or not first.isalpha() or first.lower() == first.upper():
        return None
    word = text.split(maxsplit=1)[0]
    if re.search(r"[(_/\\:=@]|\w\.\w|\d", word):
        return None  # code, a path, an address
    if len(letters) >= 12 and all(c == c.upper() for c in letters):
        return "shouted"
    return "capital" if first.isupper() else "small"


def _recase(text: str, value: str, usual: str) -> str | None:
    if usual != "capital" or value != "small":
        return None
    at = next(i for i, c in enumerate(text) if c.isalpha())
    word = re.match(r"\S+", text[at:])
    # iPhone and eBay are written so on purpose.
    if word is None or any(c.isupper() for c in word.group()):
        return None
    return text[:at] + text[at].upper() + text[at + 1 :]


def _end(text: str) -> str | None:
    bare = text.rstrip()
    if not bare or "```" in bare or json_value(bare) is not None or len(bare) < 2:
        return None
    last = bare.rstrip(_CLOSES)[-1:]
    if last in _ENDS:
        return "stop"
    lines = bare.splitlines()
    # The last line of a list, a table or a poem needs no full stop, nor does code.
    if len(lines) > 1 or not (last.isalnum() and bare[-1] == last):
        return None
    return "open"


def _restop(text: str, value: str, usual: str) -> str | None:
    bare = text.rstrip()
    if usual == "stop":
        # A title is no sentence, and a long text without an end may have been cut off.
        return f"{bare}." if len(bare.split()) >= 4 and len(bare) <= _SHORT else None
    return bare[:-1] if bare.endswith(".") and not bare.endswith("..") and bare.count(".") == 1 else None


_TRAITS = (
    _Trait("format_outlier", "medium", _format, _to_json, {"json": "are JSON", "prose": "are prose"}),
    _Trait(
        "fence_outlier",
        "medium",
        _fence,
        _refence,
        {"fenced": "stand in a code fence", "bare": "are JSON without a code fence"},
    ),
    _Trait(
        "case_outlier",
        "low",
        _case,
        _recase,
        {
            "capital": "begin with a capital letter",
            "small": "begin with a small letter",
            "shouted": "are written in capitals throughout",
        },
    ),
    _Trait(
        "punctuation_outlier",
        "low",
        _end,
        _restop,
        {"stop": "end with a full stop or another end of a sentence", "open": "end without one"},
    ),
)


def _key_outliers(columns: Columns, majority: float) -> Finding | None:
    """Find JSON objects whose keys are not those of almost all others."""
    keys: dict[int, tuple[str, ...]] = {}
    for i, text in enumerate(columns.answers):
        bare = text.strip()
        inner = unfenced(bare)
        value = json_value((inner if inner is not None else bare).strip())
        if isinstance(value, dict):
            keys[i] = tuple(sorted(value))
    counts = Counter(keys.values())
    if len(keys) < _ROWS or len(counts) < 2:
        return None
    usual, count = counts.most_common(1)[0]
    if count < majority * len(keys):
        return None
    cases = []
    for i, found in keys.items():
        if found != usual:
            lacks, adds = [k for k in usual if k not in found], [k for k in found if k not in usual]
            said = [
                f"{verb} {', '.join(map(repr, names[:5]))}"
                for verb, names in (("lacks", lacks), ("adds", adds))
                if names
            ]
            cases.append(Case((i,), columns.answers[i], " and ".join(said)))
    message = (
        f"{counted(count, 'JSON answer')} of {len(keys):,} ({percent_of(count, len(keys))}) have the keys "
        f"{', '.join(map(repr, usual[:8])) or 'none'}; {counted(len(cases), 'has others', 'have others')}."
    )
    verdict = Verdict(
        "key_outlier", "medium", message, "Give all answers the same keys; null says that nothing is known."
    )
    return made(columns, verdict, cases, numbers={"keys": list(usual), "rows": len(cases)})
