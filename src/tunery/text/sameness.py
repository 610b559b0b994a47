"""Sameness: what two texts have in common when a person would call them the same, or much alike.

Three answers, from wide to narrow. :func:`words_alone` is what texts are compared by for likeness, and what
keeps a question and its twin in one split. :func:`essence` and :func:`signs` keep the marks that mean
something beside the words: rows that differ in one of those never repeat each other. :func:`fingerprint` is
what makes two prompts the same prompt, so that different answers to it contradict each other.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from itertools import islice

from tunery.text.pii.types import ALL_PII

# Marks that change no meaning: neither signs (£, %, +, =, <, #) nor a point, comma, colon or minus that
# stands before a digit.
_MARK = re.compile(r"[^\w\s$¢£¥€₹%+=<>*/^~|@#&°.,:−-]+|[.,:−-]+(?!\d)|_")
_PICTURE_FORMS = "\ufe0e\ufe0f"
"""Say whether a sign is drawn as text or as a picture."""


def words_alone(text: str) -> str:
    """Return what two texts have in common when they differ only in case, spacing or punctuation.

    Compatibility forms are folded (NFKC), case is folded, punctuation becomes a space. Currency, percent and
    mathematical signs stay, as do point, comma and minus before a digit: ``£5``, ``€5`` and ``-5`` differ.
    So do pictures, and the vowel signs that many scripts write as marks. A text of nothing but punctuation is
    its own.

    >>> words_alone("Where's my Card?") == words_alone("where s my card")
    True
    >>> words_alone("-5") == words_alone("5")
    False
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    plain = _MARK.sub(" " if folded.isascii() else _meaningful, folded)
    return " ".join(plain.split()) or " ".join(folded.split())


def _meaningful(match: re.Match[str]) -> str:
    """Keep pictures (So) and marks that are part of a letter (Mn, Mc); all else becomes a space."""
    kept = (
        c if unicodedata.category(c) in ("So", "Mn", "Mc") and c not in _PICTURE_FORMS else " "
        for c in match.group()
    )
    return "".join(kept)


def fingerprint(text: str) -> str:
    """Return what two texts have in common when a person would call them the same.

    Spacing inside a line does not count, nor a full stop behind a word, the question mark of a sentence that
    asks by its words, how quotes, dashes and pictures are drawn, or the case of words. Everything else does:
    every other mark (``n!``, ``:(``, ``a[i]``), the case of letters that stand alone and of short words with
    capitals inside (``MB``, ``pH``) and of what stands between backticks, small raised letters (``x²``), and
    the indentation of lines.

    >>> fingerprint("What is X?") == fingerprint("what is X")
    True
    >>> fingerprint("Compute 5!") == fingerprint("Compute 5")
    False
    """
    return _without_stop(_laid_out(_cased(_drawn(text))))


def essence(text: str) -> str:
    """Return the words of a text with the marks that mean something: of texts with the same words, those that
    share it differ in the case of words, in commas between words and the like only.

    >>> essence("Oh no, my card is lost!") == essence("oh no my card is lost")
    True
    >>> essence("Parse (a]") == essence("Parse (a)")
    False
    """
    return _laid_out(_without_light(_cased(_drawn(text), units_only=True)))


def signs(text: str) -> str:
    """Return the numbers and the marks that mean something, in their order: texts that are much alike but
    differ in these do not say the same.

    >>> signs("Take 5 of them, please.") == signs("Please take 5 of them")
    True
    >>> signs("Take -5 of them") == signs("Take 5 of them")
    False
    """
    return " ".join(_SIGN.findall(_without_light(_drawn(text))))


def repeats(a: str, b: str) -> bool:
    """Tell whether two texts that are much alike say the same: they share numbers and meaningful marks.

    >>> repeats("Where is my card, please?", "where is my card please")
    True
    >>> repeats("Great :)", "Great :(")
    False
    """
    if words_alone(a) == words_alone(b):
        return essence(a) == essence(b)
    return signs(a) == signs(b)


def cased(text: str) -> list[str]:
    """Return the words of a text whose case means something, in their order."""
    return _KEPT_CASE.findall(_cased(_drawn(text)))


_TYPOGRAPHY = str.maketrans(
    {
        **dict.fromkeys("\u2018\u2019\u201a\u201b\u02bc", "'"),
        **dict.fromkeys("\u201c\u201d\u201e\u201f", '"'),
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-"),
        **dict.fromkeys("\u200b\u2060\ufeff\u00ad\ufe0e\ufe0f", ""),
        "\u2026": "...",
        "\uff0e": ".",
        "\uff1f": "?",
    }
)


def _drawn(text: str) -> str:
    """Return text without differences of drawing: typographic quotes, ligatures, composed letters."""
    if text.isascii():
        return text
    text = unicodedata.normalize("NFC", text).translate(_TYPOGRAPHY)
    return text if text.isascii() else "".join(map(_plain_form, text))


_SAME_LETTERS = ("<compat>", "<noBreak>", "<isolated>", "<initial>", "<medial>", "<final>")


@lru_cache(maxsize=4096)
def _plain_form(character: str) -> str:
    """Return the letters that a ligature or a letter's form at its place stands for.

    Raised, circled and wide letters, fractions and units are signs of their own.
    """
    kind, _, _ = unicodedata.decomposition(character).partition(" ")
    if kind not in _SAME_LETTERS:
        return character
    plain = unicodedata.normalize("NFKC", character)
    return plain if kind == "<noBreak>" or " " not in plain else character  # an accent that stands alone


_SPOKEN = re.compile(r"`[^`\n]+`|[^\W\d_]+")
_CAPITALS = re.compile(r"`[^`\n]+`|(?<![A-Za-z])[A-Za-z]*[A-Z][A-Za-z]*")
"""Words that folding case changes, in ASCII: few, so that most words cost nothing."""
_KEPT_CASE = re.compile(r"`[^`\n]+`|(?<![^\W\d_])[^\W\d_]?[A-Z][^\W\d_]?(?![^\W\d_])")
_WORDS_OF_ONE = frozenset("AEIOUYÀÈÉÓ")
"""Letters that are words of some language, and so begin sentences as capitals."""
_SENTENCE_BEGINS = re.compile(r"(?:\A|[.!?:\n])[\s\"'(]*\Z")
_BEFORE = 8
"""Where the begin of a sentence is looked for [characters]."""
_SHORT = 3
"""Words up to this length whose capitals inside may mean something: units and signs [letters]."""


def _cased(text: str, *, units_only: bool = False) -> str:
    """Return text in small letters, but for what means something by its case.

    Args:
        text: Any text.
        units_only: Of short words with capitals inside keep only those behind a number, which are units.
    """
    folded = text.casefold()
    if text == folded:
        return text
    if text.isupper() and any(len(word) > _SHORT for word in re.findall(r"[^\W\d_]+", text)):
        return folded  # somebody shouts
    word_of = _cased_unit if units_only else _cased_word
    return (_CAPITALS if text.isascii() else _SPOKEN).sub(word_of, text)


def _cased_word(match: re.Match[str]) -> str:
    word = match.group()
    if word[0] == "`":
        return word
    if len(word) > _SHORT or word == "I":
        return word.casefold()
    if len(word) > 1:
        return word if _is_unit(match) or word[1:] != word[1:].lower() else word.casefold()
    text, start = match.string, match.start()
    begins = word in _WORDS_OF_ONE and _SENTENCE_BEGINS.search(text, max(0, start - _BEFORE), start)
    return word.casefold() if begins and text[match.end() : match.end() + 1] == " " else word


def _cased_unit(match: re.Match[str]) -> str:
    is_kept = len(match.group()) == 1 or match.group()[0] == "`" or _is_unit(match)
    return _cased_word(match) if is_kept else match.group().casefold()


_NUMBER_BEFORE = re.compile(r"(?<![^\W\d_])\d\s?\Z")


def _is_unit(match: re.Match[str]) -> bool:
    """Tell whether a word of two or three letters is a unit: 5 MB, 5 kWh; not 5 ATM."""
    word, start = match.group(), match.start()
    may_be = len(word) == 2 or (len(word) <= _SHORT and not word.isupper())
    return may_be and bool(_NUMBER_BEFORE.search(match.string, max(0, start - _BEFORE), start))


_INDENTED = re.compile(r"\n[ \t]+\S|\A(?:[ \t]{2,}|\t)\S")


def _laid_out(text: str) -> str:
    """Return text with runs of space as one; where lines are indented, lines and indentation stay."""
    if "\n" not in text.strip() or not _INDENTED.search(text):
        return " ".join(text.split())
    lines = (line.rstrip().expandtabs() for line in text.splitlines())
    return "\n".join(
        " " * (len(line) - len(line.lstrip())) + " ".join(line.split()) for line in lines if line
    )


_LETTER = r"[^\W\d_]"
_STOP = re.compile(rf"(?<={_LETTER}{_LETTER})[.\u3002]\Z")
_ASKED = re.compile(r"[\w ,.'-]*\w\?+", re.S)
_QUESTION = re.compile(
    r"\b(?:who|whom|whose|what|which|when|where|why|how|is|are|was|were|do|does|did|can|could|will|would|shall|"
    r"should|may|might|has|have|had|wer|was|wann|wo|warum|wie|welche[rsnm]?|qui|que|quoi|quand|o\u00f9|pourquoi|"
    r"comment|quel(?:le)?s?|qu\u00e9|qui\u00e9n|cu\u00e1ndo|d\u00f3nde|c\u00f3mo|cu\u00e1l(?:es)?|cosa|quando|dove|perch\u00e9|"
    r"come|quale|wat|wanneer|waar|waarom|hoe|quem|onde|como|qual)\b",
    re.I,
)
"""Words by which a sentence asks, with or without its mark."""


def _without_stop(text: str) -> str:
    """Return text without a closing mark that its words make needless."""
    if text[-1:] == "?" and _ASKED.fullmatch(text) and _QUESTION.search(text):
        return text.rstrip("?")
    return _STOP.sub("", text)


_WORDS = re.compile(rf"{_LETTER}{{2,}}")
_PROSE_WORDS = 4
"""Words that make a sentence, in which commas and the like only help reading [count]."""
_MARKS = re.compile(r"[-.,;:!?()\"']+")
_LONG_WORD = 3
_FOLLOWS = re.compile(rf"\s*\Z|\s{{1,3}}[\"'(]?(?:{_LETTER}{{2}}|[Ii]\s)")
_SIGN = re.compile(r"-?\d+(?:[.,:]\d+)*|[^\w\s]")


_PLACEHOLDER = re.compile(rf"<(?:{'|'.join(ALL_PII)})>\Z", re.I)
"""Personal data that was masked stands for words."""


def _without_light(text: str) -> str:
    """Return text without the marks that only help reading: in sentences many, elsewhere few."""
    if len([*islice(_WORDS.finditer(text), _PROSE_WORDS)]) < _PROSE_WORDS:
        return _without_stop(text.rstrip())
    return _MARKS.sub(_heavy, text)


def _heavy(match: re.Match[str]) -> str:
    """Return marks of a sentence, or a space where they only help reading.

    They do behind a word of two letters, or commas behind a number, before the next word or at the end;
    around a word that quotes or parentheses set apart; and where they join two words.
    """
    marks, text, start, end = match.group(), match.string, match.start(), match.end()
    before, after = text[max(0, start - _LONG_WORD) : start], text[end : end + _LONG_WORD]
    if before[-1:].isalpha() and after[:1].isalpha():  # don't, re-activate
        joins = marks == "'" or (marks == "-" and before[-2:].isalpha() and after[:2].isalpha())
        return " " if joins else marks
    if not before or before[-1].isspace():
        opens = len(after) == _LONG_WORD and after.isalpha() and not marks.strip("\"'(")
        before = before.rstrip()  # or a mark stands a space too far right
        if opens or len(before) < 2 or marks.strip(".,;?" if after.strip() else ".,;?!"):
            return " " if opens else marks
    if before[-1].isdigit():
        helps = not marks.strip(",.")
    else:
        is_word = before[-2:].isalpha() and len(before) > 1
        is_word = is_word or bool(_PLACEHOLDER.search(text, max(0, start - _LONGEST_TYPE), start))
        helps = is_word and not marks.strip(".,;:!?)\"'")
    return " " if helps and _FOLLOWS.match(text, end) else marks


_LONGEST_TYPE = 2 + max(map(len, ALL_PII))
