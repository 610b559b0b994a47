"""All detectors together."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.inspect.detectors.rows import clean, columns, ids, one
from tunery.data.edits.sets import settle
from tunery.inspect.config import InspectConfig
from tunery.inspect.detectors import lengths as detector
from tunery.inspect.inspect import Given, inspect_columns

ODD = st.text(max_size=60) | st.sampled_from(
    [
        "",
        " ",
        "{",
        "```",
        "[[[[",
        "\ud7ff",
        "\U0010ffff",
        "&#0;",
        "&#1114112;",
        "<!--",
        "sk-",
        "://:@",
        "a" * 500,
        "\r\n\x85",
        "no " * 99,
    ]
)


@given(
    st.lists(st.tuples(ODD, ODD, st.none() | ODD, st.sampled_from(["train", "test"])), max_size=30),
    st.booleans(),
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_text_makes_a_detector_fail(rows: list[tuple[str, str, str | None, str]], closed: bool):
    answers = [r[1] for r in rows]
    data = columns(
        [r[0] for r in rows],
        answers,
        rejected=[r[2] for r in rows],
        splits=[r[3] for r in rows],
        labels=answers if closed else None,
    )

    found = inspect_columns(data, InspectConfig(), Given(lengths=[3] * len(rows), max_tokens=2))

    assert all(set(f.rows) <= set(data.ids) for f in found)


def test_findings_come_worst_first_and_their_damage_edits_agree():
    prompts, answers = clean(200)
    answers[0], answers[1] = "", "i am here for you and your order."
    prompts[2] = "Itâ€™s <b>late</b>, where is my parcel\u200b?"

    found = inspect_columns(columns(prompts, answers), InspectConfig())

    assert [f.severity for f in found] == sorted(
        (f.severity for f in found), key=["high", "medium", "low"].index
    )
    assert found[0].kind == "empty_answer"
    damage = [e for f in found if f.kind in ("mojibake", "html", "invisible_characters") for e in f.edits]
    assert len(damage) == 3
    assert len(settle(damage).edits) == 1


def test_a_kind_that_is_ignored_is_not_reported():
    prompts, answers = clean(60)
    prompts[0] = "Why?"

    assert [f.kind for f in inspect_columns(columns(prompts, answers), InspectConfig())] == ["short_prompt"]
    assert inspect_columns(columns(prompts, answers), InspectConfig(ignore=("short_prompt",))) == ()


def test_no_evidence_of_another_finding_shows_a_secret_or_an_address():
    prompts, answers = clean(60)
    key = "gh" + "p_" + "q8Zr2LmX0vT4nB7cYd1KpW5sJh9GfR3eUaQt"
    prompts[0] = f"Itâ€™s me, anna.berg@posteo.example.com, with {key}"

    shown = "".join(
        e.model_dump_json()
        for f in inspect_columns(columns(prompts, answers), InspectConfig())
        for e in f.evidence
    )

    assert "q8Zr2" not in shown
    assert "anna.berg" not in shown


def test_bounds_move_with_the_settings():
    prompts, answers = clean(60)
    prompts[0] = "Why so late?"

    found = inspect_columns(columns(prompts, answers), InspectConfig(min_input_chars=15))

    assert one(found, "short_prompt").rows == ("ex-0",)


def test_answers_of_a_closed_set_may_be_short_and_alike():
    labels = ["fee", "top", "fee and " * 20 + "top"] * 30

    assert [
        f.kind
        for f in inspect_columns(
            columns(clean(90)[0], labels, labels=labels),
            # What a prompt is labelled has nothing to do with it here, and is found to be so.
            InspectConfig(ignore=("label_error", "doubtful_label")),
        )
    ] == []


def test_rows_of_too_many_tokens_come_longest_first():
    prompts, answers = clean(100)
    lengths = [10] * 100
    lengths[4], lengths[9] = 600, 700

    (finding,) = detector.find(columns(prompts, answers), lengths, 512)

    assert finding.rows == ("ex-9", "ex-4")
    assert finding.numbers["p50"] == 10


def test_lengths_of_other_rows_are_refused():
    with pytest.raises(ValueError, match="3 lengths for 10 rows"):
        list(detector.find(columns(*clean(10)), [1, 2, 3], 512))


def test_a_mix_of_languages_is_reported_with_its_shares():
    prompts, answers = clean(100)
    german = [
        "Wie kann ich die Adresse für meine Lieferung noch ändern, wenn sie schon unterwegs ist?",
        "Ich möchte gerne wissen, warum meine Rechnung in diesem Monat höher ausgefallen ist.",
    ]
    prompts += [f"{german[i % 2]} Es geht um Nummer {i}." for i in range(20)]
    answers += ["Bitte melden Sie sich an und öffnen Sie die Seite mit Ihren Bestellungen."] * 20

    finding = one(inspect_columns(columns(prompts, answers), InspectConfig()), "language_mix")

    assert set(finding.numbers["counts"]) == {"de", "en"}


def test_translations_are_no_outliers():
    prompts, answers = clean(100)
    prompts[0], answers[0] = (
        "Translate 'where is the nearest restaurant in this town?' into German.",
        "Wo ist denn bitte das nächste Restaurant in dieser Stadt?",
    )

    assert inspect_columns(columns(prompts, answers), InspectConfig()) == ()


def test_all_rows_of_a_class_may_be_named_but_none_twice():
    prompts, answers = clean(100)
    for i in range(8):
        answers[i] = ""

    finding = one(inspect_columns(columns(prompts, answers), InspectConfig()), "empty_answer")

    assert set(finding.rows) == ids(range(8))
    assert len(finding.rows) == 8


def test_rows_without_a_letter_leave_nothing_to_judge_labels_and_preferences_by():
    labels = ["fee", "top"] * 20
    kinds = {f.kind for f in inspect_columns(columns([""] * 40, labels, labels=labels), InspectConfig())}
    kinds |= {
        f.kind for f in inspect_columns(columns([""] * 40, [""] * 40, rejected=[" "] * 40), InspectConfig())
    }

    assert kinds == {"empty_answer"}
