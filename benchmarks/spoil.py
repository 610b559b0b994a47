"""Ways to spoil a labelled data set on purpose, so that what curation wins back can be measured.

Every function takes a ``random.Random`` and returns new rows; nothing is changed in place, and the same seed
spoils the same rows in the same way.
"""

from __future__ import annotations

import random
import string
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

Fault = Literal["", "label", "near_duplicate", "junk"]


class Row(NamedTuple):
    """One text with its class."""

    text: str
    label: str
    truth: str
    """The class it had before anything was spoiled; of junk, the one it pretends to."""
    fault: Fault
    """What was done to it; empty for a row left alone. A copy of a mislabelled row is a near-duplicate whose
    ``label`` is not its ``truth``."""


class Shares(NamedTuple):
    """How much is spoiled, each as a share of the clean rows."""

    wrong: float = 0.20
    """Rows that get a wrong label."""
    copies: float = 0.30
    """Near-duplicates to add."""
    junk: float = 0.05
    """Junk rows to add."""


def spoil(
    texts: Sequence[str],
    labels: Sequence[str],
    rng: random.Random,
    *,
    other: Mapping[str, str],
    shares: Shares,
) -> list[Row]:
    """Return the rows with wrong labels, near-duplicates and junk among them, shuffled.

    Labels go wrong first, so that copies repeat wrong labels as often as right ones.

    Args:
        texts: Clean texts.
        labels: Their classes.
        rng: Decides what is spoiled and how.
        other: Class to the class that its wrong labels are of, such as ``most_confusable`` gives.
        shares: How much of each.
    """
    moved = set(rng.sample(range(len(texts)), round(shares.wrong * len(texts))))
    rows = [
        Row(text, other[label] if i in moved else label, label, "label" if i in moved else "")
        for i, (text, label) in enumerate(zip(texts, labels, strict=True))
    ]
    originals = rng.sample(rows, round(shares.copies * len(texts)))
    copied = [Row(reworded(r.text, rng), r.label, r.truth, "near_duplicate") for r in originals]
    names = sorted(set(labels))
    trash = []
    for _ in range(round(shares.junk * len(texts))):
        label = rng.choice(names)
        trash.append(Row(junk_text(texts, rng), label, label, "junk"))
    result = [*rows, *copied, *trash]
    rng.shuffle(result)
    return result


def most_confusable(texts: Sequence[str], labels: Sequence[str]) -> Mapping[str, str]:
    """Return for each class the class that its rows are most often taken for.

    'Taken for' is the mean probability that a naive Bayes classifier on words, which has not seen the row,
    gives to the other class, over what it gives that class on average: a class that all rows resemble a
    little is not what any one class is confused with.
    """
    import numpy as np
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.naive_bayes import MultinomialNB

    names = sorted(set(labels))
    if len(names) < 2:
        raise ValueError("one class has no other to be confused with")
    features = CountVectorizer(ngram_range=(1, 2), binary=True).fit_transform(texts)
    truth = np.array([names.index(label) for label in labels])
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    taken_for = cross_val_predict(MultinomialNB(alpha=0.1), features, truth, cv=folds, method="predict_proba")
    mean = np.stack([taken_for[truth == c].mean(axis=0) for c in range(len(names))])  # (class, taken for)
    mean /= taken_for.mean(axis=0)
    np.fill_diagonal(mean, -1)
    return {name: names[int(mean[c].argmax())] for c, name in enumerate(names)}


_SAME = {
    "can": "could", "could": "can", "how": "in what way", "why": "for what reason", "help": "assist",
    "need": "require", "want": "would like", "money": "cash", "cash": "money", "get": "receive",
    "payment": "transaction", "transaction": "payment", "show": "appear", "wrong": "incorrect",
    "phone": "mobile", "fee": "charge", "charged": "billed", "purchase": "buy", "buy": "purchase",
    "problem": "issue", "issue": "problem", "quickly": "fast", "still": "yet", "know": "find out",
    "please": "kindly", "country": "nation", "change": "alter", "account": "profile", "when": "at what time",
}  # fmt: skip
_BEFORE = ("hi, ", "hello, ", "please help: ", "so, ", "um, ", "good morning, ")
_AFTER = (" please", " thanks", " thank you", " asap", " i need to know", "??")


def reworded(text: str, rng: random.Random) -> str:
    """Return the text with one or two small edits that leave its meaning: never the same text."""
    edits = [_swap_word, _add_before, _add_after, _mistype, _drop_end, _repeat_word]
    result = text
    for edit in rng.sample(edits, rng.choice((1, 2))):
        result = edit(result, rng)
    return result if result != text else f"{text} please"


def _swap_word(text: str, rng: random.Random) -> str:
    words = text.split()
    known = [i for i, w in enumerate(words) if w.lower() in _SAME]
    if known:
        i = rng.choice(known)
        words[i] = _SAME[words[i].lower()]
    return " ".join(words)


def _add_before(text: str, rng: random.Random) -> str:
    return rng.choice(_BEFORE) + text[:1].lower() + text[1:]


def _add_after(text: str, rng: random.Random) -> str:
    return text.rstrip("?.! ") + rng.choice(_AFTER)


def _mistype(text: str, rng: random.Random) -> str:
    """Exchange two neighbouring letters inside a word."""
    places = [i for i in range(1, len(text) - 2) if text[i : i + 2].isalpha()]
    if not places:
        return text
    i = rng.choice(places)
    return text[:i] + text[i + 1] + text[i] + text[i + 2 :]


def _drop_end(text: str, rng: random.Random) -> str:
    return text.rstrip("?.! ").lower()


def _repeat_word(text: str, rng: random.Random) -> str:
    words = text.split()
    i = rng.randrange(len(words))
    return " ".join([*words[: i + 1], *words[i:]])


def junk_text(texts: Sequence[str], rng: random.Random) -> str:
    """Return a row as broken exports and forms produce them: noise, markup, wrong decoding, leftovers."""
    real = rng.choice(texts)
    kinds = (
        lambda: "".join(rng.choices(string.ascii_lowercase + string.digits + " ", k=rng.randint(8, 60))),
        lambda: f"<div class='msg'><p>&nbsp;</p><br/><span id={rng.randint(1, 999)}></span></div>",
        lambda: real.replace(" ", "�").replace("'", "â€™") + "Ã©â‚¬Â" * rng.randint(1, 4),
        lambda: rng.choice(("test", "asdf", "n/a", "xxx", "-", "...", "123", "null", "ok", "undefined")),
        lambda: " ".join([rng.choice(real.split())] * rng.randint(6, 30)),
        lambda: f"https://example.com/{rng.randrange(16**12):x}?id={rng.randint(1, 9999)}",
        lambda: rng.choice(string.punctuation) * rng.randint(5, 40),
    )
    return rng.choice(kinds)()
