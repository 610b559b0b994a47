"""What inspection calls a secret, masking masks, and nothing else: there is one definition."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.text.pii.secret_samples import SHAPES
from tunery.data.clean import apply_policy
from tunery.data.config import CleanConfig
from tunery.text.pii import detect, mask
from tunery.text.pii.mask import redact
from tunery.text.pii.secrets import find_secrets, replaced


@pytest.mark.parametrize("kind", SHAPES)
def test_a_secret_of_a_known_shape_is_found_and_replaced(kind: str):
    text = f"Please use {SHAPES[kind]} for that."

    found = find_secrets(text)

    assert [s.type for s in found] == [kind]
    assert f"<{kind}>" in replaced(text, found)
    assert find_secrets(replaced(text, found)) == []


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
    assert mask([text]).texts == [text]


BEFORE = [
    "sk-" + "kD83hfQpZ71mXvTq0LbW9c",  # shorter than OpenAI's own, as proxies issue them
    "xo" + "xb-8317042956",
    "AK" + "IA" + "QZRTWLKPGHBNMSDC",  # without a digit
    "ftp://u:p1@h",
    "-----BEGIN " + "PRIVATE KEY-----\nMIIEvQIBADANBgkq\n-----END PRIVATE KEY-----",
    "-----BEGIN " + "PRIVATE KEY-----\n" + "q8Zr2LmX0vT4nB7c" * 400 + "\n-----END PRIVATE KEY-----",
]


@pytest.mark.parametrize("secret", BEFORE)
def test_short_and_long_keys_and_those_of_letters_are_secrets(secret: str):
    assert mask([f"It is {secret} here."]).texts == ["It is <SECRET> here."]


def test_a_password_behind_its_name_is_masked_and_its_name_is_not():
    assert mask(["password: hG7k2mQx9!w."]).texts == ["password: <SECRET>."]


def test_an_address_with_a_password_ends_before_the_mark_of_the_sentence():
    text = "See (redis://cache:k2mQx9w@10.0.0.7:6379/0), please."
    assert mask([text]).texts == ["See (<SECRET>), please."]


EMBEDDINGS: list[Callable[[str, str], str]] = [
    lambda secret, near: f"{near} {secret} {near}",
    lambda secret, near: f"password: {secret}",
    lambda secret, near: f"{near}; API_KEY={secret}",
    lambda secret, near: json.dumps({"note": f"{near}\n{secret}\t{near}"}),
    lambda secret, near: json.dumps([near, {"access_token": secret}], ensure_ascii=False),
    lambda secret, near: f"as escaped: {json.dumps(near + ' ' + secret)}",
    lambda secret, near: f"<{secret}>{near}@b.org",
]
SECRETS = st.sampled_from([*SHAPES.values(), *BEFORE, "hunter2!", "hG7k2mQx9w", "sk-your-key"])
NEAR = st.text(max_size=12) | st.sampled_from(["token:", "1", "4111 1111 1111 1111", "a@b.org", "://", "\\"])


@given(SECRETS, NEAR, st.sampled_from(EMBEDDINGS))
def test_masking_and_inspection_agree_wherever_a_secret_stands(
    secret: str, near: str, embed: Callable[[str, str], str]
):
    text = embed(secret, near)
    inspected = [(s.start, s.end) for s in find_secrets(text)]

    for types in (None, ("SECRET",), ("SECRET", "EMAIL_ADDRESS", "URL")):
        masked = [(s.start, s.end) for s in detect([text], types)[0] if s.type == "SECRET"]
        assert masked == inspected

    edges = [0, *(edge for place in inspected for edge in place), len(text)]
    left = "<SECRET>".join(text[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True))
    clean = CleanConfig(pii_types=("SECRET",))
    assert mask([text], ("SECRET",)).texts == apply_policy([text], clean).texts == [left]


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("embed", EMBEDDINGS)
def test_of_no_secret_is_anything_left(kind: str, embed: Callable[[str, str], str]):
    left = redact(embed(SHAPES[kind], "my key"))
    secret = SHAPES[kind].split('"')[1] if kind == "SECRET" else SHAPES[kind]  # what names it may stay

    assert all(secret[at : at + 5] not in left for at in range(len(secret) - 4)), left


@given(st.text(alphabet='sk-hf_AKIA:/@"\\n= {}password1234x', max_size=60))
def test_on_any_text_masking_and_inspection_agree(text: str):
    assert [(s.start, s.end) for s in detect([text])[0] if s.type == "SECRET"] == [
        (s.start, s.end) for s in find_secrets(text)
    ]
