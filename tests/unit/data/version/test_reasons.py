"""Every reason that a row can be dropped for has a sentence in the data card."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import tunery.data
from tests.unit.data.version.test_card import version
from tunery.core.example import Example, Message
from tunery.data.filters.filters import filter_kinds, filter_reasons
from tunery.data.filters.length import LengthFilter, LengthSettings
from tunery.data.version.card import data_card
from tunery.data.version.reasons import _BY_EDIT, _REASONS, meaning

SOURCE = Path(tunery.data.__file__).parent
REASON_AT = {"Drop": 0, "UnusableRow": 0, "Skip": 0, "_Unfit": 0, "unusable": 1}
"""What makes or raises a drop, and which argument is its reason."""


class Site(NamedTuple):
    """A call that gives a reason."""

    file: str
    reason: str | None
    """None where the reason is handed on from elsewhere."""


def sites() -> Iterator[Site]:
    for path in sorted(SOURCE.rglob("*.py")):
        name = path.relative_to(SOURCE).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in REASON_AT:
                yield Site(name, reason_of(node.args[REASON_AT[node.func.id]], name))


def reason_of(argument: ast.expr, file: str) -> str | None:
    if isinstance(argument, ast.Constant):
        return str(argument.value)
    if isinstance(argument, ast.Name) and argument.id.isupper():
        module = importlib.import_module(f"tunery.data.{file.removesuffix('.py').replace('/', '.')}")
        return str(getattr(module, argument.id))
    return None


def of_lengths() -> set[str]:
    """Return the reasons of the filter of lengths, which writes them from the side that does not fit."""
    bounds = LengthSettings(min_input_chars=2, max_input_chars=2, min_output_chars=2, max_output_chars=2)
    texts = [(text, "ok") for text in ("", "a", "long")] + [("ok", text) for text in ("", "a", "long")]
    turns = [(Message(role="user", content=p), Message(role="assistant", content=a)) for p, a in texts]
    found = LengthFilter(bounds).judge([Example(id="ex-1", messages=t, group="g") for t in turns])
    return {drop.reason for drop in found if drop is not None}


FOUND = sorted({site.reason for site in sites() if site.reason is not None} | of_lengths())


def test_every_drop_is_found_by_its_reason() -> None:
    assert len(FOUND) > 25
    handed_on = {site.file for site in sites() if site.reason is None}
    # Raised with the reason of their caller, of an edit, or of what a filter wrote beside the row; those of
    # lengths are found by judging.
    assert handed_on <= {
        "filters/length.py",
        "rows/row.py",
        "rows/refused.py",
        "edits/apply.py",
        "version/write.py",
        "readers/importers/request_log.py",
        "readers/importers/opentelemetry.py",
    }


@pytest.mark.parametrize("reason", FOUND)
def test_the_card_explains_every_reason(reason: str) -> None:
    assert meaning(reason) != _BY_EDIT
    assert f"| `{reason}` | 7 | {meaning(reason)} |" in data_card(version(dropped={reason: 7}))


def test_no_sentence_is_for_a_reason_that_nobody_gives() -> None:
    assert {*_REASONS, *filter_reasons()} == {*FOUND, "review"}


def test_a_reason_has_one_sentence() -> None:
    declared = [reason for kind in filter_kinds().values() for reason in kind.reasons]
    assert len(declared) == len({*declared})
    assert not {*declared} & {*_REASONS}


def test_a_reason_that_an_edit_brought_is_said_to_be_one() -> None:
    card = data_card(version(dropped={"contradiction": 2}))
    assert "| `contradiction` | 2 | an edit in the recipe took it out |" in card
