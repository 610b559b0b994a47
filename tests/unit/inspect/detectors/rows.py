"""Clean rows of two kinds, composed here, into which tests plant one trouble at a time."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Sequence

from tunery.core.columns import Columns
from tunery.core.finding import Finding

THINGS = """parcel invoice password subscription receipt voucher refund profile basket delivery coupon
warranty charger manual catalogue membership newsletter repair battery screen""".split()  # noqa: SIM905 - a list of words
VERBS = [
    "change the address of",
    "cancel",
    "find",
    "pay for",
    "report a problem with",
    "ask about",
    "renew",
    "get a copy of",
    "return",
    "share",
    "upgrade",
    "compare prices of",
]
ASKS = ["How can I {} my {}?", "I would like to {} a {} that I ordered, what should I do?"]
PLACES = ["the account page", "the orders page", "the help desk", "the mobile app", "the settings menu"]
ANSWERS = [
    "You can {} the {} on {}. Please have your order number at hand, because we ask for it twice.",
    "Go to {2} and choose the {1}. There is a button to {0} it, and we confirm the change by mail.",
    "To {} the {}, sign in and open {}. Our team looks at every request within two working days.",
]


def columns(
    prompts: Sequence[str],
    answers: Sequence[str],
    *,
    labels: Sequence[str | None] | None = None,
    splits: Sequence[str] | None = None,
    rejected: Sequence[str | None] | None = None,
) -> Columns:
    n = len(prompts)
    return Columns(
        ids=[f"ex-{i}" for i in range(n)],
        prompts=prompts,
        answers=answers,
        rejected=rejected or [None] * n,
        labels=labels or [None] * n,
        splits=splits or ["train"] * n,
        groups=[f"ex-{i}" for i in range(n)],
        sources=["rows.csv"] * n,
        rows=list(range(1, n + 1)),
    )


def clean(count: int = 400, seed: int = 0) -> tuple[list[str], list[str]]:
    """Prompts and answers of a shop's help desk, all different, nothing wrong with them."""
    draw = random.Random(seed)
    kinds = list(itertools.product(ASKS, VERBS, THINGS))
    draw.shuffle(kinds)
    prompts, answers = [], []
    for ask, verb, thing in kinds[:count]:
        prompts.append(ask.format(verb, thing))
        answers.append(draw.choice(ANSWERS).format(verb, thing, draw.choice(PLACES)))
    return prompts, answers


def one(findings: Iterable[Finding], kind: str) -> Finding:
    """Return the finding of a kind; says what else was found where there is none."""
    found = list(findings)
    matching = [f for f in found if f.kind == kind]
    assert len(matching) == 1, f"{kind} not among {[f.kind for f in found]}"
    return matching[0]


def ids(rows: Sequence[int]) -> set[str]:
    return {f"ex-{i}" for i in rows}
