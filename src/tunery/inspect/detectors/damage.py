"""Text damage: wrong decoding, markup that was left in, characters nobody sees, odd spaces."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

from tunery.core.columns import Columns
from tunery.core.figures import counted, percent_of
from tunery.core.finding import Edit, Finding, FindingKind
from tunery.inspect.evidence import Case, TextColumn, closed, finding, text_columns
from tunery.text.markup import find_html, strip_html
from tunery.text.normalise import fix_mojibake

_NOTICEABLE = re.compile("[^\t\n -~]|[&<]|   |^[ \t\n]|[ \t\n]\\Z")
"""What no undamaged ASCII text holds: one search lets most texts pass."""
_HIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x84\x86-\x9f\u00ad\u200b\u2060-\u2064\ufeff\ufff9-\ufffb]"
    # Tag characters carry hidden instructions, or the flags of England, Scotland and Wales.
    "|(?<![\U0001f3f4\U000e0020-\U000e007f])[\U000e0000-\U000e007f]+"
    # Joiners matter between letters of other scripts and inside emoji only.
    "|(?<![^\x00-\x7f])[\u200c\u200d]+(?![^\x00-\x7f])"
)
_DIRECTION = re.compile("[\u202a-\u202e\u2066-\u2069]")
_RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")
_LOST = re.compile("\ufffd|[\ue000-\uf8ff]")
_ODD_SPACE = re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000\u2028\u2029\x85\r]")
_EAST_ASIAN = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_CODE = re.compile(r"[;{}|`\\]|\w\(|==|\bdef \b")
_RUN = re.compile(r"(?<=\S) {3,}(?=\S)")
_MARKUP_WORDS = re.compile(
    r"\b(?:html5?|xml|xhtml|css|svg|markup|markdown|entit(?:y|ies)|tags?|hyperlinks?|web ?(?:page|site)s?|"
    r"javascript|typescript|jquery|react|jsx|vue|angular|php|django|jinja|selenium|xpath|code|snippet)\b",
    re.I,
)
_FORMAT_SHARE = 0.2
_ROUNDS = 8


KINDS = (
    FindingKind(
        "mojibake",
        "Wrongly decoded characters",
        "medium",
        "Set data.clean.fix_mojibake, or apply the edits; better, read the file in its own encoding.",
    ),
    FindingKind(
        "html",
        "HTML in texts",
        "medium",
        "Set data.clean.strip_html, or apply the edits; leave it where the model is to write HTML.",
    ),
    FindingKind(
        "invisible_characters",
        "Invisible characters",
        "medium",
        "Apply the edits; data.clean.normalise removes most of them from prompts, with all from answers too.",
    ),
    FindingKind(
        "odd_whitespace",
        "Unusual spaces",
        "low",
        "Apply the edits; data.clean.normalise makes them plain in prompts, with all in answers too.",
    ),
    FindingKind(
        "lost_characters",
        "Lost characters",
        "medium",
        "Read the file again in its own encoding; what is lost here cannot be repaired.",
    ),
)
_DESCRIPTIONS = {
    "mojibake": "characters that were decoded wrongly",
    "html": "tags or entities of HTML",
    "invisible_characters": "control characters or characters that nobody sees",
    "odd_whitespace": "unusual spaces, runs of spaces, or spaces at their ends",
    "lost_characters": "characters that stand for ones that were lost",
}
"""Kind to words that complete 'rows with ...'."""


def find(columns: Columns, *, inputs: Sequence[str] | None = None) -> list[Finding]:
    """Find texts that were damaged on their way into the file.

    A text with several troubles gets the same edit from each of them, repaired of all, so that the edits of
    several kinds can be applied together.

    Earlier turns of a conversation are not looked at.

    Returns:
        At most one finding of each kind: ``mojibake``, ``html``, ``invisible_characters``,
        ``odd_whitespace``, ``lost_characters``. HTML that a row speaks of, that stands in code, or that a
        fifth of the texts hold is left alone: it is what the row is about, or the format.
    """
    cases: dict[str, list[Case]] = defaultdict(list)
    edits: dict[str, list[Edit]] = defaultdict(list)
    for part in text_columns(columns, inputs):
        # Of answers space at the ends may be what they are about: indentation, a patch's last line.
        ends = part.action == "set_input" or closed(columns)
        html_rows = _html_rows(columns, part)
        for i, text in enumerate(part.texts):
            if not _NOTICEABLE.search(text):
                continue
            html = i in html_rows
            kinds = _kinds(text, html=html, ends=ends)
            if not kinds:
                continue
            repaired = repair(text, html=html, ends=ends)
            for kind, at in kinds.items():
                place = f"in the {part.name} of {columns.where(i)}"
                cases[kind].append(Case((i,), _visible(text), place, at))
                if kind != "lost_characters" and repaired not in ("", text):
                    edits[kind].append(
                        Edit(row=columns.ids[i], action=part.action, value=repaired, reason=kind)
                    )
    return [_finding(columns, k, cases[k.name], edits[k.name]) for k in KINDS if k.name in cases]


def _finding(columns: Columns, kind: FindingKind, cases: Sequence[Case], edits: Sequence[Edit]) -> Finding:
    rows = len({case.rows for case in cases})
    message = f"{counted(rows, 'row')} ({percent_of(rows, len(columns))}) with {_DESCRIPTIONS[kind.name]}."
    return finding(columns, kind, message, cases, edits=edits, numbers={"rows": rows, "texts": len(cases)})


def repair(text: str, *, html: bool = True, ends: bool = True) -> str:
    """Return text without the damage that can be undone; repairing twice changes nothing.

    Args:
        text: Any text.
        html: Strip tags and entities too.
        ends: Strip space around a text of one line too.
    """
    result = text
    for _ in range(_ROUNDS):
        before = result
        result = fix_mojibake(result)
        result = strip_html(result) if html else result
        result = _HIDDEN.sub("", result)
        if not _RIGHT_TO_LEFT.search(result):
            result = _DIRECTION.sub("", result)
        result = _plain_spaces(result, ends=ends)
        if result == before:
            return result
    return text  # a text that does not settle is left as it was


def _plain_spaces(text: str, *, ends: bool) -> str:
    if not text.isascii() or "\r" in text:
        text = re.sub("\r\n?|[\u2028\u2029\x85]", "\n", text)
        if not _EAST_ASIAN.search(text):
            text = _ODD_SPACE.sub(" ", text)
    if "\n" not in text and not _CODE.search(text):  # in code and tables runs of spaces carry meaning
        text = _RUN.sub(" ", text)
    bare = text.strip()
    return bare if ends and "\n" not in bare else text


def _kinds(text: str, *, html: bool, ends: bool) -> dict[str, int]:
    """Return what is wrong with a text, and where."""
    found: dict[str, int] = {}
    if not text.isascii():
        fixed = fix_mojibake(text)
        # Controls of the C1 block are looked for below; undoing them alone is no wrong decoding.
        if fixed != text and _HIDDEN.sub("", fixed) != _HIDDEN.sub("", text):
            found["mojibake"] = next(
                (i for i, (a, b) in enumerate(zip(text, fixed, strict=False)) if a != b), 0
            )
        if lost := _LOST.search(text):
            found["lost_characters"] = lost.start()
    if html:
        found["html"] = find_html(text) or 0
    if hidden := _HIDDEN.search(text) or (None if _RIGHT_TO_LEFT.search(text) else _DIRECTION.search(text)):
        found["invisible_characters"] = hidden.start()
    if _plain_spaces(text, ends=ends) != text and "mojibake" not in found:
        odd = _ODD_SPACE.search(text) or _RUN.search(text.strip())
        found["odd_whitespace"] = odd.start() if odd else 0
    return found


def _html_rows(columns: Columns, part: TextColumn) -> set[int]:
    """Return rows whose text has markup that is no matter of the row."""
    marked = [
        i for i, text in enumerate(part.texts) if ("<" in text or "&" in text) and find_html(text) is not None
    ]
    if len(marked) >= max(10, _FORMAT_SHARE * len(columns)):
        return set()
    return {
        i
        for i in marked
        if "`" not in part.texts[i]
        and not _MARKUP_WORDS.search(_bare(columns.prompts[i]))
        and not _MARKUP_WORDS.search(_bare(part.texts[i]))
        and strip_html(part.texts[i]) != part.texts[i]
    }


def _bare(text: str) -> str:
    return re.sub("<[^<>]*>", " ", text)


def _visible(text: str) -> str:
    """Return a text in which characters that nobody sees are written as their code points."""
    text = _DIRECTION.sub(_code, _HIDDEN.sub(_code, text))
    return _RUN.sub(lambda m: "␣" * len(m.group()), _ODD_SPACE.sub(_code, text.strip(" \t\n")))


def _code(match: re.Match[str]) -> str:
    return "".join(f"<U+{ord(c):04X}>" for c in match.group())
