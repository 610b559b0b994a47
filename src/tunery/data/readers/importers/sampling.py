"""Traffic: which served requests may become rows, by share, by user and by consent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from tunery.core.example import Drop
from tunery.core.ids import sha256_text
from tunery.data.config import TrafficConfig

_YES = frozenset({"true", "yes", "1"})


class Sampler:
    """Decides request by request; what a user has given so far is counted."""

    def __init__(self, rule: TrafficConfig) -> None:
        self._rule = rule
        self._of_user: Counter[int] = Counter()

    def skip(self, request_id: str, user: str | None, about: Mapping[str, Any]) -> Drop | None:
        """Return why a request is not taken; None where it is, which counts towards its user's share.

        Args:
            request_id: Its hash decides, so that the same requests are taken every time.
            user: Whose request it is; those of nobody in particular count as one user's.
            about: The request's metadata, in which consent is looked for.
        """
        rule = self._rule
        consent = about.get(rule.consent_key)
        if consent is None and rule.require_consent:
            fix = "set traffic: {require_consent: false} for this source where users agreed in another way"
            return Drop("no_consent", f"request {request_id} carries no {rule.consent_key}; {fix}")
        if consent is not None and not agreed(consent):
            answer = f"request {request_id} has {str(consent)[:20]!r} as its {rule.consent_key}"
            return Drop("consent_refused", answer)
        if rule.share < 1 and _sampling_key(request_id) >= rule.share:
            return Drop("not_sampled", f"request {request_id} is not in the share of {rule.share:g}")
        # Eight bytes for each user and not their name: a log may have millions of them.
        who = hash(user or "")
        if rule.per_user is not None and self._of_user[who] >= rule.per_user:
            return Drop(
                "user_over_limit", f"request {request_id}: its user gave {rule.per_user} rows already"
            )
        self._of_user[who] += 1
        return None


def agreed(value: Any) -> bool:
    """Tell whether a metadata value means yes.

    >>> agreed("true"), agreed(True), agreed("no"), agreed(None)
    (True, True, False, False)
    """
    return value is True or (isinstance(value, (str, int)) and str(value).strip().lower() in _YES)


def _sampling_key(request_id: str) -> float:
    """Return a number in [0, 1) that depends on the id alone."""
    return int(sha256_text(f"traffic:{request_id}")[:13], 16) / 16**13
