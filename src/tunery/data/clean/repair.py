"""Cleaning: drafts with their texts repaired and masked, and the examples they make."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from tunery.core.example import Example, Message, content_sha256, short_id
from tunery.core.tool_text import with_system_prompt, with_words, words_of
from tunery.data.clean.personal_data import apply_policy
from tunery.data.config import CleanConfig
from tunery.data.rows.row import CleanRow, Draft
from tunery.text.markup import strip_html
from tunery.text.normalise import fix_mojibake, normalise
from tunery.text.pii.types import PiiType

_BATCH = 1000


class CleanDrafts(NamedTuple):
    """Drafts with their texts repaired and masked, in the same order."""

    drafts: list[Draft]
    masked: Counter[PiiType]
    """Type of personal data to spans masked [count]."""


def clean_drafts(drafts: Sequence[Draft], clean: CleanConfig) -> CleanDrafts:
    """Return drafts with their texts repaired and masked as the settings ask."""
    cleaned = CleanDrafts([], Counter())
    for start in range(0, len(drafts), _BATCH):
        batch = drafts[start : start + _BATCH]
        before = [d.texts for d in batch]
        texts = repair([t for own in before for t in own], clean)
        if clean.mask_pii:
            result = apply_policy(texts, clean)
            texts = result.texts
            cleaned.masked.update(result.counts)
        at = 0
        for draft, own in zip(batch, before, strict=True):
            mine = texts[at : at + len(own)]
            cleaned.drafts.append(draft if mine == own else _with_texts(draft, mine))
            at += len(own)
    return cleaned


def repair(texts: Sequence[str], clean: CleanConfig) -> list[str]:
    """Return texts repaired as the settings ask: wrong decoding first, for markup may be hidden in it."""
    repaired = list(texts)
    if clean.fix_mojibake:
        repaired = [fix_mojibake(t) for t in repaired]
    if clean.strip_html:
        repaired = [strip_html(t) for t in repaired]
    return [normalise(t) for t in repaired] if clean.normalise else repaired


def _with_texts(draft: Draft, texts: Sequence[str]) -> Draft:
    turns: list[Message] = []
    at = 0
    for turn in draft.turns:
        count = len(words_of(turn))
        turns.append(with_words(turn, texts[at : at + count]))
        at += count
    rejected = None if draft.rejected is None else turns.pop().content
    return replace(draft, messages=tuple(turns), rejected=rejected)


def identified(draft: Draft, system_prompt: str | None) -> CleanRow:
    """Return the example a draft makes, named after its content.

    Args:
        draft: Cleaned.
        system_prompt: Put first where the draft has no system turn of its own.
    """
    messages = with_system_prompt(draft.messages, system_prompt)
    sha256 = content_sha256(messages, draft.rejected)
    example = Example(
        id=short_id(sha256),
        messages=messages,
        rejected=draft.rejected,
        group=short_id(sha256),
        metadata={"source": draft.source, "row": draft.row, **draft.metadata},
    )
    return CleanRow(example, sha256, draft.group_keys, draft.sampling_key)
