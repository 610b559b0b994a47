"""Training flags: which turns a file marks as not to be learnt, in every spelling that formats have."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tunery.data.rows.row import Flaw

_LEARN = (
    "weight",
    "train",
    "training",
    "trainable",
    "loss",
    "loss_weight",
    "loss_scale",
    "loss_mask",
)
"""Keys that are 1 or true where a turn is learnt: OpenAI's and Mistral's ``weight``, Axolotl's ``train`` and
``training``, ms-swift's ``loss`` and ``loss_scale``, LLaMA-Factory's ``loss_weight``."""
_HIDE = ("masked",)
"""Keys that are true where a turn is not learnt: torchtune's ``masked``."""
_EITHER = ("mask", "label_mask")
"""Keys that hide a turn in one tool and keep it in another; none is guessed at."""
_PARTS = ("train_detail", "training_detail")
"""Axolotl's lists of ranges of characters, each with a flag of its own."""
FLAGS = frozenset((*_LEARN, *_HIDE, *_EITHER, *_PARTS))
_YES = frozenset({"1", "1.0", "true", "yes", "y", "t", "on"})
_NO = frozenset({"0", "0.0", "false", "no", "n", "f", "off"})


def is_learnt(turn: Mapping[str, Any], field: str, flaws: list[Flaw]) -> bool | None:
    """Return what a turn's flags say: whether it is learnt, None where it has no flag.

    A key without a value is none. What cannot be honoured is added to ``flaws``: a share between 0 and 1, two
    flags that contradict each other, a turn that is to be learnt in part.

    >>> is_learnt({"weight": "0"}, "messages[1]", []), is_learnt({"train": True}, "messages[1]", [])
    (False, True)
    """
    found: dict[str, bool] = {}
    for key in (*_LEARN, *_HIDE):
        given = turn.get(key)
        if _is_absent(given):
            continue
        truth = _truth(given)
        if truth is None:
            flaws.append(Flaw(f"{field}.{key}", given, flag_fix(given)))
        else:
            found[key] = truth != (key in _HIDE)
    for key in _EITHER:
        if not _is_absent(turn.get(key)):
            fix = "may mean learnt or hidden; write train: true or train: false instead"
            flaws.append(Flaw(f"{field}.{key}", turn[key], fix))
    for key in _PARTS:
        if turn.get(key):
            part = _of_ranges(turn[key], turn)
            if part is None:
                fix = "a turn is learnt whole or not at all; split it in two turns, or remove the ranges"
                flaws.append(Flaw(f"{field}.{key}", turn[key], fix))
            else:
                found[key] = part
    if len(set(found.values())) > 1:
        given = ", ".join(f"{key}: {turn[key]!r:.20}" for key in found)
        flaws.append(Flaw(field, given, "flags contradict each other; keep one of them"))
    return next(iter(found.values()), None)


def row_is_learnt(value: Any, column: str, flaws: list[Flaw]) -> bool:
    """Return whether a row is learnt, by its own column; one without a value is."""
    if _is_absent(value):
        return True
    truth = _truth(value)
    if truth is None:
        fix = f"{flag_fix(value)}; name the column under columns.metadata where it says something else"
        flaws.append(Flaw(column, value, fix))
    return truth is not False


def flag_fix(value: Any) -> str:
    """Return what to do about a flag that is neither yes nor no."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return "must be 0 (not trained on) or 1; no weight between or above them is known here"
    return "must be 0 (not trained on) or 1"


def is_off(turn: Any) -> bool:
    """Tell whether a turn is marked as not to be learnt; contradictions and other flaws say nothing."""
    if not isinstance(turn, Mapping) or FLAGS.isdisjoint(turn):
        return False
    flaws: list[Flaw] = []
    return is_learnt(turn, "", flaws) is False and not flaws


def _is_absent(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def _truth(value: Any) -> bool | None:
    if isinstance(value, (bool, int, float)):
        return bool(value) if value in (0, 1) else None
    word = value.strip().lower() if isinstance(value, str) else ""
    return True if word in _YES else False if word in _NO else None


def _of_ranges(ranges: Any, turn: Mapping[str, Any]) -> bool | None:
    """Return the one flag that ranges of characters give to a turn, None where they tell parts apart."""
    if not isinstance(ranges, Sequence) or not all(isinstance(r, Mapping) for r in ranges):
        return None
    flags = {_truth(r.get("train")) for r in ranges}
    if flags == {False}:
        return False
    text = turn.get("content", turn.get("value"))
    ends = sorted((r.get("begin_offset"), r.get("end_offset")) for r in ranges) if flags == {True} else []
    whole = len(ends) == 1 and isinstance(text, str) and ends[0] in ((0, len(text) - 1), (0, len(text)))
    return True if whole else None
