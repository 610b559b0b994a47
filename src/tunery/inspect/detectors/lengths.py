"""Token lengths: rows that do not fit the model."""

from __future__ import annotations

from collections.abc import Sequence

from tunery.core.columns import Columns
from tunery.core.figures import counted, percent_of
from tunery.core.finding import Finding
from tunery.inspect.evidence import Case, Verdict, made

_QUANTILES = (50, 90, 95, 99, 100)


def token_lengths(columns: Columns, lengths: Sequence[int], limit: int) -> list[Finding]:
    """Find rows of more tokens than training takes.

    Args:
        columns: The rows.
        lengths: Tokens of each row, prompt and answer rendered together, shape ``(rows,)`` [tokens].
        limit: Most that training takes [tokens].

    Returns:
        At most one finding, ``too_long`` (high), longest rows first; its numbers hold quantiles of all rows.

    Raises:
        ValueError: There is not one length a row.
    """
    if len(lengths) != len(columns):
        raise ValueError(f"{len(lengths)} lengths for {len(columns)} rows")
    over = sorted((i for i, n in enumerate(lengths) if n > limit), key=lambda i: (-lengths[i], i))
    if not over:
        return []
    ordered = sorted(lengths)
    quantiles = {f"p{q}": ordered[min(len(ordered) - 1, len(ordered) * q // 100)] for q in _QUANTILES}
    message = (
        f"{counted(len(over), 'row has', 'rows have')} over {limit:,} tokens "
        f"({percent_of(len(over), len(columns))}); the longest has {lengths[over[0]]:,}. Such rows are left "
        "out of training."
    )
    fix = f"Shorten them, or raise the training length: {quantiles['p99']:,} tokens hold 99 % of the rows."
    cases = [Case((i,), columns.prompts[i], f"{lengths[i]:,} tokens") for i in over]
    verdict = Verdict("too_long", "high", message, fix)
    return [made(columns, verdict, cases, numbers={"rows": len(over), "limit": limit, **quantiles})]
