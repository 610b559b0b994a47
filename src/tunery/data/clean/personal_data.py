"""What a recipe does with personal data: masked, replaced by surrogates, or left alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tunery.data.config import CleanConfig
from tunery.text.pii.mask import Masked, replace_found
from tunery.text.pii.surrogate import surrogate
from tunery.text.pii.types import Span
from tunery.text.pii.vault import Mapping


def apply_policy(texts: Sequence[str], clean: CleanConfig) -> Masked:
    """Mask or replace personal data as the settings say for each kind.

    Args:
        texts: Any number of texts.
        clean: Its ``pii_`` settings are read. Where ``pii_mapping`` is set, what was replaced and by what is
            added to that file, encrypted; else nothing remembers it.

    Raises:
        ConfigError: The mapping is required, and there is no key to encrypt it with.
    """

    def replacement(span: Span, value: str) -> str:
        if clean.policy_of(span.type) == "surrogate":
            return surrogate(value, span.type, clean.pii_seed)
        return f"<{span.type}>"

    mapping = None if clean.pii_mapping is None else Mapping(Path(clean.pii_mapping))
    return replace_found(texts, clean.pii_replaced, replacement, mapping)
