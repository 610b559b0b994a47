"""Keys, tokens and passwords: their shapes, where they stand in a text, and the text without them."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

_SHAPES = (
    "AKIA", "ASIA", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "sk-", "k_live_",
    "k_test_", "whsec_", "xox", "xapp-", "hooks.slack", "AIza", "GOCSPX-", "ya29.", "hf_", "npm_",
    "pypi-", "SG.", "_v1_", "-----BEGIN", "eyJ", "://",
)  # fmt: skip
_WORDS = ("key", "secret", "token", "passw", "pwd", "credential")
"""What a text must hold to be worth searching, as it is and in small letters."""

_PATTERNS: tuple[tuple[str, re.Pattern[str]], ...] = (
    (
        "PRIVATE_KEY",
        re.compile(
            r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----[\sA-Za-z0-9+/=:,.\\-]{40,4000}?"
            r"(?:-----END (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----|\Z)"
        ),
    ),
    ("AWS_ACCESS_KEY", re.compile(r"(?<![A-Za-z0-9])(?:AKIA|ASIA)[A-Z2-7]{16}(?![A-Za-z0-9])")),
    (
        "GITHUB_TOKEN",
        re.compile(
            r"(?<![A-Za-z0-9_])(?:gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{60,255})(?!\w)"
        ),
    ),
    ("GITLAB_TOKEN", re.compile(r"(?<![\w-])glpat-[\w-]{20,}(?![\w-])")),
    ("ANTHROPIC_KEY", re.compile(r"(?<![\w-])sk-ant-[\w-]{30,}")),
    (
        "OPENAI_KEY",
        re.compile(
            r"(?<![\w-])sk-(?:proj-|svcacct-|admin-|None-)?[A-Za-z0-9](?:[A-Za-z0-9_-]{30,})(?![\w-])"
        ),
    ),
    (
        "SLACK_TOKEN",
        re.compile(r"(?<![\w-])(?:xox[abeoprs]-[0-9A-Za-z-]{16,}|xapp-\d-[0-9A-Za-z-]{20,})(?![\w-])"),
    ),
    ("SLACK_WEBHOOK", re.compile(r"https://hooks\.slack\.com/services/T\w{6,}/B\w{6,}/\w{16,}")),
    ("GOOGLE_KEY", re.compile(r"(?<![\w-])(?:AIza[\w-]{35}|GOCSPX-[\w-]{28}|ya29\.[\w-]{40,})(?![\w-])")),
    ("STRIPE_KEY", re.compile(r"(?<!\w)(?:[sr]k_(?:live|test)_[A-Za-z0-9]{16,}|whsec_[A-Za-z0-9+/]{24,})")),
    ("HUGGINGFACE_TOKEN", re.compile(r"(?<!\w)hf_[A-Za-z]{34}(?!\w)")),
    (
        "PACKAGE_TOKEN",
        re.compile(r"(?<![\w-])(?:npm_[A-Za-z0-9]{36}|pypi-AgEIcHlwaS5vcmc[\w-]{50,})(?![\w-])"),
    ),
    ("SENDGRID_KEY", re.compile(r"(?<!\w)SG\.[\w-]{22}\.[\w-]{43}(?![\w-])")),
    ("DIGITALOCEAN_TOKEN", re.compile(r"(?<!\w)do[opr]_v1_[0-9a-f]{64}(?!\w)")),
    ("JWT", re.compile(r"(?<![\w-])eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{20,}(?![\w-])")),
    (
        "URL_PASSWORD",
        re.compile(
            r"\b[a-z][a-z0-9+.-]{1,15}://[^\s/@:<>\"'`]{1,64}:(?P<value>[^\s/@<>\"'`]{3,128})@[\w\[]", re.I
        ),
    ),
    (
        "SECRET",
        re.compile(
            r"\b(?:[a-z0-9]{1,20}[_-]){0,3}(?:api[_-]?key|apikey|secret(?:[_-]?(?:access[_-]?)?key)?|(?:access|auth|bearer)[_-]?token|"
            r"token|passw(?:or)?d|pwd|client[_-]?secret|credentials?)\b[\"'`]?\s{0,3}(?::|=|:=|=>)\s{0,3}[\"'`]?"
            r"(?P<value>[A-Za-z0-9+/_.~!@#$%^&*=-]{8,200})(?![A-Za-z0-9(\[])",
            re.I,
        ),
    ),
)
_PLACEHOLDER = re.compile(
    r"example|sample|dummy|placeholder|changeme|change[_-]me|redacted|insert|replace|your|test[_-]?key|xxxx|\*\*\*|"
    r"\.\.\.|1234567|abcdef|password|passwd|secret|token|api_?key|process\.env|environ|getenv|config|settings|\$\{|<|>",
    re.I,
)
_TYPE_PREFIX = re.compile(
    r"\A(?:sk-(?:proj-|svcacct-|admin-|ant-(?:api\d+-)?)?|gh[pousr]_|github_pat_|glpat-|xox\w-|[srp]k_(?:live|test)_|"
    r"whsec_|hf_|npm_|pypi-|SG\.|A[KS]IA|AIza|GOCSPX-|ya29\.|do[opr]_v1_)"
)
_ENOUGH = 3.0
"""Entropy of a generic value's characters; words and dates lie below [bits a character]."""
_PASSWORDS = ("URL_PASSWORD",)


class Secret(NamedTuple):
    """One secret in a text."""

    start: int
    end: int
    type: str
    """What its placeholder is called, such as ``AWS_ACCESS_KEY``."""


def find_secrets(text: str) -> list[Secret]:
    """Return the secrets in a text, sorted, none overlapping; placeholders such as ``sk-your-key`` are none.

    Values of unknown shape count only after a word such as ``api_key`` and a sign that assigns, and only if
    they look drawn by chance: letters and digits, and at least three bits of entropy a character.
    """
    if not any(cue in text for cue in _SHAPES):
        small = text.lower()
        if not any(word in small for word in _WORDS):
            return []
    found: list[Secret] = []
    for kind, pattern in _PATTERNS:
        for match in pattern.finditer(text):
            start, end = match.span("value") if "value" in pattern.groupindex else match.span()
            value = text[start:end]
            if kind == "SECRET":
                value = value.rstrip(".,;:!?")
                end = start + len(value)
            if any(s.start < end and start < s.end for s in found) or not _is_secret(kind, value):
                continue
            found.append(Secret(start, end, kind))
    return sorted(found)


def _is_secret(kind: str, value: str) -> bool:
    if kind == "PRIVATE_KEY":
        return "..." not in value
    if kind in _PASSWORDS:
        return not re.search(
            r"\A(?:pass(?:word|wd)?|pwd|secret|your.*|\*+|x+|\.+|\$.*|%.*|\{.*)\Z", value, re.I
        )
    bare = _TYPE_PREFIX.sub("", value)
    if _PLACEHOLDER.search(bare) or len(set(bare)) < 6:
        return False
    if kind != "SECRET":
        drawn = kind == "HUGGINGFACE_TOKEN" or any(c.isdigit() for c in bare)
        return kind in ("JWT", "SLACK_WEBHOOK") or (drawn and entropy(bare) >= _ENOUGH)
    mixed = any(c.isdigit() for c in value) and any(c.isalpha() for c in value)
    dotted = re.fullmatch(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+", value) is not None  # user.password1
    return (
        mixed
        and not dotted
        and entropy(value) >= _ENOUGH
        and not re.fullmatch(r"[A-Za-z]+[_-]?\d{0,2}", value)
    )


def entropy(text: str) -> float:
    """Return the entropy of a text's characters [bits a character].

    >>> entropy("aabb")
    1.0
    """
    counts = Counter(text).values()
    return -sum(n / len(text) * math.log2(n / len(text)) for n in counts) if text else 0.0


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
