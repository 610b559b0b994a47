"""Reversed pairs: preferences whose order the other pairs speak against."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tunery.core.columns import Columns
from tunery.core.errors import ConfigError
from tunery.core.figures import counted, percent_of
from tunery.core.finding import Finding, FindingKind
from tunery.inspect.evidence import MOST_ROWS, Case, finding, not_verified, unverified
from tunery.inspect.labels import find_reversed_pairs
from tunery.text.embeddings import Encoder

_REVERSED = FindingKind(
    "disputed_preference",
    "Reversed preferences",
    "medium",
    "Let a person look which answer is better, and swap or drop the pair.",
)
_NOT_VERIFIED = not_verified("preferences")
KINDS = (_REVERSED, _NOT_VERIFIED)


def find(
    columns: Columns, rejected: Sequence[str | None], *, encoder: Encoder | None = None
) -> Iterator[Finding]:
    """Find preference pairs that are probably the wrong way round.

    Without an encoder words alone are compared.

    Returns:
        ``disputed_preference``, without edits; ``preferences_not_verified`` in its place beyond 50,000 rows.
    """
    pairs = [(i, text) for i, text in enumerate(rejected) if text is not None]
    if len(pairs) > MOST_ROWS:
        yield unverified(columns, _NOT_VERIFIED, "preferences", len(pairs))
        return
    prompts = [columns.prompts[i] for i, _ in pairs]
    chosen = [columns.answers[i] for i, _ in pairs]
    try:
        found = find_reversed_pairs(prompts, chosen, [text for _, text in pairs], encoder=encoder)
    except ConfigError:
        return  # no answer has a letter or a digit to prefer it for
    if not found:
        return
    message = (
        f"{counted(len(found), 'pair is', 'pairs are')} ordered against what the others prefer "
        f"({percent_of(len(found), len(pairs))})."
    )
    rows = [pairs[pair.row] for pair in found]
    cases = [
        Case(
            (i,),
            f"preferred: {columns.answers[i]:.90} | over: {text:.90}",
            f"reversed with probability {pair.score:.2f}",
        )
        for (i, text), pair in zip(rows, found, strict=True)
    ]
    scores = {columns.ids[i]: round(pair.score, 4) for (i, _), pair in zip(rows, found, strict=True)}
    yield finding(columns, _REVERSED, message, cases, numbers={"scores": scores})
