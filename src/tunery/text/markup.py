"""Markup: HTML in a text, found and stripped."""

from __future__ import annotations

import html
import re

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
_GAP = re.compile(r"\n{3,}")
_SPACES = re.compile(r" {2,}")
_ROUNDS = 50
"""Tags inside tags and entities of entities that are undone one by one."""
_TAG_ENDS = re.compile("[<>&]")
"""Without these nothing is left to strip: what nests deeper than any text loses them at once."""


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
