"""Keys, tokens and passwords: the one definition that masking, the request log and inspection share."""

from __future__ import annotations

import math
import re
from bisect import insort
from collections import Counter
from collections.abc import Callable, Sequence
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
    """Its group ``value`` is the secret; all of the match where there is no such group."""
    holds: Callable[[str], bool]
    """Whether what has the form is a secret, and no placeholder for one."""


_MIN_ENTROPY = 3.0
"""Entropy of a random value's characters; words and dates lie below [bits a character]."""
_PLACEHOLDER = re.compile(
    r"example|sample|dummy|placeholder|changeme|change[_-]me|redacted|insert|replace|your|test[_-]?key|xxxx|\*\*\*|"
    r"\.\.\.|1234567|abcdef|password|passwd|secret|token|api_?key|process\.env|environ|getenv|config|settings|\$\{|<|>",
    re.I,
)
_PLACEHOLDER_PASSWORD = re.compile(r"pass(?:word|wd)?|pwd|secret|your.*|\*+|x+|\.+|\$.*|%.*|\{.*", re.I)
_TYPE_PREFIX = re.compile(
    r"\A(?:sk-(?:proj-|svcacct-|admin-|ant-(?:api\d+-)?)?|gh[pousr]_|github_pat_|glpat-|xox\w-|[srp]k_(?:live|test)_|"
    r"whsec_|hf_|npm_|pypi-|SG\.|A[KS]IA|AIza|GOCSPX-|ya29\.|do[opr]_v1_)"
)
_DOTTED_NAME = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")  # user.password1
_NUMBERED_WORD = re.compile(r"[A-Za-z]+[_-]?\d{0,2}")
_DIGIT = re.compile(r"\d")


def entropy(text: str) -> float:
    """Return the entropy of a text's characters [bits a character].

    >>> entropy("aabb")
    1.0
    """
    counts = Counter(text).values()
    return -sum(n / len(text) * math.log2(n / len(text)) for n in counts) if text else 0.0


def _own(value: str) -> str | None:
    """Return a key less the prefix that names its issuer; None for a placeholder."""
    own = _TYPE_PREFIX.sub("", value)
    return None if _PLACEHOLDER.search(own) or len(set(own)) < 6 else own


def _looks_random(value: str) -> bool:
    own = _own(value)
    return own is not None and entropy(own) >= _MIN_ENTROPY


def _is_key(value: str) -> bool:
    return _DIGIT.search(_TYPE_PREFIX.sub("", value)) is not None and _looks_random(value)


def _is_long_key(value: str) -> bool:
    own = _own(value)  # of its parts some are words, so its entropy says nothing
    return own is not None and _DIGIT.search(own) is not None


def _is_private_key(value: str) -> bool:
    return "..." not in value


def _has_password(address: str) -> bool:
    password = address.partition("://")[2].partition("@")[0].partition(":")[2]
    return _PLACEHOLDER_PASSWORD.fullmatch(password) is None


def _is_unnamed_key(value: str) -> bool:
    """Tell whether a value of unknown form looks random: letters and digits, and no word, name or date."""
    return (
        _own(value) is not None
        and _DIGIT.search(value) is not None
        and any(c.isalpha() for c in value)
        and entropy(value) >= _MIN_ENTROPY
        and not _DOTTED_NAME.fullmatch(value)
        and not _NUMBERED_WORD.fullmatch(value)
    )


_FORMS = (
    _Form(
        "PRIVATE_KEY",
        ("-----BEGIN",),
        re.compile(
            r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----[\sA-Za-z0-9+/=:,.\\-]{16,8192}?"
            r"(?:-----END (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----|\Z)"
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
        _is_long_key,
    ),
    # An address that carries a password: with it the user and the host are nobody else's business either.
    _Form(
        "URL_PASSWORD",
        ("://",),
        re.compile(
            r"\b[a-z][a-z0-9+.-]{1,15}://[^\s/@:<>\"'`]{1,64}:[^\s/@<>\"'`]{1,128}"
            r"@[^\s<>\"'`]{1,256}(?<![.,;:!?)\]}])",
            re.I,
        ),
        _has_password,
    ),
    # A value of any form behind a word that says what it is and a sign that assigns; it is only looked at, as
    # it may be such a word itself.
    _Form(
        "SECRET",
        ("key", "secret", "token", "passw", "pwd", "credential"),
        re.compile(
            r"(?<![^\W_])(?:api[_-]?key|secret(?:[_-]?(?:access[_-]?)?key)?|(?:access|auth|bearer)[_-]?token|"
            r"token|passw(?:or)?d|pwd|client[_-]?secret|credentials?)\b[\"'`]?\s{0,3}(?::|=|:=|=>)\s{0,3}[\"'`]?"
            r"(?=(?P<value>[A-Za-z0-9+/_.~!@#$%^&*=-]{8,200})(?<![.!])(?![A-Za-z0-9(\[]))",
            re.I,
        ),
        _is_unnamed_key,
    ),
)
"""Of two that claim the same characters the earlier form has them."""
_NAMED = _FORMS[-1]
_CUES = tuple((cue, form) for form in _FORMS[:-1] for cue in form.cues)


MAY_BE_SECRET = re.compile(r"(?<!\S)(?=\S{8})\S*?(?:[\d_]|AKIA|-----BEGIN|://)")
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
            part: str | int = "value" if "value" in form.regex.groupindex else 0
            for match in form.regex.finditer(text):
                start, end = match.span(part)
                if is_free(found, start, end) and form.holds(match.group(part)):
                    insort(found, Secret(start, end, form.type))
    return found


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
