"""Personal data is found where it stands, and masking changes nothing else."""

from __future__ import annotations

import csv
import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunery.core.errors import ConfigError
from tunery.core.example import Example, Message
from tunery.data.chunk import judge
from tunery.data.clean import apply_policy
from tunery.data.config import CleanConfig, FiltersConfig
from tunery.data.filters.filters import FilterContext, build_filters
from tunery.text.pii import detect, mask, mask_spans
from tunery.text.pii.surrogate import surrogate
from tunery.text.pii.types import DEFAULT_PII, PiiType
from tunery.text.pii.vault import KEY, Mapping, Replaced

FOUND = [
    ("write to jane.doe+x@mail.example.co.uk, please", "EMAIL_ADDRESS", "jane.doe+x@mail.example.co.uk"),
    ("(A.B@C.ORG)", "EMAIL_ADDRESS", "A.B@C.ORG"),
    ("an 84ali.türk@mail.example, bitte", "EMAIL_ADDRESS", "84ali.türk@mail.example"),
    ("请联系a.b@c.org。", "EMAIL_ADDRESS", "a.b@c.org"),
    ("card 4111 1111 1111 1111 12/27", "CREDIT_CARD", "4111 1111 1111 1111"),
    ("order 12 4111-1111-1111-1111 now", "CREDIT_CARD", "4111-1111-1111-1111"),
    ("card 4111111111111111 123", "CREDIT_CARD", "4111111111111111"),
    ("IBAN: LU28 0019 4006 4475 0000 and more", "IBAN_CODE", "LU28 0019 4006 4475 0000"),
    ("de89370400440532013000.", "IBAN_CODE", "de89370400440532013000"),
    ("my SSN is 123-12-3456", "US_SSN", "123-12-3456"),
    ("from 192.168.1.254:8080", "IP_ADDRESS", "192.168.1.254"),
    ("host 2001:db8::8a2e:370:7334 up", "IP_ADDRESS", "2001:db8::8a2e:370:7334"),
    (
        "git clone https://bob:s3cret@host.example/repo.git",
        "SECRET",
        "https://bob:s3cret@host.example/repo.git",
    ),
    ("call +49 (30) 901820 today", "PHONE_NUMBER", "+49 (30) 901820"),
    ("(555) 123-4567 ext 89", "PHONE_NUMBER", "(555) 123-4567 ext 89"),
    ("ring 555-123-4567.", "PHONE_NUMBER", "555-123-4567"),
    ("TEL:07-3507405", "PHONE_NUMBER", "07-3507405"),
    ("0044 20 7946 0958", "PHONE_NUMBER", "0044 20 7946 0958"),
    ("my phone is 2813882583", "PHONE_NUMBER", "2813882583"),
    ("please call me at 785 8949", "PHONE_NUMBER", "785 8949"),
    ("social security number 219099999", "US_SSN", "219099999"),
    ("ITIN 912-70-1234 please", "US_ITIN", "912-70-1234"),
    ("my driver's license number is A56319335", "US_DRIVER_LICENSE", "A56319335"),
    ("passport no. C01234567.", "US_PASSPORT", "C01234567"),
    ("from account number 000123456789", "US_BANK_NUMBER", "000123456789"),
    ("NPI 1234567893", "US_NPI", "1234567893"),
    ("Medical Record Number: D1827638", "MEDICAL_RECORD", "D1827638"),
    ("NHS number 943 476 5919", "UK_NHS", "943 476 5919"),
    ("NI: AB 12 34 56 C", "UK_NINO", "AB 12 34 56 C"),
    ("DNI 12345678Z", "ES_NIF", "12345678Z"),
    ("NIE X1234567L", "ES_NIE", "X1234567L"),
    ("codice fiscale RSSMRA85T10A562S", "IT_FISCAL_CODE", "RSSMRA85T10A562S"),
    ("PESEL 44051401359", "PL_PESEL", "44051401359"),
    ("CPF 529.982.247-25", "BR_CPF", "529.982.247-25"),
    ("BSN 111222333", "NL_BSN", "111222333"),
    ("NIR 2 55 08 14 168 025 38", "FR_NIR", "2 55 08 14 168 025 38"),
    ("AHV 756.9217.0769.85", "CH_AHV", "756.9217.0769.85"),
    ("Steuer-ID 86 095 742 719", "DE_TAX_ID", "86 095 742 719"),
    ("hetu 131052-308T", "FI_PERSONAL_IDENTITY_CODE", "131052-308T"),
    ("personnummer 811218-9876", "SE_PERSONNUMMER", "811218-9876"),
    ("Aadhaar 2000 0000 0000 no, 2341 2341 2346 yes", "IN_AADHAAR", "2341 2341 2346"),
    ("PAN ABCPE1234F", "IN_PAN", "ABCPE1234F"),
    ("send to 1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", "CRYPTO", "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa"),
    (
        "or bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
        "CRYPTO",
        "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
    ),
    ("device 00:1b:44:11:3a:b7", "MAC_ADDRESS", "00:1b:44:11:3a:b7"),
    ("key AKIA" + "Q3EGRT7LZX2M5WNB", "SECRET", "AKIA" + "Q3EGRT7LZX2M5WNB"),
]


@pytest.mark.parametrize(("text", "kind", "value"), FOUND)
def test_personal_data_is_found_whole(text: str, kind: str, value: str) -> None:
    ((span,),) = detect([text], DEFAULT_PII)
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
        "DNI 12345678A",
        "PESEL 44051401358, or 44051401359 of anything else".replace("PESEL", "number"),
        "CPF 529.982.247-24",
        "wallet 1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNb",
        "my driving licence was refused",
        "I need a new passport by 2026",
    ],
)
def test_other_numbers_are_left_alone(text: str) -> None:
    assert detect([text], DEFAULT_PII) == [[]]


def test_a_card_number_is_not_also_a_phone_number() -> None:
    ((span,),) = detect(["phone or card: 4111-1111-1111-1111"], DEFAULT_PII)
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


def outside(text: str, types: tuple[PiiType, ...]) -> list[str]:
    """Return what lies between the spans of a text."""
    (spans,) = detect([text], types)
    assert all(a.end <= b.start for a, b in pairwise(spans))
    edges = [0, *(edge for s in spans for edge in (s.start, s.end)), len(text)]
    return [text[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True)]


POLICIES: list[dict[PiiType, str]] = [{}, dict.fromkeys(DEFAULT_PII, "surrogate")]


@pytest.mark.parametrize("policy", POLICIES, ids=["mask", "surrogate"])
@pytest.mark.parametrize("names", [(), ("PERSON", "LOCATION", "ORGANIZATION")], ids=["forms", "names"])
@given(PIECES.map(" ".join))
def test_text_outside_the_spans_never_changes(
    policy: dict[PiiType, str], names: tuple[PiiType, ...], text: str
) -> None:
    types = (*DEFAULT_PII, *names)
    clean = CleanConfig.model_validate({"pii_types": types, "pii_policy": policy})
    result = apply_policy([text], clean)
    pieces = outside(text, types)
    assert sum(result.counts.values()) == len(pieces) - 1
    rest, at = result.texts[0], 0
    assert rest.startswith(pieces[0])
    assert rest.endswith(pieces[-1])
    for piece in pieces:
        at = rest.index(piece, at) + len(piece)


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

    def seconds(size: int) -> float:
        start = time.process_time()
        for piece in (
            "1",
            "1 ",
            "a@",
            "+1(",
            "1:",
            "a@b.org ",
            "tel 1234567 ",
            "driver license ",
            "1-2-",
            "www.",
        ):
            detect([piece * (size // len(piece)) + "1"])
        detect(["a." * (size // 2) + "@"])
        return time.process_time() - start

    seconds(1000)
    # Four times the length: four times the time where it grows in proportion, sixteen where it is squared.
    assert seconds(16_000) < 9 * seconds(4_000)


def test_mask_spans_without_spans_is_the_identity() -> None:
    assert mask_spans("text", []) == "text"


@pytest.mark.parametrize(("text", "kind", "value"), FOUND)
def test_a_surrogate_has_the_shape_of_what_it_replaces_and_the_seed_decides_it(
    text: str, kind: PiiType, value: str
) -> None:
    def drawn(seed: int) -> str:
        clean = CleanConfig(pii_policy={kind: "surrogate"}, pii_seed=seed)
        (new,) = apply_policy([text], clean).texts
        head, _, tail = text.partition(value)
        assert new.startswith(head)
        assert new.endswith(tail)
        return new.removeprefix(head).removesuffix(tail)

    assert drawn(0) == drawn(0) != value
    assert any(drawn(seed) != drawn(0) for seed in range(1, 5))
    if kind not in ("EMAIL_ADDRESS", "IP_ADDRESS"):
        assert [c.isalnum() for c in drawn(0)] == [c.isalnum() for c in value] or kind == "SECRET"


@pytest.mark.parametrize("kind", ["CREDIT_CARD", "IBAN_CODE", "EMAIL_ADDRESS", "IP_ADDRESS"])
def test_a_surrogate_is_found_again_as_what_it_is(kind: PiiType) -> None:
    values = [value for _, k, value in FOUND if k == kind]
    clean = CleanConfig(pii_policy={kind: "surrogate"})
    for text in apply_policy([f"here: {v} ." for v in values], clean).texts:
        assert [s.type for s in detect([text], DEFAULT_PII)[0]] == [kind]


def test_a_number_that_no_form_of_it_is_issued_replaces_a_social_security_number() -> None:
    clean = CleanConfig(pii_policy={"US_SSN": "surrogate"})
    (text,) = apply_policy(["SSN: 219-09-9999"], clean).texts
    assert text.startswith("SSN: 9")


def test_a_person_keeps_the_same_surrogate_in_full_and_in_part() -> None:
    clean = CleanConfig(pii_types=("PERSON",), pii_policy={"PERSON": "surrogate"})
    texts = ["My name is Anna Schmidt.", "Dear Mr. Schmidt, thanks.", "Hello Anna, thanks!"]
    full, last, first = apply_policy(texts, clean).texts
    new_first, new_last = full.removeprefix("My name is ").removesuffix(".").split(" ")
    assert {new_first, new_last}.isdisjoint({"Anna", "Schmidt"})
    assert new_last in last
    assert new_first in first


def test_each_kind_has_its_own_policy() -> None:
    text = "I am a@b.org, card 4111111111111111, at 192.168.1.1, tel +49 30 901820"
    clean = CleanConfig(
        pii_policy={"EMAIL_ADDRESS": "keep", "IP_ADDRESS": "surrogate", "CREDIT_CARD": "drop"}
    )
    (new,) = apply_policy([text], clean).texts
    assert "a@b.org" in new
    assert "<PHONE_NUMBER>" in new
    assert "192.168.1.1" not in new
    assert "<IP_ADDRESS>" not in new
    assert "4111111111111111" in new  # its row goes as a whole


def test_a_row_with_data_that_is_to_be_dropped_goes_with_its_reason() -> None:
    clean = CleanConfig(pii_policy={"US_SSN": "drop"})
    rows = [
        Example(
            id=str(i),
            messages=(Message(role="user", content=t), Message(role="assistant", content="ok")),
            group=str(i),
        )
        for i, t in enumerate(["SSN 219-09-9999", "hello"])
    ]
    for own, reasons in ((clean, {0: "personal_data"}), (CleanConfig(), {})):
        chosen = build_filters(FiltersConfig(), FilterContext(own.pii_dropped))
        assert {i: drop.reason for i, drop in judge(chosen, rows).items()} == reasons


def test_a_policy_for_a_kind_that_is_not_looked_for_is_refused() -> None:
    with pytest.raises(ValueError, match="pii_policy names PERSON"):
        CleanConfig(pii_policy={"PERSON": "surrogate"})


def test_by_default_names_dates_and_pages_stay() -> None:
    text = "My name is Anna Schmidt and I live in Berlin; see https://example.org, 2021-03-04."
    assert mask([text]).texts == [text]
    assert {s.type for s in detect([text])[0]} == {"PERSON", "LOCATION", "URL", "DATE_TIME"}


def test_the_mapping_is_stored_only_where_asked_for_and_only_encrypted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fernet = pytest.importorskip("cryptography.fernet")
    path = tmp_path / "mapping"
    clean = CleanConfig(pii_mapping=str(path), pii_policy={"EMAIL_ADDRESS": "surrogate"})
    monkeypatch.delenv(KEY, raising=False)
    with pytest.raises(ConfigError, match="is not set"):
        apply_policy(["jane@shop.org"], clean)
    monkeypatch.setenv(KEY, "no key")
    with pytest.raises(ConfigError, match="is no Fernet key"):
        apply_policy(["jane@shop.org"], clean)
    monkeypatch.setenv(KEY, fernet.Fernet.generate_key().decode())
    (text,) = apply_policy(["jane@shop.org"], clean).texts
    apply_policy(["jane@shop.org", "call +49 30 901820"], clean)
    assert b"jane" not in path.read_bytes()
    assert path.stat().st_mode & 0o077 == 0
    assert Mapping(path).read() == [
        Replaced("EMAIL_ADDRESS", "jane@shop.org", text),
        Replaced("PHONE_NUMBER", "+49 30 901820", "<PHONE_NUMBER>"),
    ]
    monkeypatch.setenv(KEY, fernet.Fernet.generate_key().decode())
    with pytest.raises(ConfigError, match="does not open"):
        Mapping(path).read()
    apply_policy(["jane@shop.org"], CleanConfig())
    assert [p.name for p in tmp_path.iterdir()] == ["mapping"]


def test_support_questions_are_left_as_they_are_by_default() -> None:
    path = Path(__file__).parents[4] / "recipes" / "data" / "banking77-train.csv"
    with path.open(encoding="utf-8", newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    assert len(texts) > 10_000
    assert mask(texts).texts == texts


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r'{"note":"Card:\n4111 1111 1111 1111"}', r'{"note":"Card:\n<CREDIT_CARD>"}'),
        (r'{"note":"id\t123-12-3456"}', r'{"note":"id\t<US_SSN>"}'),
        (r'{"a":"M\u00fcller@ex.org"}', r'{"a":"<EMAIL_ADDRESS>"}'),
        (r'{"a":"see \"ftp://u:p1@h\" ok"}', r'{"a":"see \"<SECRET>\" ok"}'),
        ('{"account": 12345678.50}', '{"account": "<US_BANK_NUMBER>.50"}'),
        ('{"account": -12345678}', '{"account": "-<US_BANK_NUMBER>"}'),
        ('[4111111111111111, "a@b.org", 7]', '["<CREDIT_CARD>", "<EMAIL_ADDRESS>", 7]'),
    ],
)  # fmt: skip
def test_masked_json_stays_json_and_escapes_hide_nothing(text: str, expected: str) -> None:
    assert mask([text]).texts == [expected]
    json.loads(expected)


def test_outside_json_what_looks_like_an_escape_may_be_one() -> None:
    texts = [r'Answer: `{"a": "x\t4111 1111 1111 1111"}`', r"C:\temp\bob@ex.org"]
    assert mask(texts).texts == [r'Answer: `{"a": "x\t<CREDIT_CARD>"}`', r"C:\temp\<EMAIL_ADDRESS>"]


@pytest.mark.parametrize(
    "text",
    [
        "İSSMRA85T10A562S",
        "RSSMRA٨٥T10A562S x 1",
        "pay bc1qw508d6qejxtdg4y5r3zarvary0c5xw7ſv8f3t4 1",
        "GB82 WEST 1234 5698 7654 3İ",
    ],
)
def test_numbers_in_other_alphabets_are_none_and_stop_nobody(text: str) -> None:
    assert mask([text]).texts == [text]


def test_a_name_of_titles_only_is_replaced_too() -> None:
    assert all(surrogate(name, "PERSON", 0) != name for name in ("Al Di La", "Bin"))
    assert surrogate("Dr Smith", "PERSON", 0).startswith("Dr ")
