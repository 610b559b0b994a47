"""Personal data is found where it stands, and masking changes nothing else."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunery.data.pii import detect, mask, mask_spans

FOUND = [
    ("write to jane.doe+x@mail.example.co.uk, please", "EMAIL_ADDRESS", "jane.doe+x@mail.example.co.uk"),
    ("(A.B@C.ORG)", "EMAIL_ADDRESS", "A.B@C.ORG"),
    ("card 4111 1111 1111 1111 12/27", "CREDIT_CARD", "4111 1111 1111 1111"),
    ("order 12 4111-1111-1111-1111 now", "CREDIT_CARD", "4111-1111-1111-1111"),
    ("card 4111111111111111 123", "CREDIT_CARD", "4111111111111111"),
    ("IBAN: LU28 0019 4006 4475 0000 and more", "IBAN_CODE", "LU28 0019 4006 4475 0000"),
    ("de89370400440532013000.", "IBAN_CODE", "de89370400440532013000"),
    ("my SSN is 123-12-3456", "US_SSN", "123-12-3456"),
    ("from 192.168.1.254:8080", "IP_ADDRESS", "192.168.1.254"),
    ("host 2001:db8::8a2e:370:7334 up", "IP_ADDRESS", "2001:db8::8a2e:370:7334"),
    ("git clone https://bob:s3cret@host.example/repo.git", "URL", "https://bob:s3cret@host.example/repo.git"),
    ("call +49 (30) 901820 today", "PHONE_NUMBER", "+49 (30) 901820"),
    ("(555) 123-4567 ext 89", "PHONE_NUMBER", "(555) 123-4567 ext 89"),
    ("ring 555-123-4567.", "PHONE_NUMBER", "555-123-4567"),
    ("TEL:07-3507405", "PHONE_NUMBER", "07-3507405"),
    ("0044 20 7946 0958", "PHONE_NUMBER", "0044 20 7946 0958"),
    ("my phone is 2813882583", "PHONE_NUMBER", "2813882583"),
    ("please call me at 785 8949", "PHONE_NUMBER", "785 8949"),
]


@pytest.mark.parametrize(("text", "kind", "value"), FOUND)
def test_personal_data_is_found_whole(text: str, kind: str, value: str) -> None:
    ((span,),) = detect([text])
    assert (span.type, text[span.start : span.end]) == (kind, value)
    assert 0 < span.score <= 1


@pytest.mark.parametrize(
    "text",
    [
        "the total is 1,234,567.89 on 25/12/2018 20:49:59",
        "barcode 9556939040116, GST 001083069952",
        "version 1.2.3.4.5 or 1.2.3",
        "std::vector::begin()",
        "see https://example.org/a?b=c",
        "user@localhost and @handle",
        "card 4111 1111 1111 1112",
        "call 2024-05-31 or 20240531",
        "call a taxi to 14 3684 Court Street",
        "I waited 2 weeks for 10 000 000 units",
        "pi is 3.14159265358979323846",
        "000-12-3456",
    ],
)
def test_other_numbers_are_left_alone(text: str) -> None:
    assert detect([text]) == [[]]


def test_a_card_number_is_not_also_a_phone_number() -> None:
    ((span,),) = detect(["phone or card: 4111-1111-1111-1111"])
    assert span.type == "CREDIT_CARD"


def test_only_the_types_asked_for_are_found() -> None:
    text = "a@b.org 192.168.1.1"
    assert [s.type for s in detect([text], ("IP_ADDRESS",))[0]] == ["IP_ADDRESS"]


PIECES = st.lists(
    st.one_of(
        st.sampled_from([value for _, _, value in FOUND]),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    ),
    max_size=8,
)


@given(PIECES.map(" ".join))
def test_masking_never_changes_text_outside_its_spans(text: str) -> None:
    (spans,) = detect([text])
    assert all(a.end <= b.start for a, b in pairwise(spans))
    masked = mask([text])
    outside, at, rest = [], 0, masked.texts[0]
    for span in spans:
        outside.append(text[at : span.start])
        at = span.end
    outside.append(text[at:])
    assert sum(masked.counts.values()) == len(spans)
    for i, piece in enumerate(outside):
        assert rest.startswith(piece)
        rest = rest[len(piece) :]
        if i < len(spans):
            placeholder = f"<{spans[i].type}>"
            quoted = f'"{placeholder}"'
            assert rest.startswith((placeholder, quoted))
            rest = rest.removeprefix(quoted if rest.startswith(quoted) else placeholder)
    assert rest == ""


@given(
    st.dictionaries(
        st.text(max_size=5),
        st.sampled_from([4111111111111111, "a@b.org", 'say "4111111111111111"', "\\", 5, None]),
        max_size=5,
    )
)
def test_masked_json_is_still_json(value: dict[str, object]) -> None:
    (text,) = mask([json.dumps(value, ensure_ascii=False)]).texts
    assert set(json.loads(text)) == set(mask(list(value)).texts)
    assert "4111111111111111" not in text


def test_hostile_texts_take_time_in_proportion_to_their_length() -> None:
    import time

    start = time.process_time()
    for text in (
        "1" * 100_000,
        "1 " * 50_000,
        "a@" * 50_000,
        "+1(" * 33_000,
        "a." * 50_000 + "@",
        "1:" * 50_000,
        "a@b.org " * 12_500,
        "tel 1234567 " * 8_000,
    ):
        detect([text])
    assert time.process_time() - start < 5


def test_mask_spans_without_spans_is_the_identity() -> None:
    assert mask_spans("text", []) == "text"
