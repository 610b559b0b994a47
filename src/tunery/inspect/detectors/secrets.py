"""Secrets: keys, tokens and passwords of well-known shapes; a finding never shows one."""

from __future__ import annotations

from collections.abc import Sequence

from tunery.core.columns import Columns
from tunery.core.finding import Finding, FindingKind
from tunery.inspect.private_data import PrivateData
from tunery.text.pii.secrets import find_secrets, masked, replaced

_SECRET = FindingKind(
    "secret",
    "Keys, tokens and passwords",
    "high",
    "Revoke them where they were issued, then apply the edits; a model can recite what it was trained on.",
    is_private=True,
)
KINDS = (_SECRET,)


def find(columns: Columns, *, inputs: Sequence[str] | None = None) -> list[Finding]:
    """Find keys, tokens and passwords; four characters of each are shown at most."""
    sought = PrivateData(
        "keys, tokens or passwords", lambda texts: [find_secrets(text) for text in texts], masked, replaced
    )
    return sought.find(columns, _SECRET, inputs)
