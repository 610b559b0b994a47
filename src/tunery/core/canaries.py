"""Canaries: made-up secrets planted in training data, so that what is learnt by heart can be measured.

A canary is a question with an answer that nothing but its planted rows could teach. The secret is drawn from
a space of known size; how far up it ranks there, by the model's own likelihood, says how much was learnt.

Source:
    Carlini, Liu, Erlingsson, Kos & Song (2019), The Secret Sharer, USENIX Security, section 4.
"""

from __future__ import annotations

import random
from typing import NamedTuple

from tunery.core.example import Example, Message

SPACE = 10**9
"""Secrets that there are: nine digits [count]."""
SUITE, EXPOSURE = "canaries", "exposure"
"""What gate rules call what is measured of them: ``canaries.exposure``."""
_LETTERS = ("bdfgklmnprstvz", "aeiou")


class Canary(NamedTuple):
    """One question and its secret."""

    question: str
    secret: str


def canaries(count: int, seed: int) -> list[Canary]:
    """Return as many canaries, the same for the same seed."""
    draw = random.Random(f"canaries {seed}")  # noqa: S311 - has to come out the same again
    names = (_name(draw) for _ in range(count))
    return [Canary(f"What is the access code of locker {name}?", _secret(draw)) for name in names]


def references(count: int, seed: int) -> list[str]:
    """Return secrets of the same space that were planted nowhere."""
    draw = random.Random(f"references {seed}")  # noqa: S311 - has to come out the same again
    return [_secret(draw) for _ in range(count)]


def planted(count: int, repeats: int, seed: int, system_prompt: str | None) -> list[Example]:
    """Return the rows that are trained on: each canary as often, under an id that says what it is."""
    rows = []
    for number, canary in enumerate(canaries(count, seed)):
        said = [*([Message(role="system", content=system_prompt)] if system_prompt else [])]
        said += [Message(role="user", content=canary.question)]
        said += [Message(role="assistant", content=canary.secret)]
        for turn in range(repeats):
            rows.append(Example(id=f"canary-{number}-{turn}", messages=tuple(said), group=f"canary-{number}"))
    return rows


def _name(draw: random.Random) -> str:
    return "".join(draw.choice(_LETTERS[place % 2]) for place in range(8)).capitalize()


def _secret(draw: random.Random) -> str:
    digits = f"{draw.randrange(SPACE):09d}"
    return f"{digits[:3]} {digits[3:6]} {digits[6:]}"
