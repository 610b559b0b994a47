"""Each trouble is planted in one row of a hundred: all of them are found, and no other row is named."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from tests.unit.inspect.detectors.rows import clean, columns, ids, one
from tunery.core.finding import Finding
from tunery.inspect.config import InspectConfig
from tunery.inspect.inspect import inspect_columns

ROWS = 400
PLANTED = ROWS // 100

GERMAN = [
    "Wie kann ich die Adresse für meine Lieferung noch ändern, wenn sie schon unterwegs ist?",
    "Ich möchte gerne wissen, warum meine Rechnung in diesem Monat höher ausgefallen ist.",
    "Bitte sagen Sie mir, wann das bestellte Ersatzteil endlich bei mir ankommen wird.",
    "Warum wurde der Gutschein beim Bezahlen an der Kasse nicht von Ihnen angenommen?",
]
TOKEN = "ghp_" + "q8Zr2LmX0vT4nB7cYd1KpW5sJh9GfR3eUaQt"
SECRETS = [
    "use " + "AKIA" + "Q3EGRT7LZX2M5WNB for the upload",
    f"export TOKEN={TOKEN}",
    "postgres://shop:" + "h7Kd0-vqL2@db.internal:5432/orders",
    "api_key = '" + "9f8A7c6E5b4D3a2F1e0C8d7B" + "'",
]

Spoil = Callable[[str, str, int], tuple[str, str]]

PLANTS: dict[str, Spoil] = {
    "mojibake": lambda p, a, k: (p, a.replace(".", "â€™s fine.", 1)),
    "html": lambda p, a, k: (f"<p>{p}</p>" if k % 2 else p, a if k % 2 else a.replace(" ", "&nbsp;", 3)),
    "invisible_characters": lambda p, a, k: (p[:9] + "\u200b" + p[9:], a),
    "odd_whitespace": lambda p, a, k: (p.replace(" ", "     ", 1), a),
    "lost_characters": lambda p, a, k: (p, a.replace("e", "\ufffd", 2)),
    "empty_answer": lambda p, a, k: (p, ("", " ", "\n", "\t")[k % 4]),
    "cut_off": lambda p, a, k: (p, a[: a.rindex(" ", 0, len(a) - 12)]),
    "refusal": lambda p, a, k: (
        p,
        (
            "I'm sorry, but I can't help with that request.",
            "I cannot provide information about this order.",
            "Unfortunately, I am unable to answer that.",
            "Sorry, I can't assist with that.",
        )[k % 4],
    ),
    "boilerplate": lambda p, a, k: (p, f"As an AI language model, I look at orders often. {a}"),
    "loop": lambda p, a, k: (p, a + " please wait for our reply" * 12 + "."),
    "echo": lambda p, a, k: (p, p),
    "secret": lambda p, a, k: (p, f"{a} {SECRETS[k % 4]}."),
    "personal_data": lambda p, a, k: (f"{p} Write to anna.berg{k}@posteo.example.com, please.", a),
    "short_prompt": lambda p, a, k: (f"Help {k}", a),
    "long_prompt": lambda p, a, k: (
        " ".join(f"{p[:-1]}, and on day {n} it was {n * 7} again." for n in range(20)),
        a,
    ),
    "short_answer": lambda p, a, k: (p, ("Hm.", "Ok.", "Go.", "So.")[k % 4]),
    "case_outlier": lambda p, a, k: (p, a[0].lower() + a[1:]),
    "language_outlier": lambda p, a, k: (GERMAN[k % 4], a),
    "answer_language": lambda p, a, k: (p, GERMAN[k % 4]),
    "format_outlier": lambda p, a, k: (p, f'{{"reply": "{a[:30]}", "number": {k}}}'),
}


def planted(kind: str, seed: int) -> tuple[tuple[Finding, ...], set[str]]:
    prompts, answers = clean(ROWS, seed)
    rows = random.Random(seed).sample(range(ROWS), PLANTED)
    for k, i in enumerate(rows):
        prompts[i], answers[i] = PLANTS[kind](prompts[i], answers[i], k)
    return inspect_columns(columns(prompts, answers), InspectConfig()), ids(rows)


def test_clean_rows_are_found_clean():
    prompts, answers = clean(ROWS)

    # Questions of one template differ in the one word that matters: they may be near, never contradict.
    found = inspect_columns(columns(prompts, answers), InspectConfig())

    assert [f.kind for f in found] == []


@pytest.mark.parametrize("kind", PLANTS)
def test_a_trouble_in_one_row_of_a_hundred_is_found_in_all_its_rows_and_in_no_other(kind: str):
    for seed in (1, 2):
        found, rows = planted(kind, seed)

        assert set(one(found, kind).rows) == rows


@pytest.mark.parametrize("kind", PLANTS)
def test_no_row_that_was_left_alone_is_named_by_any_finding(kind: str):
    found, rows = planted(kind, 3)

    assert {row for f in found for row in f.rows} <= rows


@pytest.mark.parametrize("kind", PLANTS)
def test_every_finding_says_its_numbers_and_shows_at_most_ten_cases(kind: str):
    found, _ = planted(kind, 4)

    for finding in found:
        assert any(c.isdigit() for c in finding.message)
        assert finding.message.endswith(".")
        assert finding.fix.endswith(".")
        assert 1 <= len(finding.evidence) <= 10
        assert all(set(e.rows) <= set(finding.rows) for e in finding.evidence)
        assert {e.row for e in finding.edits} <= set(finding.rows)
        assert {e.reason for e in finding.edits} <= {finding.kind}
