"""The hold-out, drawn before the first answer: what compares never trains, nor does anything like it."""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from tunery.core.config import Record
from tunery.core.errors import ConfigError
from tunery.core.ids import sampling_key
from tunery.pipeline.rescue.prompts import FoundPrompt, are_labels, known_prompts, write_prompts
from tunery.rescue.commands import command
from tunery.rescue.folder import RescueFolder
from tunery.rescue.records import Portion, RecordedPrompt
from tunery.text.minhash import SimilarPair, close_to, similar_pairs
from tunery.text.sameness import fingerprint

NEAR = 0.7
"""Likeness from which two prompts serve the same purpose, as `group_threshold` of datasets has it."""
_SHOWN = 20
LEAST = 10
"""Held-out rows below which nothing is compared [count]."""
_ORDER: Sequence[Portion] = ("train", "validation", "holdout")


class HoldOut(Record):
    """How much is held out."""

    share: float = 0.1
    """Of the prompts, within the two limits and half of them."""
    at_least: int = 200
    at_most: int = 1000
    seed: int = 17

    @classmethod
    def of(cls, share: float | None) -> HoldOut:
        """Return how much is held out where a share is asked for: that, and no fewer than can be compared."""
        return cls() if share is None else cls(share=share, at_least=LEAST, at_most=sys.maxsize)


def draw(
    folder: RescueFolder,
    model: str,
    asked: Sequence[FoundPrompt],
    left_out: Sequence[str],
    settings: HoldOut,
) -> list[RecordedPrompt]:
    """Return a model's prompts with what each is for, as they are then written into its folder.

    Args:
        folder: Of the rescue.
        model: The old one.
        asked: Prompts as found.
        left_out: What of them could not be understood, for the message where nothing is left.
        settings: How much is held out of the new ones.

    Raises:
        ConfigError: There is no prompt.
        DamagedError: A prompt drawn before is not as it was written.
        ResourceError: They cannot be written.
    """
    known = known_prompts(folder, model)
    if not asked and not known:
        hint = f"{command(folder.name, 'fetch')}, or --prompts FILE with prompts of your own"
        if left_out:
            raise ConfigError.of_problems(
                f"there is no prompt to ask {model}", left_out, limit=_SHOWN, hint=hint
            )
        raise ConfigError(f"there is no prompt to ask {model}: no file of its job is here", hint=hint)
    drawn = drawn_prompts(asked, known, settings)
    write_prompts(folder, model, drawn)
    return drawn


def drawn_prompts(
    asked: Iterable[FoundPrompt], known: Sequence[RecordedPrompt], settings: HoldOut
) -> list[RecordedPrompt]:
    """Return every prompt once with what it is for; what was drawn before stays for what it was.

    A prompt drawn before whose owner's answer comes to light later gets it.

    Prompts that resemble each other serve the same purpose, and so does a conversation's later prompt, in
    which the earlier one's answer stands: no held-out prompt's answer, nor its twin's, trains. A prompt that
    comes later and resembles one drawn before, or goes on from it, joins it. Where the owners' answers are a
    few labels, the hold-out has its share of each.

    Args:
        asked: Prompts as found; of the same one, the first that has its owner's answer counts.
        known: Drawn before.
        settings: How much is held out of the new ones.
    """
    found: dict[str, FoundPrompt] = {}
    for each in asked:
        there = found.get(each.id)
        if there is None or (there.truth is None and each.truth is not None):
            found[each.id] = each
    before = {prompt.id for prompt in known}
    fresh = [each for id, each in found.items() if id not in before]
    roots = _groups(fresh)
    portions = _joined(known, fresh, roots)
    free: dict[int, int] = {}
    for root in roots:
        free[root] = free.get(root, 0) + (root not in portions)
    new = sum(free.values())
    wanted = min(max(round(settings.share * new), settings.at_least), settings.at_most, new // 2)
    wanted -= min(wanted, sum(prompt.portion == "holdout" for prompt in known) if known else 0)
    validating = {root for root, each in zip(roots, fresh, strict=True) if each.origin == "validation_file"}
    order = _in_order(fresh, known, {root: n for root, n in free.items() if n}, validating, settings.seed)
    for root in order:
        if wanted <= 0:
            break
        if free[root] <= max(wanted, settings.at_least // 10):
            portions[root] = "holdout"
            wanted -= free[root]
    for root in validating:
        portions.setdefault(root, "validation")
    return [
        *(
            prompt.with_(truth=found[prompt.id].truth)
            if prompt.truth is None and prompt.id in found
            else prompt
            for prompt in known
        ),
        *(
            RecordedPrompt(
                id=each.id,
                portion=portions.get(root, "train"),
                origin=each.origin,
                messages=each.messages,
                tools=each.tools,
                truth=each.truth,
            )
            for root, each in zip(roots, fresh, strict=True)
        ),
    ]


def _in_order(
    fresh: Sequence[FoundPrompt],
    known: Sequence[RecordedPrompt],
    free: Mapping[int, int],
    validating: Iterable[int],
    seed: int,
) -> list[int]:
    """Return groups in the order in which they are held out, whose beginning has its share of every label.

    Rows that were validated on and not trained on come first, of their label: they say more of how a model
    does on what it never saw. Within that a hash decides, so that no other prompt changes who is drawn before
    whom. Each group stands where the middle of it lies among the rows of its label, those held out before
    counted; groups without a label are one more.

    Args:
        fresh: Prompts that are drawn now.
        known: Drawn before.
        free: First prompt of each group to how many are in it [count].
        validating: Groups with a prompt of the validation file.
        seed: Of the hash.
    """
    first = set(validating)
    ranked = sorted(free, key=lambda root: (root not in first, sampling_key(seed, "holdout", fresh[root].id)))
    every = [each.truth for each in fresh] + [prompt.truth for prompt in known]
    truths = [truth for truth in every if truth is not None]
    if not are_labels(truths) or 2 * len(truths) < len(every):
        return ranked
    of_all = Counter(map(_label, every))
    passed = defaultdict[str | None, float](float)
    passed.update(Counter(_label(prompt.truth) for prompt in known if prompt.portion == "holdout"))
    place: dict[int, float] = {}
    for root in ranked:
        label = _label(fresh[root].truth)
        place[root] = (passed[label] + free[root] / 2) / of_all[label]
        passed[label] += free[root]
    return sorted(ranked, key=lambda root: place[root])  # stable: of two alike the hash decides


def _label(truth: str | None) -> str | None:
    return None if truth is None else fingerprint(truth)


def _groups(fresh: Sequence[FoundPrompt]) -> list[int]:
    """Return for each prompt the place of the first it belongs to: by likeness, or as what follows."""
    roots = list(range(len(fresh)))

    def root(place: int) -> int:
        while roots[place] != place:
            roots[place] = roots[roots[place]]
            place = roots[place]
        return place

    def join(one: int, other: int) -> None:
        first, second = root(one), root(other)
        roots[max(first, second)] = min(first, second)

    texts: dict[str, int] = {}
    for place, each in enumerate(fresh):
        first = texts.setdefault(fingerprint(each.text), place)
        roots[place] = first
    places = list(texts.values())
    for pair in similar_pairs(list(texts), NEAR):
        join(places[pair.first], places[pair.second])
    for place, each in enumerate(fresh):
        for beginning in each.beginnings:
            if (earlier := texts.get(fingerprint(beginning))) is not None:
                join(earlier, place)
    return [root(place) for place in range(len(fresh))]


def _joined(
    known: Sequence[RecordedPrompt], fresh: Sequence[FoundPrompt], roots: Sequence[int]
) -> dict[int, Portion]:
    """Return what groups are for that resemble a prompt drawn before, go on from it or begin it.

    Where several disagree the strictest counts.
    """
    if not known or not fresh:
        return {}
    before: dict[str, int] = {}
    begun: dict[str, int] = {}
    for prompt in sorted(known, key=lambda p: _ORDER.index(p.portion)):
        drawn, kind = FoundPrompt(prompt.origin, prompt.messages, prompt.tools), _ORDER.index(prompt.portion)
        before[fingerprint(drawn.text)] = kind
        begun |= {fingerprint(beginning): kind for beginning in drawn.beginnings}
    texts = [fingerprint(each.text) for each in fresh]
    near = close_to(list(before), texts, NEAR)
    kinds = list(before.values())
    pairs = [SimilarPair(*row) for row in zip(*(column.tolist() for column in near), strict=True)]
    strict: dict[int, int] = {}
    for pair in pairs:
        root = roots[pair.second]
        strict[root] = max(strict.get(root, 0), kinds[pair.first])
    for each, text, root in zip(fresh, texts, roots, strict=True):
        kin = [before.get(text), begun.get(text), *(before.get(fingerprint(b)) for b in each.beginnings)]
        for place in kin:
            if place is not None:
                strict[root] = max(strict.get(root, 0), place)
    return {root: _ORDER[kind] for root, kind in strict.items()}
