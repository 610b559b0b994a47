"""Conversations that do not fit, made to fit by leaving out what was said first."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tunery.core.example import Message


def without_oldest(messages: Sequence[Message], fits: Callable[[Sequence[Message]], bool]) -> list[Message]:
    """Return a conversation without as many of its first turns as need be.

    System turns at its beginning stay, and what is left begins with a turn of the user, so that no result
    stands without its call. Where even the last turn of the user alone does not fit, nothing is left out.

    Args:
        messages: The conversation.
        fits: Whether turns are short enough; asked a few times, whatever the length.

    >>> turns = [Message(role="system", content="s")] + [Message(role="user", content=c) for c in "abcd"]
    >>> [m.content for m in without_oldest(turns, lambda kept: len(kept) <= 3)]
    ['s', 'c', 'd']
    """
    system = next((i for i, m in enumerate(messages) if m.role != "system"), len(messages))
    begins = [i for i, m in enumerate(messages) if i > system and m.role == "user"]

    def kept(begin: int) -> list[Message]:
        return [*messages[:system], *messages[begin:]]

    if not begins or fits(messages) or not fits(kept(begins[-1])):
        return list(messages)
    low, high = -1, len(begins) - 1  # what begins at begins[high] fits; at begins[low] does not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(kept(begins[middle])) else (middle, high)
    return kept(begins[high])
