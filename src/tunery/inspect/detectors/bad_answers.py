"""Bad answers: empty, cut off, refusing, boilerplate, looping, of few words, or only the prompt again."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from tunery.core.columns import Columns
from tunery.core.figures import counted, percent, percent_of
from tunery.core.finding import Finding, FindingKind
from tunery.inspect.evidence import Case, closed, drops, finding
from tunery.inspect.json_answers import json_value
from tunery.text.sameness import fingerprint

_CANNOT = (
    r"(?:can(?:no|['’])?t|can not|could not|couldn['’]?t|am unable|['’]m unable|am not able|['’]m not able|"
    r"won['’]?t)"
)
_ACT = (
    r"(?:assist|help|provide|answer|fulfil|fulfill|comply|do that|create|generate|write|support|engage|"
    r"discuss|offer|share|participate|process|complete|satisfy|give|respond|be able|to )"
)
_REFUSAL = re.compile(
    r"\W*(?:"
    rf"(?:i['’]m|i am|we['’]re|we are)\s+(?:\w+\s+)?(?:sorry|afraid)\b.{{0,60}}?\b(?:i|we)\s*{_CANNOT}"
    rf"|(?:sorry|unfortunately|apologies|i apologi[sz]e|my apologies)\b.{{0,60}}?\b(?:i|we)\s*{_CANNOT}"
    rf"|i\s*{_CANNOT}\s+{_ACT}"
    r"|i must (?:respectfully )?decline"
    r"|(?:i['’]m|i am) not (?:comfortable|allowed|permitted|programmed|designed)\b"
    rf"|as an? (?:ai|artificial|large|language)\b.{{0,80}}?\bi\s*{_CANNOT}"
    r")",
    re.I | re.S,
)
_BOILERPLATE = re.compile(
    r"\bas an? (?:ai|artificial intelligence|(?:large )?language model|chat ?bot|virtual assistant)"
    r"(?: language)?(?: model| assistant| chat ?bot)?\s*(?:,|\bi\b)"
    r"|\bi(?:['’]m| am) (?:just |only |merely )?an? (?:ai|artificial intelligence|(?:large )?language model)"
    r"(?: language)?(?: model| assistant)?\b"
    r"|\b(?:as of )?my (?:last )?(?:training|knowledge) (?:data|cut-?off|update)\b"
    r"|\bi (?:do not|don['’]t) have (?:personal (?:opinions|experiences|feelings|beliefs|preferences)|"
    r"real-?time (?:access|data|information)|access to real-?time)\b"
    r"|\b(?:trained|developed|created) by (?:openai|anthropic|google deepmind|meta ai)\b",
    re.I,
)
_MEANT_SHARE = 0.2
_LONG = 40
_HANGING = re.compile(
    r"(?:[,;:(\[{–—]|\s-|\b(?:the|an|and|or|but|of|with|for|because|which|such as|into|from|between|"
    r"their|its|his|your|our|my|if|when|while|although|than|as|is|are|was|were|to|a))\s*\Z",
    re.I,
)
_LAST_LINE = re.compile(r"\n[ \t]*([^\w\s]{1,8})[ \t\w][^\n]*\Z")
_SENTENCE_END = re.compile(r"[.!?…。！？]['\"”’)\]]*\s")
_STOPS = frozenset(".!?…。！？:;`|'\"”’»)]}>*_~-=+/\\#%$€£°")
_JSON_STRING = re.compile(r'"(?:[^"\\]|\\.)*("?)', re.S)
_OPEN_SHARE = 0.1
"""Where more of the answers leave something open, they are written so."""
_FEW = 10
_LOOP_WORDS = 12
_LOOP_TIMES = 4
_LONGEST_CYCLE = 12
_MANY_WORDS = 300
"""Words from which a text's share of different words falls below any fixed bar [words]."""

_OPEN_END = FindingKind(
    "cut_off",
    "Answers that were cut off",
    "high",
    "Complete them or take the rows out; a model learns to stop where they stop.",
)
_REFUSES = FindingKind("refusal", "Refusals", "high", "Take out those that refuse what the model should do.")
_PHRASES = FindingKind(
    "boilerplate",
    "Phrases of a language model",
    "medium",
    "Rewrite them without it; a model repeats such phrases everywhere.",
)
_EMPTY = FindingKind("empty_answer", "Empty answers", "high", "Write the answers or take the rows out.")
_LOOPS = FindingKind("loop", "Answers that go in circles", "high", "Take the rows out.")
_ECHO = FindingKind(
    "echo", "Answers that repeat their prompt", "medium", "Write the answers or take the rows out."
)
_REPEATED = FindingKind(
    "repeated_words",
    "Repeated words",
    "medium",
    "Look at them and take out those that only repeat themselves.",
)
KINDS = (_EMPTY, _OPEN_END, _REFUSES, _PHRASES, _LOOPS, _ECHO, _REPEATED)
_WORDS = {
    "empty_answer": ("answer is empty", "answers are empty"),
    "cut_off": ("answer ends before its end", "answers end before their end"),
    "refusal": ("answer refuses", "answers refuse"),
    "boilerplate": ("answer speaks of being a language model", "answers speak of being a language model"),
    "loop": ("answer says the same over and over", "answers say the same over and over"),
    "echo": ("answer only repeats its prompt", "answers only repeat their prompt"),
}
_TAKEN_OUT = (_EMPTY, _LOOPS, _ECHO)
"""Kinds whose edits take the rows out."""


def find(
    columns: Columns, *, min_unique_words: float = 0.3, unique_words_from: int = 10
) -> Iterator[Finding]:
    """Find answers that teach nothing, or the wrong thing; in a closed set of classes only empty ones.

    A refusal is worth a look only where a fifth of the answers refuse: then it is meant.
    """
    answers = columns.answers
    empty = [
        Case((i,), columns.prompts[i], "no answer") for i, text in enumerate(answers) if not text.strip()
    ]
    yield from _found(columns, _EMPTY, empty)
    if closed(columns):
        return
    yield from _found(columns, _OPEN_END, cut_off(columns))
    refusals = _matches(columns, _REFUSAL.match)
    meant = len(refusals) > max(_FEW, _MEANT_SHARE * len(columns))
    yield from _found(columns, _REFUSES._replace(severity="low") if meant else _REFUSES, refusals)
    refused = {case.rows for case in refusals}
    phrases = [case for case in _matches(columns, _BOILERPLATE.search) if case.rows not in refused]
    yield from _found(columns, _PHRASES, phrases)
    loops = [Case((i,), text, *where) for i, text in enumerate(answers) if (where := _loop(text))]
    yield from _found(columns, _LOOPS, loops)
    yield from _found(columns, _ECHO, _echoes(columns))
    if few := _of_few_words(answers, min_unique_words, unique_words_from):
        have = counted(len(few), "answer has", "answers have")
        message = f"{have} fewer than {percent(min_unique_words)} different words."
        yield finding(columns, _REPEATED, message, few, numbers={"rows": len(few)})


def _found(columns: Columns, kind: FindingKind, cases: Sequence[Case]) -> Iterator[Finding]:
    if cases:
        are = counted(len(cases), *_WORDS[kind.name])
        message = f"{are} ({percent_of(len(cases), len(columns))})."
        edits = drops(columns, kind, (c.rows[0] for c in cases)) if kind in _TAKEN_OUT else []
        yield finding(columns, kind, message, cases, edits=edits, numbers={"rows": len(cases)})


def _matches(columns: Columns, search: Callable[[str], re.Match[str] | None]) -> list[Case]:
    found = []
    for i, text in enumerate(columns.answers):
        match = search(text)
        if match:
            found.append(Case((i,), text, f"says {' '.join(match.group().split())!r:.90}", match.start()))
    return found


def cut_off(columns: Columns) -> list[Case]:
    """Return answers with something left open at their end, where almost all others have nothing open."""
    cases: dict[int, Case] = {}
    for opened, shows in _OPEN:
        looked_at = [i for i, text in enumerate(columns.answers) if shows(text)]
        odd = [(i, reason) for i in looked_at if (reason := opened(columns.answers[i]))]
        if len(odd) <= _OPEN_SHARE * max(len(looked_at), _FEW):
            for i, reason in odd:
                text = columns.answers[i]
                cases.setdefault(i, Case((i,), text, reason, len(text)))
    for i in _unlike_the_last_lines(columns.answers):
        reason = "it has no last line as almost all others have"
        cases.setdefault(i, Case((i,), columns.answers[i], reason, len(columns.answers[i])))
    return [cases[i] for i in sorted(cases)]


def _unlike_the_last_lines(answers: Sequence[str]) -> list[int]:
    """Return answers without the mark, such as ``####``, that begins the last line of almost all others."""
    marks = [_LAST_LINE.search(text.rstrip()) for text in answers]
    counts = Counter(m.group(1) for m in marks if m)
    mark, count = counts.most_common(1)[0] if counts else ("", 0)
    written = sum(bool(text.strip()) for text in answers)
    if count < max(2 * _FEW, (1 - _OPEN_SHARE) * written) or mark in "-*•|`":
        return []
    return [
        i
        for i, (text, m) in enumerate(zip(answers, marks, strict=True))
        if text.strip() and (m is None or not m.group(1).startswith(mark))
    ]


def _open_fence(text: str) -> str | None:
    fences = sum(line.lstrip().startswith("```") for line in text.splitlines())
    return "a code fence is not closed" if fences % 2 else None


def _open_json(text: str) -> str | None:
    bare = text.strip()
    if json_value(bare) is not None:
        return None
    brackets = Counter(_JSON_STRING.sub(lambda m: "" if m[1] else '"', bare))
    deep = brackets["{"] + brackets["["] > brackets["}"] + brackets["]"]
    return "the JSON is not closed" if deep or '"' in brackets else None  # a quote left begins a string


def _hanging(text: str) -> str | None:
    match = _HANGING.search(text[-40:])
    return f"ends with {match.group().strip()!r}" if match else None


def _open_sentence(text: str) -> str | None:
    bare = text.rstrip()
    last = bare[-1]
    if last in _STOPS or not last.isalpha() or ord(last) > 0x2FF:
        return None
    line = bare.splitlines()[-1].strip()
    after = _SENTENCE_END.split(line)[-1]
    # A title, a list item or a name on a line of its own is no sentence.
    if line == after and "\n" in bare and (len(line) < _LONG or re.match(r"[-*•\d(]|\w[.)]\s", line)):
        return None
    return f"the last sentence, {' '.join(after.split())[-50:]!r}, has no end"


def _is_prose(text: str) -> bool:
    return len(text) >= _LONG and "```" not in text and text.lstrip()[:1] not in ("{", "[")


_OPEN: tuple[tuple[Callable[[str], str | None], Callable[[str], bool]], ...] = (
    (_open_fence, lambda text: "```" in text),
    (_open_json, lambda text: text.lstrip()[:1] in ("{", "[") and '"' in text),
    (_hanging, _is_prose),
    (_open_sentence, lambda text: _is_prose(text) and _SENTENCE_END.search(text) is not None),
)
"""What may be left open, and which answers show whether they leave it open."""


def _loop(text: str) -> tuple[str, int] | None:
    """Return what a text repeats four times in a row or more, and where it begins."""
    words = text.split()[:5000]
    if len(words) < _LOOP_WORDS:
        return None
    pairs = list(itertools.pairwise(words))
    if len(pairs) - len(set(pairs)) < _LOOP_WORDS - _LOOP_TIMES:
        return None
    for size in range(1, min(_LONGEST_CYCLE, len(words) // _LOOP_TIMES) + 1):
        needed = max(size * (_LOOP_TIMES - 1), _LOOP_WORDS - size)
        run = 0
        for at, (a, b) in enumerate(zip(words, words[size:], strict=False)):
            run = run + 1 if a == b else 0
            if run >= needed:
                cycle = words[at : at + size]
                if any(c.isalpha() for c in "".join(cycle)):
                    start = text.find(" ".join(words[at - run + 1 : at - run + 3]))
                    return f"repeats {' '.join(cycle)[:60]!r}", max(0, start)
                break
    return None


def _of_few_words(answers: Sequence[str], least_share: float, least_words: int) -> list[Case]:
    """Return answers that say the same words over and over, the poorest first."""
    found = []
    for i, text in enumerate(answers):
        words = text.casefold().split()
        if len(words) < least_words:
            continue
        share = len(set(words)) / len(words)
        # A long text repeats its words by nature: the bar falls as the vocabulary of a language runs out.
        if share < least_share * min(1.0, (_MANY_WORDS / len(words)) ** 0.5):
            of = f"{percent(share)} of {counted(len(words), 'word')} are different"
            found.append((share, Case((i,), text, of)))
    return [case for _, case in sorted(found)]


def _echoes(columns: Columns) -> list[Case]:
    found = []
    for i, (prompt, answer) in enumerate(zip(columns.prompts, columns.answers, strict=True)):
        # Fingerprints cost time: what differs much in length is no echo.
        if answer.strip() and abs(len(prompt) - len(answer)) <= 20 + len(prompt) // 10:
            key = fingerprint(answer)
            if key and key == fingerprint(prompt):
                found.append(Case((i,), answer, "the answer is the prompt"))
    return found
