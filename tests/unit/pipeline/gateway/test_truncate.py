"""What is left out of a conversation: as little as need be, and never a call without its result's turn."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tunery.core.example import Message
from tunery.pipeline.gateway.truncate import without_oldest

TURNS = [
    Message(role=role, content=content)
    for role, content in (
        ("system", "be brief"),
        ("user", "one"),
        ("assistant", "<call>"),
        ("tool", "result"),
        ("assistant", "first"),
        ("user", "two"),
        ("assistant", "second"),
        ("user", "three"),
    )
]


@pytest.mark.parametrize(
    ("most", "left"),
    [
        (99, 8),
        (8, 8),
        (7, 4),
        (4, 4),
        (3, 2),
        (2, 2),
        (1, 8),  # nothing helps, and the whole is refused with its length
    ],
)
def test_it_drops_whole_exchanges_and_no_more_than_need_be(most: int, left: int) -> None:
    asked: list[int] = []

    def fits(turns: Sequence[Message]) -> bool:
        asked.append(len(turns))
        return len(turns) <= most

    kept = without_oldest(TURNS, fits)
    assert len(kept) == left
    assert kept[0].role == "system"
    assert kept[1].role == "user"
    assert kept[1:] == TURNS[len(TURNS) - len(kept) + 1 :]
    assert len(asked) <= 5
