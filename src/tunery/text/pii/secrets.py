"""Keys, tokens and passwords: the one definition that masking, the request log and inspection share."""

from __future__ import annotations

import math
import re
from bisect import insort
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from tunery.text.pii.json_text import is_json, without_escapes
from tunery.text.pii.types import is_free


class Secret(NamedTuple):
    """One secret in a text."""

    start: int
    end: int
    type: str
    """What its placeholder is called, such as ``AWS_ACCESS_KEY``."""


class _Form(NamedTuple):
    """How one kind of secret is written."""

    type: str
    cues: tuple[str, ...]
    """Of which the text must hold one; searching for these is much cheaper than for the form."""
    regex: re.Pattern[str]
    """All of its match is the secret, but for ``_NAMED``, where it stands behind the match."""
    holds: Callable[[str], bool]
    """Whether what has the form is a secret, and no placeholder for one."""


_MIN_ENTROPY = 3.0
"""Entropy of a random value's characters; words and dates lie below [bits a character]."""
_PLACEHOLDER_WORDS = (
    r"(?:example|sample|dummy|placeholder|changeme|change[_-]me|redacted|insert|replace|your|test[_-]?key|xxxx|\*\*\*|"
    r"\.\.\.|1234567|abcdef|password|passwd|secret|token|api_?key|process\.env|environ|getenv|config|settings|\$\{|<|>)"
)
_PLACEHOLDER = re.compile(_PLACEHOLDER_WORDS, re.I)
# Within the random part of a key any short word turns up by chance.
_PLACEHOLDER_KEY = re.compile(
    rf"\A{_PLACEHOLDER_WORDS}|{_PLACEHOLDER_WORDS}\Z|(?<=[-_/]){_PLACEHOLDER_WORDS}(?=[-_/])", re.I
)
_PLACEHOLDER_PASSWORD = re.compile(
    r"(?i:\$?pass(?:word|wd)?|pwd|secret|change[_-]?me|your(?:(?:[_-][a-z]+)+|pass(?:word|wd)?|pwd|secret)?|x+)|"
    r"\*+|\.+|\$[A-Z_][A-Z0-9_]*|\$\{[\w.:-]+\}|%s|%\(\w+\)s|%[A-Za-z_]\w*%|\$?\{\{[\w.-]+\}\}|\{[\w.]*\}|<[^<>]+>"
)
_TYPE_PREFIX = re.compile(
    r"\A(?:sk-(?:proj-|svcacct-|admin-|ant-(?:api\d+-)?)?|gh[pousr]_|github_pat_|glpat-|xox\w-|[srp]k_(?:live|test)_|"
    r"whsec_|hf_|npm_|pypi-|SG\.|A[KS]IA|AIza|GOCSPX-|ya29\.|do[opr]_v1_)"
)
_DOTTED_NAME = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")  # user.password1
_NUMBERED_WORD = re.compile(r"[A-Za-z]+[_-]?\d{0,2}")
_WORD = r"(?>[A-Z]++(?![a-z])\d{0,5}|[A-Za-z][a-z]*+(?:[A-Z][a-z]{2,}+)*+\d{0,5}|\d{1,5})"
_JOINED_WORDS = re.compile(
    r"(?=(?:[A-Za-z0-9]*+[-_/])*?[A-Za-z]{3,}(?:[-_/]|\Z))"  # one is a word indeed, unlike in AB12-CD34
    r"(?![A-Za-z]+[-_/]\d{3,}\Z)"  # Summer-2024 is what people choose for a password
    rf"_{{0,2}}{_WORD}(?:[-_/]{{1,2}}+{_WORD})+_{{0,2}}"  # get_input_1_value, ERC-20/BEP-20
)
_NAME_IN_CODE = re.compile(r"[A-Za-z_]\w*(?:\.\w+)*")
_PATH = re.compile(r"~|\.{0,2}/")
_DIGIT = re.compile(r"\d")
_PEM_NAME = r"(?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?"
_BASE64_RUN = re.compile(r"[A-Za-z0-9+/=]{16}")


def entropy(text: str) -> float:
    """Return the entropy of a text's characters [bits a character].

    >>> entropy("aabb")
    1.0
    """
    counts = Counter(text).values()
    return -sum(n / len(text) * math.log2(n / len(text)) for n in counts) if text else 0.0


def _own(value: str, placeholder: re.Pattern[str] = _PLACEHOLDER_KEY) -> str | None:
    """Return a key less the prefix that names its issuer; None for a placeholder."""
    own = _TYPE_PREFIX.sub("", value)
    return None if placeholder.search(own) or len(set(own)) < 6 else own


def _looks_random(value: str) -> bool:
    own = _own(value)
    return own is not None and entropy(own) >= _MIN_ENTROPY


def _is_key(value: str) -> bool:
    return _DIGIT.search(_TYPE_PREFIX.sub("", value)) is not None and _looks_random(value)


def _is_long_key(value: str) -> bool:
    own = _own(value)  # of its parts some are words, so its entropy says nothing
    return own is not None and _DIGIT.search(own) is not None


def _is_private_key(value: str) -> bool:
    return "..." not in value and _BASE64_RUN.search(value) is not None


def _always(_: str) -> bool:
    return True


def _has_password(address: str) -> bool:
    password = address.partition("://")[2].partition("@")[0].partition(":")[2]
    return _PLACEHOLDER_PASSWORD.fullmatch(password) is None


def _is_unnamed_key(value: str) -> bool:
    """Tell whether a value of unknown form looks random: letters and digits, and no word, name or date."""
    return (
        _own(value, _PLACEHOLDER) is not None
        and _DIGIT.search(value) is not None
        and any(c.isalpha() for c in value)
        and entropy(value) >= _MIN_ENTROPY
        and not _DOTTED_NAME.fullmatch(value)
        and not _NUMBERED_WORD.fullmatch(value)
        and not _JOINED_WORDS.fullmatch(value)
        and not _PATH.match(value)
    )


_FORMS = (
    _Form(
        "PRIVATE_KEY",
        ("-----BEGIN",),
        # To its end or, where that is cut off, as far as there is base64: a header in prose is no key.
        re.compile(
            rf"-----BEGIN {_PEM_NAME}-----(?:"
            rf"(?:[\sA-Za-z0-9+/=:,.\\]|-(?!----)){{16,8192}}+-----END {_PEM_NAME}-----|"
            r"\s{0,8}+(?:[A-Z][\w-]{2,15}: [^\r\n]{1,200}+\s{1,8}+){0,4}+"  # DEK-Info: AES-128-CBC,…
            r"[A-Za-z0-9+/=]{32,}+(?:\s{1,8}+[A-Za-z0-9+/=]{32,}+)*+"
            r"(?:\s{1,8}+(?=[A-Za-z]*+[0-9+/=]|[A-Za-z]*[a-z][A-Z])[A-Za-z0-9+/=]++)?)"
        ),
        _is_private_key,
    ),
    _Form(
        "AWS_ACCESS_KEY",
        ("AKIA", "ASIA"),
        re.compile(r"(?<![A-Za-z0-9])(?:AKIA|ASIA(?=[A-Z]*\d))[A-Z0-9]{16}(?![A-Za-z0-9])"),
        _looks_random,
    ),
    _Form(
        "GITHUB_TOKEN",
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
        re.compile(
            r"(?<![A-Za-z0-9_])(?:gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{60,255})(?!\w)"
        ),
        _is_key,
    ),
    _Form("GITLAB_TOKEN", ("glpat-",), re.compile(r"(?<![\w-])glpat-[\w-]{20,}(?![\w-])"), _is_key),
    _Form("ANTHROPIC_KEY", ("sk-ant-",), re.compile(r"(?<![\w-])sk-ant-[\w-]{30,}"), _is_key),
    _Form(
        "OPENAI_KEY",
        ("sk-",),
        # Somewhere twelve letters and digits stand together: names of models and packages are of short words.
        re.compile(r"(?<![\w-])sk-(?=[\w-]*?[A-Za-z0-9]{12})[A-Za-z0-9][A-Za-z0-9_-]{19,}(?![\w-])"),
        _is_key,
    ),
    _Form(
        "SLACK_TOKEN",
        ("xox", "xapp-"),
        re.compile(r"(?<![\w-])(?:xox[abeoprs]-[0-9A-Za-z-]{10,}|xapp-\d-[0-9A-Za-z-]{20,})(?![\w-])"),
        _is_key,
    ),
    _Form(
        "SLACK_WEBHOOK",
        ("hooks.slack",),
        re.compile(r"https://hooks\.slack\.com/services/T\w{6,}/B\w{6,}/\w{16,}"),
        _is_long_key,
    ),
    _Form(
        "GOOGLE_KEY",
        ("AIza", "GOCSPX-", "ya29."),
        re.compile(r"(?<![\w-])(?:AIza[\w-]{35}|GOCSPX-[\w-]{28}|ya29\.[\w-]{40,})(?![\w-])"),
        _is_key,
    ),
    _Form(
        "STRIPE_KEY",
        ("k_live_", "k_test_", "whsec_"),
        re.compile(r"(?<!\w)(?:[sr]k_(?:live|test)_[A-Za-z0-9]{16,}|whsec_[A-Za-z0-9+/]{24,})"),
        _is_key,
    ),
    _Form("HUGGINGFACE_TOKEN", ("hf_",), re.compile(r"(?<!\w)hf_[A-Za-z]{34}(?!\w)"), _looks_random),
    _Form(
        "PACKAGE_TOKEN",
        ("npm_", "pypi-"),
        re.compile(r"(?<![\w-])(?:npm_[A-Za-z0-9]{36}|pypi-AgEIcHlwaS5vcmc[\w-]{50,})(?![\w-])"),
        _is_key,
    ),
    _Form("SENDGRID_KEY", ("SG.",), re.compile(r"(?<!\w)SG\.[\w-]{22}\.[\w-]{43}(?![\w-])"), _is_key),
    _Form("DIGITALOCEAN_TOKEN", ("_v1_",), re.compile(r"(?<!\w)do[opr]_v1_[0-9a-f]{64}(?!\w)"), _is_key),
    _Form(
        "JWT",
        ("eyJ",),
        re.compile(r"(?<![\w-])eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}(?![\w-])"),
        _always,
    ),
    # An address that carries a password: with it the user and the host are nobody else's business either.
    _Form(
        "URL_PASSWORD",
        ("://",),
        re.compile(
            r"\b[a-z][a-z0-9+.-]{1,15}://[^\s/@:<>\"'`]{0,64}:[^\s/@<>\"'`]{1,128}"
            r"@[^\s<>\"'`]{1,256}(?<![.,;:!?)\]}])",
            re.I,
        ),
        _has_password,
    ),
    _Form(
        "SECRET",
        ("key", "secret", "token", "passw", "pwd", "credential"),
        re.compile(
            r"(?<![^\W_])(?:api[_-]?key|secret(?:[_-]?(?:access[_-]?)?key)?|(?:access|auth|bearer)[_-]?token|"
            r"token|passw(?:or)?d|pwd|client[_-]?secret|credentials?)\b[\"'`]?\s{0,3}(?::=|=>|[:=])\s{0,3}[\"'`]?",
            re.I,
        ),
        _always,
    ),
)
"""Of two that claim the same characters the earlier form has them."""
_NAMED = _FORMS[-1]
"""A value of any form behind a word that says what it is and a sign that assigns; see ``_named_values``."""
_VALUE = re.compile(r"[A-Za-z0-9+/_.~!@#$%^*=-]*+(?:&(?!(?:amp;)?\w+=)[A-Za-z0-9+/_.~!@#$%^*=-]*+)*+")
_LOOKED_AT = 200
"""So much of a value tells whether it is random [characters]."""
_CUES = tuple((cue, form) for form in _FORMS[:-1] for cue in form.cues)


MAY_BE_SECRET = re.compile(r"(?<!\S)(?=\S{8})\S*?(?:[\d_]|AKIA|-----BEGIN|eyJ|://)")
"""Finds a word that may be part of a secret, which is much cheaper than to look for each form: it is long and
has a digit, but for those forms that may lack one."""


def find_secrets(text: str) -> list[Secret]:
    """Return the secrets in a text, sorted, none overlapping; placeholders such as ``sk-your-key`` are none.

    Values of unknown form count only after a word such as ``api_key`` and a sign that assigns, and only if
    they look random: letters and digits, and at least three bits of entropy a character. Escapes are read:
    what stands behind the ``\\n`` of a JSON string begins a word.
    """
    if "\\" not in text:
        return _found_in((text,))
    plain = without_escapes(text)
    return _found_in((plain,) if is_json(text) else (text, plain))


def _found_in(readings: Sequence[str]) -> list[Secret]:
    """Return the secrets of readings of one text, all of one length."""
    found: list[Secret] = []
    for text in readings:
        for form in _forms_in(text):
            places = _named_values(text) if form is _NAMED else (m.span() for m in form.regex.finditer(text))
            for start, end in places:
                if is_free(found, start, end) and form.holds(text[start:end]):
                    insort(found, Secret(start, end, form.type))
    return found


def _named_values(text: str) -> Iterator[tuple[int, int]]:
    """Return where the random values stand that a word such as ``api_key`` names.

    A value may hold such a word and a value itself; to where the outer one reaches is found once.
    """
    stop, end, taken = -1, -1, -1
    for name in _NAMED.regex.finditer(text):
        start = name.end()
        if start > stop and (value := _VALUE.match(text, start)):
            stop = value.end()
            end = start + len(value[0].rstrip(".!"))
        if end - start < 8 or start < taken:
            continue
        looked_at = text[start : min(end, start + _LOOKED_AT)]
        calls = end == stop and text[end : end + 1] in ("(", "[") and _NAME_IN_CODE.fullmatch(looked_at)
        if not calls and _is_unnamed_key(looked_at):
            taken = end
            yield start, end


def _forms_in(text: str) -> list[_Form]:
    """Return the forms whose cues stand in a text, in their order."""
    found = [form for cue, form in _CUES if cue in text]
    low = text.lower()
    found += [_NAMED for cue in _NAMED.cues if cue in low][:1]
    return list(dict.fromkeys(found)) if len(found) > 1 else found


def masked(text: str, found: Sequence[Secret]) -> str:
    """Return a text in which of each secret only the first four characters are left."""
    for secret in reversed(found):
        text = f"{text[: min(secret.start + 4, secret.end)]}…<{secret.type}>{text[secret.end :]}"
    return text


def replaced(text: str, found: Sequence[Secret]) -> str:
    """Return a text with each secret replaced by a placeholder such as ``<AWS_ACCESS_KEY>``."""
    for secret in reversed(found):
        text = f"{text[: secret.start]}<{secret.type}>{text[secret.end :]}"
    return text
