"""What inspection calls a secret, masking masks, and nothing else: there is one definition."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.text.pii.secret_samples import SHAPES, chars
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


def test_an_address_with_a_password_and_no_user_is_masked():
    assert mask(["At redis://:k2mQx9w@10.0.0.7:6379/0 it is."]).texts == ["At <SECRET> it is."]


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
    lambda secret, near: f"a.org/?token={secret}&near={near}",
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


@pytest.mark.parametrize(
    "password",
    ["%40bcD12345", "$tr0ng!Pw", "your5ecretPw", "{curly9}Pw", "xxxx9Kd", "%41%42", "pass9word", "$(pw)1"],
)
def test_a_password_that_only_begins_like_a_placeholder_is_masked(password: str):
    assert mask([f"At mysql://app:{password}@db.acme.com/x it is."]).texts == ["At <SECRET> it is."]


@pytest.mark.parametrize(
    "password",
    [
        "your-password",
        "YOUR_DB_PASSWORD",
        "$DB_PASSWORD",
        "${db_password}",
        "%(password)s",
        "%DB_PASS%",
        "{{db.password}}",
        "{password}",
        "<password>",
        "xxxx",
        "***",
    ],
)
def test_an_address_with_a_whole_placeholder_for_its_password_is_no_secret(password: str):
    assert find_secrets(f"Use mysql://app:{password}@db.acme.com/x here.") == []


BEGIN, END = "-----BEGIN " + "PRIVATE KEY-----", "-----END " + "PRIVATE KEY-----"
LINES = [chars(64), chars(64), "aB3dE"]


@pytest.mark.parametrize(
    "text",
    [
        f"The key begins with {BEGIN.replace('PRIV', 'OPENSSH PRIV')} Please contact support if it is lost.",
        f"Schritte: {BEGIN} ist die erste Zeile.",
        f"It stands between {BEGIN} and, in the end, {END} as ever.",
        f"{BEGIN}\n{BEGIN}\nNothing else is to be seen here.",
    ],
)
def test_a_header_of_a_key_in_prose_hides_nothing(text: str):
    assert mask([text], ("SECRET",)).texts == [text]


@pytest.mark.parametrize("head", ["", "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,0A1B2C3D\n\n"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_key_whose_end_is_cut_off_is_masked_and_what_follows_stays(head: str, count: int):
    key = f"{BEGIN}\n{head}" + "\n".join(LINES[:count])

    assert mask([f"Look: {key}"], ("SECRET",)).texts == ["Look: <SECRET>"]
    assert mask([f"{key}\nWhat now?"], ("SECRET",)).texts == ["<SECRET>\nWhat now?"]
    assert mask([json.dumps({"k": key})], ("SECRET",)).texts == ['{"k": "<SECRET>"}']


@pytest.mark.parametrize(
    "secret",
    [
        "gh" + "p_16C7e42F292cxxxx12E7710c838347Ae178B",
        "sk-" + "kD83hfQpYourZ71mXvTq0LbW9c",
        "gl" + "pat-Zq8TokenW3nB7cX0vT4mL",
        "ey" + "JhbGciOiJIUzI1NiJ9.ey" + "Jhc2VjcmV0xxxx.your-token-abcdef-example",
        "ey" + "JhbGciOiJIUzI.ey" + "JhcVjcmVxxx.RsTuvWxyZkLm",
    ],
)
def test_a_word_for_a_placeholder_within_a_random_part_is_chance(secret: str):
    assert mask([f"It is {secret} here."]).texts == ["It is <SECRET> here."]


@pytest.mark.parametrize(
    "placeholder",
    [
        "AK" + "IAIOSFODNN7EXAMPLE",
        "gh" + "p_1234567890abcdefghijklmnopqrstuvwxyz",
        "sk-" + "a1b2c3d4e5f6-your-k7l8m9n0p1q2",
        "gl" + "pat-a8Kq3Zt0Lm-placeholder",
        "https://hooks.slack" + ".com/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX",
    ],
)
def test_a_word_for_a_placeholder_at_the_edge_of_a_key_or_between_its_marks_counts(placeholder: str):
    assert find_secrets(f"It is {placeholder} here.") == []


@pytest.mark.parametrize("length", [17, 200, 256, 4096])
def test_a_long_value_behind_its_name_is_masked_as_a_whole(length: int):
    value = (chars(16) + "7") * 300
    assert mask([f"token={value[-length:]}, ok"]).texts == ["token=<SECRET>, ok"]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("?token=a1b2c3d4e5&lang=de", "?token=<SECRET>&lang=de"),
        ("?token=a1b2c3d4e5&amp;lang=de", "?token=<SECRET>&amp;lang=de"),
        ("?pwd=a1b2c3d4e5&api_key=q9w8e7r6t5", "?pwd=<SECRET>&api_key=<SECRET>"),
        ("password: hT5&kq0Zx", "password: <SECRET>"),
        ("password: hunter2!X9", "password: <SECRET>"),
        ('api_key = "a8f5f167f44f4964e6c998dee827110c"', 'api_key = "<SECRET>"'),
        ("token := k3_a8f5f167f44f4964", "token := <SECRET>"),
        ("password: Summer_2024", "password: <SECRET>"),
        ("pwd: AB12-CD34-EF56-GH78", "pwd: <SECRET>"),
        ("token: 3f786850-e387-4c5f-9a1b-89e6c92c625b", "token: <SECRET>"),
    ],
)
def test_of_a_text_with_a_named_value_only_the_value_is_masked(text: str, left: str):
    assert mask([text], ("SECRET",)).texts == [left]


@pytest.mark.parametrize("name", ["credentials", "pwd", "{'token'"])
@pytest.mark.parametrize(
    "value",
    [
        "service_account_v1.Credentials()",
        "get_input_1_value()",
        "t1_value_x, 'a': 2}",
        "base64k2x9(raw)",
        "rows9k2xq[0]",
        "~/keys/k2x9.pem",
        "/run/keys/k2x9q",
        "./k2x9q.pem",
        "ERC-20/BEP-20",
        "ISO27001-certified",
        "min-8-chars-1-upper",
        "BRCA1-positive",
    ],
)
def test_code_paths_and_joined_words_behind_a_name_stay(name: str, value: str):
    text = f"{name}: {value}"
    assert mask([text], ("SECRET",)).texts == [text]


@pytest.mark.parametrize(
    "piece",
    [
        f'"{BEGIN}\naaaa ',
        BEGIN + "\nAb-Cd: ",
        "token=",
        "pwd=a1",
        "pwd=1bcdefgh&",
        "&aaaaaaa1",
        "pwd=a1b2_c3d4(",
        "ab-1_",
        "abc-A-1_",
        "pwd=aB3_A_",
        "Ab/" * 60 + "+ pwd=1",
    ],
)
def test_the_time_of_a_search_grows_as_the_text_does(piece: str):
    text = "api_key=" + piece * (200_000 // len(piece))
    started = time.process_time()
    find_secrets(text)
    assert time.process_time() - started < 1  # some hundredths of a second; quadratic, it takes minutes
