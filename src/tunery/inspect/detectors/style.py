"""Output style: how almost all answers are written, and the few that are written otherwise."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from tunery.core.columns import Columns
from tunery.core.figures import counted, percent_of
from tunery.core.finding import Edit, Finding, FindingKind
from tunery.inspect.detectors.bad_answers import cut_off
from tunery.inspect.evidence import Case, closed, finding, usual
from tunery.inspect.json_answers import json_answer, json_value, unfenced

_SHORT = 120
_ENDS = ".!?…。！？"
_CLOSES = "\"'”’»)]*_"
_ASKS_FOR_FORMAT = re.compile(
    r"\b(?:json|yaml|xml|csv|arrays?|dict(?:ionary|ionaries)?|objects?|lists?|code|function|script|schema|format)\b",
    re.I,
)


class _Trait(NamedTuple):
    kind: FindingKind
    value: Callable[[str], str | None]
    """What a text shows of the trait; None where it shows nothing."""
    rewrite: Callable[[str, str, str], str | None]
    """(text, its value, majority's value) to the text in the majority's style, if that is mechanical."""
    words: dict[str, str]
    """Value to words that complete 'answers ...'."""


def find(columns: Columns, *, majority: float = 0.9) -> Iterator[Finding]:
    """Find answers in another style than almost all others.

    Of classes in a closed set no style is asked.

    Returns:
        ``format_outlier`` (JSON or prose), ``fence_outlier`` (JSON and code in a code fence or bare),
        ``key_outlier`` (the keys of JSON objects), ``case_outlier`` (how the first letter is written) and
        ``punctuation_outlier`` (a full stop at the end, or none).
    """
    if not closed(columns):
        for trait in _TRAITS:
            yield from _outliers(columns, trait, majority)
        yield from _key_outliers(columns, majority)


def _outliers(columns: Columns, trait: _Trait, majority: float) -> Iterator[Finding]:
    kind = trait.kind
    values = {i: v for i, text in enumerate(columns.answers) if (v := trait.value(text)) is not None}
    found = usual(values.values(), majority)
    if found is None:
        return
    common, count = found
    odd = [i for i, v in values.items() if v != common]
    if kind is _FORMAT:
        # Where the prompt asks for another format, the row is right.
        odd = [i for i in odd if common != "prose" or not _ASKS_FOR_FORMAT.search(columns.prompts[i])]
    if not odd:
        return
    cases = [Case((i,), columns.answers[i], f"the others {trait.words[common]}") for i in odd]
    edits = []
    # A full stop behind an answer that was cut off would make it look whole.
    unfinished = {case.rows[0] for case in cut_off(columns)}
    for i in odd:
        text = None if i in unfinished else trait.rewrite(columns.answers[i], values[i], common)
        if text is not None and text.strip() and text != columns.answers[i]:
            edits.append(Edit(row=columns.ids[i], action="set_output", value=text, reason=kind.name))
    others = Counter(values[i] for i in odd)
    described = " and ".join(f"{n:,} {trait.words[v]}" for v, n in others.most_common())
    message = (
        f"{counted(count, 'answer')} of {len(values):,} ({percent_of(count, len(values))}) "
        f"{trait.words[common]}; {described}."
    )
    numbers = {"usual": common, "counts": dict(Counter(values.values()))}
    kind = kind if edits else kind._replace(fix=_BY_HAND)
    yield finding(columns, kind, message, cases, edits=edits, numbers=numbers)


def _format(text: str) -> str | None:
    bare = text.strip()
    if not bare:
        return None
    if json_answer(bare) is not None:
        return "json"
    # Broken JSON is broken, not prose: the bad answers' detector says so.
    return None if bare[0] in "{[" or unfenced(bare) is not None else "prose"


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


_APPLY = "Apply the edits, and rewrite what they leave, so that the model sees one style."
_BY_HAND = "Rewrite the others in the style of the majority, or take them out."
_FORMAT = FindingKind("format_outlier", "Answers in another format", "medium", _APPLY)
_KEYS = FindingKind(
    "key_outlier",
    "JSON with other keys",
    "medium",
    "Give all answers the same keys; null says that nothing is known.",
)
_TRAITS = (
    _Trait(_FORMAT, _format, _to_json, {"json": "are JSON", "prose": "are prose"}),
    _Trait(
        FindingKind("fence_outlier", "Answers fenced otherwise", "medium", _APPLY),
        _fence,
        _refence,
        {"fenced": "stand in a code fence", "bare": "are JSON without a code fence"},
    ),
    _Trait(
        FindingKind("case_outlier", "Answers that begin otherwise", "low", _APPLY),
        _case,
        _recase,
        {
            "capital": "begin with a capital letter",
            "small": "begin with a small letter",
            "shouted": "are written in capitals throughout",
        },
    ),
    _Trait(
        FindingKind("punctuation_outlier", "Answers that end otherwise", "low", _APPLY),
        _end,
        _restop,
        {"stop": "end with a full stop or another end of a sentence", "open": "end without one"},
    ),
)
KINDS = (*(trait.kind for trait in _TRAITS), _KEYS)


def _key_outliers(columns: Columns, majority: float) -> Iterator[Finding]:
    """Find JSON objects whose keys are not those of almost all others."""
    keys: dict[int, tuple[str, ...]] = {}
    for i, text in enumerate(columns.answers):
        value = json_answer(text)
        if isinstance(value, dict):
            keys[i] = tuple(sorted(value))
    found = usual(keys.values(), majority)
    if found is None or len(set(keys.values())) == 1:
        return
    common, count = found
    cases = [
        Case((i,), columns.answers[i], _key_differences(common, names))
        for i, names in keys.items()
        if names != common
    ]
    message = (
        f"{counted(count, 'JSON answer')} of {len(keys):,} ({percent_of(count, len(keys))}) have the keys "
        f"{', '.join(map(repr, common[:8])) or 'none'}; {counted(len(cases), 'has others', 'have others')}."
    )
    yield finding(columns, _KEYS, message, cases, numbers={"keys": list(common), "rows": len(cases)})


def _key_differences(common: Sequence[str], names: Sequence[str]) -> str:
    lacks, adds = [k for k in common if k not in names], [k for k in names if k not in common]
    return " and ".join(
        f"{verb} {', '.join(map(repr, some[:5]))}"
        for verb, some in (("lacks", lacks), ("adds", adds))
        if some
    )
