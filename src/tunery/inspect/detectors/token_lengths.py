"""Token lengths: rows that do not fit the model."""

from __future__ import annotations

from collections.abc import Sequence

from tunery.core.columns import Columns
from tunery.core.figures import counted, percent_of
from tunery.core.finding import Finding, FindingKind
from tunery.inspect.evidence import Case, finding

_TOO_LONG = FindingKind(
    "too_long", "Rows of too many tokens", "high", "Shorten them, or raise the training length."
)
KINDS = (_TOO_LONG,)

_QUANTILES = (50, 90, 95, 99, 100)


def find(columns: Columns, lengths: Sequence[int], max_tokens: int) -> list[Finding]:
    """Find rows of more tokens than training takes, the longest first.

    Args:
        columns: The rows.
        lengths: Tokens of each row, prompt and answer rendered together, shape ``(rows,)`` [tokens].
        max_tokens: Most that training takes [tokens].

    Returns:
        At most one finding; its numbers hold quantiles of all rows.

    Raises:
        ValueError: There is not one length a row.
    """
    if len(lengths) != len(columns):
        raise ValueError(f"{len(lengths)} lengths for {len(columns)} rows")
    over = sorted((i for i, n in enumerate(lengths) if n > max_tokens), key=lambda i: (-lengths[i], i))
    if not over:
        return []
    ordered = sorted(lengths)
    quantiles = {f"p{q}": ordered[min(len(ordered) - 1, len(ordered) * q // 100)] for q in _QUANTILES}
    message = (
        f"{counted(len(over), 'row has', 'rows have')} over {max_tokens:,} tokens "
        f"({percent_of(len(over), len(columns))}); the longest has {lengths[over[0]]:,}. Such rows are left "
        "out of training."
    )
    fix = f"Shorten them, or raise the training length: {quantiles['p99']:,} tokens hold 99 % of the rows."
    cases = [Case((i,), columns.prompts[i], f"{lengths[i]:,} tokens") for i in over]
    numbers = {"rows": len(over), "limit": max_tokens, **quantiles}
    return [finding(columns, _TOO_LONG._replace(fix=fix), message, cases, numbers=numbers)]
