"""Secrets are reported, and never shown."""

from __future__ import annotations

import pytest

from tests.unit.inspect.detectors.rows import clean, columns, one
from tests.unit.text.pii.secret_samples import SHAPES
from tunery.inspect.detectors import private_data
from tunery.text.pii.secrets import find_secrets


@pytest.mark.parametrize("kind", SHAPES)
def test_no_part_of_a_finding_but_its_edits_shows_more_than_four_characters(kind: str):
    text = f"Please use {SHAPES[kind]} for that."
    hidden = find_secrets(text)[0]
    # The first line of a key block names its kind, as the finding does.
    secret = text[hidden.start : hidden.end].split("\n")[1 if kind == "PRIVATE_KEY" else 0]

    finding = one(private_data.find(columns([text], ["Done."])), "secret")

    shown = finding.model_dump_json()
    assert all(secret[at : at + 5] not in shown.replace(f"<{kind}>", "") for at in range(len(secret) - 4))


def test_clean_rows_hold_no_secret():
    assert list(private_data.find(columns(*clean()))) == []


def test_a_secret_in_an_earlier_turn_is_reported_without_an_edit():
    key = SHAPES["STRIPE_KEY"]
    talk = columns([f"I use {key}\nFine\nAnd now?"], ["Wait."])

    finding = one(private_data.find(talk, inputs=["And now?"]), "secret")

    assert finding.rows == ("ex-0",)
    assert finding.edits == ()
