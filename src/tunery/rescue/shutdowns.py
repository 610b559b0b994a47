"""When models end by what was reported, for sources that do not say so themselves."""

from __future__ import annotations

from datetime import date

from tunery.core.forwarding import Shutdown

LAST_NEW_JOB = Shutdown(
    on=date(2027, 1, 6),
    source="notice of 7 May 2026, developers.openai.com/api/docs/deprecations",
)
"""Last day on which OpenAI takes a new fine-tuning job from anyone."""
_ELSEWHERE = (".azure.com", ".azure-api.net")
_OCTOBER = "notice of 14 October 2026, as dev.to/importstatic and codersera.com report it"
_APRIL = "notice of 22 April 2026, as spybara.com mirrors developers.openai.com/api/docs/deprecations"
_ENDS: dict[str, Shutdown] = {
    "gpt-4o-2024-05-13": Shutdown(on=date(2026, 10, 23), source=_APRIL),
    "gpt-4.1-nano": Shutdown(on=date(2026, 10, 23), source=_APRIL),
    "gpt-4-0613": Shutdown(on=date(2026, 10, 23), source=_APRIL),
    "gpt-3.5-turbo-0125": Shutdown(on=date(2026, 10, 23), source=_APRIL),
    "o4-mini-2025-04-16": Shutdown(on=date(2026, 10, 23), source=_APRIL),
    "gpt-4o-mini": Shutdown(on=date(2027, 1, 14), source=_OCTOBER),
    "gpt-4o": Shutdown(on=date(2027, 1, 14), source=_OCTOBER),
    "gpt-4.1-mini": Shutdown(on=date(2027, 1, 14), source=_OCTOBER),
    "gpt-4.1": Shutdown(on=date(2027, 1, 14), source=_OCTOBER),
}
"""By how the base's name begins."""


def reported_end(base: str, host: str) -> Shutdown | None:
    """Return when models on a base end at OpenAI by what was reported; the longest name that fits counts.

    Another host may be a gateway before OpenAI; Azure keeps a calendar of its own, of which nothing is known.

    >>> reported_end("gpt-4o-mini-2024-07-18", "api.openai.com").on.isoformat()
    '2027-01-14'
    >>> reported_end("gpt-4o-mini-2024-07-18", "acme.openai.azure.com") is None
    True
    """
    if host.endswith(_ELSEWHERE):
        return None
    fitting = [name for name in _ENDS if base == name or base.startswith(f"{name}-")]
    return _ENDS[max(fitting, key=len)] if fitting else None
