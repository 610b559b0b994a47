"""Secrets are found by their shapes, never shown, and not seen where there are none."""

from __future__ import annotations

import random
import string

import pytest

from tests.unit.inspect.detectors.rows import clean, columns, one
from tunery.inspect.detectors import secrets
from tunery.text.pii.secrets import find_secrets, replaced

draw = random.Random(5)
WORD = string.ascii_letters + string.digits


def chars(count: int, alphabet: str = WORD) -> str:
    return "".join(draw.choices(alphabet, k=count))


# Made of pieces, so that no scanner takes this file for a leak.
SHAPES = {
    "AWS_ACCESS_KEY": "AK" + "IA" + chars(16, string.ascii_uppercase + "234567"),
    "GITHUB_TOKEN": "gh" + "p_" + chars(36),
    "GITLAB_TOKEN": "gl" + "pat-" + chars(20),
    "ANTHROPIC_KEY": "sk-" + "ant-api03-" + chars(60),
    "OPENAI_KEY": "sk-" + "proj-" + chars(48),
    "SLACK_TOKEN": "xo" + "xb-" + chars(12, string.digits) + "-" + chars(24),
    "GOOGLE_KEY": "AI" + "za" + chars(35),
    "STRIPE_KEY": "sk_" + "live_" + chars(24),
    "HUGGINGFACE_TOKEN": "h" + "f_" + chars(34, string.ascii_letters),
    "PACKAGE_TOKEN": "np" + "m_" + chars(36),
    "SENDGRID_KEY": "S" + "G." + chars(22) + "." + chars(43),
    "JWT": "ey" + "J" + chars(20) + ".ey" + "J" + chars(40) + "." + chars(43),
    "URL_PASSWORD": "redis://cache:" + chars(14) + "@10.0.0.7:6379/0",
    "PRIVATE_KEY": "-----BEGIN RSA "
    + "PRIVATE KEY-----\n"
    + chars(200)
    + "\n-----END RSA "
    + "PRIVATE KEY-----",
    "SECRET": 'client_secret = "' + chars(32) + '"',
}


@pytest.mark.parametrize("kind", SHAPES)
def test_a_secret_of_a_known_shape_is_found_and_replaced(kind: str):
    text = f"Please use {SHAPES[kind]} for that."

    found = find_secrets(text)

    assert [s.type for s in found] == [kind]
    assert f"<{kind}>" in replaced(text, found)
    assert find_secrets(replaced(text, found)) == []


@pytest.mark.parametrize("kind", SHAPES)
def test_no_part_of_a_finding_but_its_edits_shows_more_than_four_characters(kind: str):
    text = f"Please use {SHAPES[kind]} for that."
    hidden = find_secrets(text)[0]
    # The first line of a key block names its kind, as the finding does.
    secret = text[hidden.start : hidden.end].split("\n")[1 if kind == "PRIVATE_KEY" else 0]

    finding = one(secrets.find(columns([text], ["Done."])), "secret")

    said = finding.model_dump_json()
    assert all(secret[at : at + 5] not in said.replace(f"<{kind}>", "") for at in range(len(secret) - 4))


@pytest.mark.parametrize(
    "text",
    [
        "Set OPENAI_API_KEY=sk-your-api-key-goes-right-here-please first.",
        "AWS writes AKIAIOSFODNN7EXAMPLE in its documents.",
        "password: hunter2",
        "My password is correct horse battery staple",
        "api_key = os.environ['API_KEY']",
        "token = get_token(user_id=12345678)",
        "token = settings.auth.token_v2",
        "The key: 2024-05-31 was the day of our first delivery.",
        "secret = <YOUR_SECRET>",
        "Open https://example.com/a:b/c@d and look.",
        "postgres://user:password@localhost/db",
        "key=value, token=abcdefgh, pwd=/home/anna/documents",
        "sk-learn is short for scikit-learn-contrib-packages-and-more",
        "commit 3f786850e387550fdab836ed7e6dc881de23001b fixed it",
    ],
)
def test_placeholders_code_and_prose_are_no_secrets(text: str):
    assert find_secrets(text) == []


def test_clean_rows_hold_no_secret():
    assert list(secrets.find(columns(*clean()))) == []


def test_a_secret_in_an_earlier_turn_is_told_without_an_edit():
    key = SHAPES["STRIPE_KEY"]
    talk = columns([f"I use {key}\nFine\nAnd now?"], ["Wait."])

    finding = one(secrets.find(talk, inputs=["And now?"]), "secret")

    assert finding.rows == ("ex-0",)
    assert finding.edits == ()
