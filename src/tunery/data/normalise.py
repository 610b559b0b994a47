"""Normalise: repair what differs only invisibly, and make the fingerprint that repeats are found by."""

from __future__ import annotations

import html
import re
import unicodedata

# Controls except tab and newline, zero-width space and word joiner, byte-order mark, soft hyphen. The
# zero-width joiners stay: emoji and several scripts need them.
_INVISIBLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x84\x86-\x9f\u200b\u2060\ufeff\u00ad]")
_ODD_SPACE = re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]")
_LINE_END = re.compile("\r\n?|\u2028|\u2029|\x85")
_TRAILING = re.compile(r"(?<![ \t])[ \t]+(?=\n)")
_GAP = re.compile(r"\n{3,}")
# Marks that change no meaning: neither signs (£, %, +, =, <, #) nor a point, comma, colon or minus that
# stands before a digit.
_MARK = re.compile(r"[^\w\s$¢£¥€₹%+=<>*/^~|@#&°.,:−-]+|[.,:−-]+(?!\d)|_")


def normalise(text: str) -> str:
    """Return text with invisible differences removed; what a reader sees stays as it was.

    Unicode becomes NFC (letters composed), line ends ``\\n``, odd spaces plain ones. Spaces inside a line are
    kept, because they carry meaning in code and tables. Normalising twice changes nothing.

    >>> normalise("  Cafe\\u0301\\u00a0au lait \\r\\n")
    'Café au lait'
    """
    text = _LINE_END.sub("\n", text)
    text = _ODD_SPACE.sub(" ", _INVISIBLE.sub("", text))
    text = _GAP.sub("\n\n", _TRAILING.sub("", text))
    return unicodedata.normalize("NFC", text.strip())


def fingerprint(text: str) -> str:
    """Return what two texts have in common when they differ only in case, spacing or punctuation.

    Compatibility forms are folded (NFKC), case is folded, punctuation becomes a space. Currency, percent and
    mathematical signs stay, as do point, comma and minus before a digit: ``£5``, ``€5`` and ``-5`` differ.
    So do pictures, and the vowel signs that many scripts write as marks.

    >>> fingerprint("Where's my Card?") == fingerprint("where s my card")
    True
    >>> fingerprint("-5") == fingerprint("5")
    False
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    plain = _MARK.sub(" " if folded.isascii() else _meaningful, folded)
    return " ".join(plain.split())


_PICTURE_FORMS = "\ufe0e\ufe0f"
"""Say whether a sign is drawn as text or as a picture."""


def _meaningful(match: re.Match[str]) -> str:
    """Keep pictures (So) and marks that are part of a letter (Mn, Mc); all else becomes a space."""
    kept = (
        c if unicodedata.category(c) in ("So", "Mn", "Mc") and c not in _PICTURE_FORMS else " "
        for c in match.group()
    )
    return "".join(kept)


_TAG = re.compile(
    r"</?(?:a|abbr|address|article|aside|b|big|blockquote|body|br|button|caption|center|cite|code|col|dd|del|div|"
    r"dl|dt|em|fieldset|figure|figcaption|font|footer|form|h[1-6]|head|header|hr|html|i|iframe|img|input|ins|kbd|"
    r"label|li|link|main|mark|meta|nav|nobr|ol|option|p|pre|q|s|samp|script|section|select|small|span|strike|"
    r"strong|style|sub|sup|svg|table|tbody|td|textarea|tfoot|th|thead|title|tr|tt|u|ul|video|wbr)"
    r"(?:\s+[a-z][\w:-]*\s*=\s*(?:\"[^\"<>]*\"|'[^'<>]*'|[^\s\"'<>]+))*\s*/?>"
    r"|<!doctype html[^<>]*>",
    re.I,
)
# What stands between these is not for readers.
_UNSEEN = tuple(
    (re.compile(begin, re.I), re.compile(end, re.I))
    for begin, end in (("<!--", "-->"), (r"<script\b", r"</script\s*>"), (r"<style\b", r"</style\s*>"))
)
_BREAK = re.compile(r"</?(?:br|p|div|li|tr|h[1-6]|table|ul|ol|blockquote|hr|section|article|pre)\b", re.I)
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#x[0-9a-f]{1,6}|[a-z][a-z0-9]{1,31});", re.I)
_SPACES = re.compile(r" {2,}")
_ROUNDS = 50
"""Tags inside tags and entities of entities that are undone one by one."""
_TAG_ENDS = re.compile("[<>&]")
"""Without these nothing is left to strip: what nests deeper than any text loses them at once."""


def fix_mojibake(text: str) -> str:
    """Return text with wrong decoding undone: what was UTF-8 and was read as something else.

    ``ftfy`` changes a text only where the repaired one is much likelier. Plain ASCII never shows this trouble
    and costs nothing.

    Source:
        Speer (2019), ftfy, https://ftfy.readthedocs.io.

    >>> fix_mojibake("The Mona Lisa doesnâ€™t have eyebrows.")
    'The Mona Lisa doesn’t have eyebrows.'
    """
    if text.isascii():
        return text
    import ftfy

    return ftfy.fix_encoding(text)


def find_html(text: str) -> int | None:
    """Return where the first tag, comment or entity of HTML stands in a text; None where there is none."""
    found = []
    if "<" in text:
        tag, comment = _TAG.search(text), text.find("<!--")
        found += [tag.start()] if tag else []
        found += [comment] if comment >= 0 and text.find("-->", comment + 4) >= 0 else []
    entities = _ENTITY.finditer(text) if "&" in text else ()
    found += [m.start() for m in entities if html.unescape(m.group()) != m.group()][:1]
    return min(found, default=None)


def strip_html(text: str) -> str:
    """Return text without HTML tags, entities read as the characters they stand for.

    Tags that end a line become line ends. ``&lt;`` and ``&gt;`` stay where they would make a tag, as in a
    text about HTML; a ``<`` that begins no tag of HTML is left alone. Stripping twice changes nothing.

    >>> strip_html("<p>Fish &amp; chips<br/>5 &lt; 6</p>")
    'Fish & chips\\n5 < 6'
    """
    if "<" not in text and "&" not in text:
        return text
    for _ in range(_ROUNDS):
        before, text = text, _strip_once(text)
        if text == before:
            return text
    return _TAG_ENDS.sub(" ", text)


def _strip_once(text: str) -> str:
    bare = _TAG.sub(_tag_space, _without_unseen(text)) if "<" in text else text
    if bare != text:
        text = _GAP.sub("\n\n", re.sub(r" *\n *", "\n", _SPACES.sub(" ", bare))).strip()
    if "&" not in text:
        return text
    plain = _ENTITY.sub(lambda m: html.unescape(m.group()), text)
    if not _TAG.search(plain):
        return plain
    return _ENTITY.sub(
        lambda m: m.group() if html.unescape(m.group()) in "<>&" else html.unescape(m.group()), text
    )


def _without_unseen(text: str) -> str:
    for begin, end in _UNSEEN:
        kept, at = [], 0
        while opened := begin.search(text, at):
            closed = end.search(text, opened.end())
            if closed is None:
                break
            kept += [text[at : opened.start()], " "]
            at = closed.end()
        text = "".join([*kept, text[at:]])
    return text


def _tag_space(match: re.Match[str]) -> str:
    return "\n" if _BREAK.match(match.group()) else ""
