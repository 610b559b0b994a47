"""Which arm answers whom: decided by hash, so that nothing need be stored or agreed on between processes."""

from __future__ import annotations

import hashlib

from tunery.core.rollout import Arm, Rollout

_SPACE = 2**64


def assign(rollout: Rollout, subject: str) -> Arm:
    """Return the arm that answers a subject under a rollout.

    The hash of rollout and subject is a fixed point on a line of which the first ``traffic_percent``
    belongs to the challenger. So a subject sees one version throughout, in every process; the share is
    exact in expectation; raising the percentage moves subjects to the challenger and none back; and the
    next rollout draws afresh, so that the same people are not the guinea pigs every time.

    Once the rollout has ended nobody is assigned to its challenger. Requests stick by ``subject``: a hash of
    the user, else of the key.
    """
    share = rollout.traffic_percent / 100 if rollout.status == "running" else 0.0
    return "challenger" if position(rollout.id, subject) < share * _SPACE else "champion"


def position(rollout_id: str, subject: str) -> int:
    """Return where a subject lies on the line of ``2**64`` points, uniform over subjects."""
    # Ids hold no newline, so no two pairs of rollout and subject give the same text.
    text = f"{rollout_id}\n{subject}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")
