"""Exports: reviewed feedback becomes rows, and nothing that is held out does."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from tests.unit.feedback.conftest import NOW, accepted, add_dataset, add_dataset_record, add_model

from tunery.core.errors import ConfigError, NotFoundError, ResourceError
from tunery.data.config import SourceConfig
from tunery.feedback.collect import GivenFeedback, record
from tunery.feedback.config import ExportConfig
from tunery.feedback.export import export
from tunery.pipeline.doctor.sample import read_sample
from tunery.store.dataset_files import EXAMPLES

HELD_OUT = "I was charged twice for the same purchase at the supermarket yesterday"


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_an_accepted_correction_becomes_a_chat_row_that_says_where_it_came_from(bot, serve, tmp_path):
    request = serve([("system", "Name the intent."), ("user", "My card is gone – what now?")])
    feedback = accepted(bot, request, kind="correction", correction="lost_or_stolen_card")
    made = export(bot, tmp_path / "out")
    assert (made.examples, made.preferences, made.skipped) == (1, 0, {})
    assert lines(tmp_path / "out/examples.jsonl") == [
        {
            "messages": [
                {"role": "system", "content": "Name the intent."},
                {"role": "user", "content": "My card is gone – what now?"},
                {"role": "assistant", "content": "lost_or_stolen_card"},
            ],
            "metadata": {
                "split_hint": "train",
                "held_out": False,
                "request_id": request.id,
                "feedback_id": feedback,
            },
        }
    ]


def test_a_preference_becomes_a_preference_row(bot, serve, tmp_path):
    request = serve("My card is gone", completion="refund")
    accepted(bot, request, kind="preference", correction="lost_card")
    assert export(bot, tmp_path / "out").preferences == 1
    (row,) = lines(tmp_path / "out/preferences.jsonl")
    assert row["input"] == {"messages": [{"role": "user", "content": "My card is gone"}]}
    assert row["preferred_output"] == [{"role": "assistant", "content": "lost_card"}]
    assert row["non_preferred_output"] == [{"role": "assistant", "content": "refund"}]
    assert row["metadata"]["split_hint"] == "train"


def test_earlier_assistant_turns_are_not_trained_on(bot, serve, tmp_path):
    turns = [("user", "Hello"), ("assistant", "What is it?"), ("user", "My card is gone")]
    accepted(bot, serve(turns), kind="correction", correction="lost_or_stolen_card")
    export(bot, tmp_path / "out")
    (row,) = lines(tmp_path / "out/examples.jsonl")
    assert [m.get("weight") for m in row["messages"]] == [None, 0, None, None]


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        (HELD_OUT, "held_out_exact"),
        ("  i was CHARGED twice, for the same purchase at the supermarket yesterday!", "held_out_exact"),
        ("I was charged twice for the same purchases at the supermarket yesterday", "held_out_near"),
        ("Can I choose the PIN of my new card myself?", "held_out_exact"),
        ([("user", HELD_OUT), ("assistant", "refund"), ("user", "Really?")], "held_out_exact"),
    ],
)
def test_no_row_repeats_a_held_out_prompt(bot, serve, tmp_path, prompt, reason):
    accepted(bot, serve(prompt), kind="correction", correction="charged_twice")
    accepted(bot, serve(prompt), kind="preference", correction="charged_twice")
    made = export(bot, tmp_path / "out")
    assert (made.examples, made.preferences, made.skipped) == (0, 0, {reason: 2})
    skipped = lines(tmp_path / "out/skipped.jsonl")
    assert all("ds-1" in s["detail"] for s in skipped)


def test_a_prompt_of_the_train_split_may_be_corrected(bot, serve, tmp_path):
    accepted(bot, serve("How do I order a card?"), kind="correction", correction="order_card")
    assert export(bot, tmp_path / "out").examples == 1


def test_a_prompt_held_out_for_any_version_of_the_name_is_held_out_for_all(bot, serve, tmp_path):
    add_dataset(bot, "ds-0", [("test", "Which currencies do you support?")])
    add_dataset(bot, "ds-2", [("test", "Is there a fee for top-ups?")], name="other", parents=("ds-0",))
    add_model(bot, "ds-2")
    add_dataset(bot, "ds-3", [("validation", "Where can I withdraw cash?")])
    for prompt in (
        "Which currencies do you support?",
        "Is there a fee for top-ups?",
        "Where can I withdraw cash?",
    ):
        accepted(bot, serve(prompt, model="bot@1"), kind="correction", correction="x")
    assert export(bot, tmp_path / "out").skipped == {"held_out_exact": 3}


def test_what_is_held_out_for_another_name_does_not_matter(bot, serve, tmp_path):
    add_dataset(bot, "ds-9", [("test", "Where is my parcel?")], name="parcels")
    add_model(bot, "ds-9", name="parcels")
    accepted(bot, serve("Where is my parcel?"), kind="correction", correction="x")
    assert export(bot, tmp_path / "out").examples == 1


def test_answers_of_the_base_are_checked_against_every_dataset_version(bot, serve, tmp_path):
    add_dataset(bot, "ds-9", [("test", "Where is my parcel?")], name="parcels")
    for prompt in ("Where is my parcel?", HELD_OUT):
        accepted(bot, serve(prompt, model="smollm2-135m-instruct"), kind="correction", correction="x")
    assert export(bot, tmp_path / "out").skipped == {"held_out_exact": 2}


@pytest.mark.parametrize("base", ["org/model@main", "org/Model-1B@5", "model@main"])
def test_a_base_from_the_hub_is_not_taken_for_a_deleted_version(bot, serve, tmp_path, base):
    accepted(bot, serve("My card is gone", model=base), kind="correction", correction="x")
    accepted(bot, serve(HELD_OUT, model=base), kind="correction", correction="x")
    made = export(bot, tmp_path / "out")
    assert (made.examples, made.skipped) == (1, {"held_out_exact": 1})


def test_feedback_is_skipped_when_its_lineage_can_no_longer_be_read(bot, serve, tmp_path):
    accepted(bot, serve("Anything new"), kind="correction", correction="x")
    accepted(bot, serve("Anything", model="bot@8"), kind="correction", correction="x")
    bot.artifacts.delete("datasets", "ds-1")
    assert export(bot, tmp_path / "a").skipped == {"held_out_not_checkable": 2}
    add_dataset_record(bot, "ds-5", parents=("ds-lost",))
    export(bot, tmp_path / "b")
    assert any("ds-lost" in s["detail"] for s in lines(tmp_path / "b/skipped.jsonl"))


def test_a_table_of_another_layout_is_not_taken_for_nothing_held_out(bot, serve, tmp_path):
    with bot.artifacts.create("datasets", "ds-7", {}) as folder:
        (folder / EXAMPLES).write_bytes(b"PAR1 not really")
    add_dataset_record(bot, "ds-7")
    accepted(bot, serve("Anything new"), kind="correction", correction="x")
    assert export(bot, tmp_path / "out").skipped == {"held_out_not_checkable": 1}


def test_only_accepted_feedback_becomes_rows_and_the_rest_is_counted(bot, serve, tmp_path):
    correction = GivenFeedback(kind="correction", correction="x")
    record(bot, serve("one").id, correction, author="a")
    declined = record(bot, serve("two").id, correction, author="a")
    bot.feedback.review(declined.id, accepted=False, reviewer="rita")
    accepted(bot, serve("three"), kind="rating", rating=-1)
    accepted(bot, serve("four"), kind="rating", rating=1)
    assert export(bot, tmp_path / "out").skipped == {
        "declined": 1,
        "liked_not_asked_for": 1,
        "no_better_answer": 1,
        "pending": 1,
    }


def test_liked_answers_become_rows_only_when_asked_for(bot, serve, tmp_path):
    accepted(bot, serve("My card is gone", completion="lost_card"), kind="rating", rating=1)
    accepted(bot, serve(HELD_OUT), kind="rating", rating=1)
    made = export(bot, tmp_path / "out", config=ExportConfig(include_liked=True))
    assert (made.examples, made.skipped) == (1, {"held_out_exact": 1})
    (row,) = lines(tmp_path / "out/examples.jsonl")
    assert row["messages"][-1] == {"role": "assistant", "content": "lost_card"}


def test_thumbs_become_unpaired_preferences_when_asked_for(bot, serve, tmp_path):
    answered = serve("My card is gone", completion="refund")
    accepted(bot, answered, kind="rating", rating=-1)
    accepted(bot, serve("My card is gone", completion="lost card"), kind="rating", rating=1)
    accepted(bot, serve("Where is my card", completion="card arrival"), kind="rating", rating=1)
    plain = export(bot, tmp_path / "plain")
    assert (plain.examples, plain.ratings) == (0, 0)
    assert set(plain.skipped) == {"no_better_answer", "liked_not_asked_for"}
    made = export(bot, tmp_path / "out", config=ExportConfig(ratings=True))
    assert (made.examples, made.preferences, made.ratings, made.skipped) == (0, 0, 3, {})
    rows = lines(tmp_path / "out/ratings.jsonl")
    judged = {(row["messages"][0]["content"], row["messages"][-1]["content"]): row["kto_tag"] for row in rows}
    assert judged == {
        ("My card is gone", "refund"): False,
        ("My card is gone", "lost card"): True,
        ("Where is my card", "card arrival"): True,
    }
    assert all(row["metadata"]["split_hint"] == "train" for row in rows)
    both = export(bot, tmp_path / "both", config=ExportConfig(ratings=True, include_liked=True))
    assert (both.examples, both.ratings) == (2, 3)
    source = SourceConfig(path=str(tmp_path / "out/ratings.jsonl"))
    read = read_sample(source).examples
    assert sorted(e.desirable for e in read) == [False, True, True]


def test_feedback_on_requests_without_kept_text_becomes_no_row(bot, serve, tmp_path):
    for answer in ("x", "y"):
        accepted(bot, serve([], completion=""), kind="correction", correction=answer)
    accepted(bot, serve([], completion=""), kind="preference", correction="x", rejected="y")
    accepted(bot, serve([], completion=""), kind="rating", rating=1)
    settings = ExportConfig(include_liked=True, corrections_as_preferences=True)
    made = export(bot, tmp_path / "out", config=settings)
    assert (made.examples, made.preferences, made.skipped) == (0, 0, {"text_not_kept": 4})
    assert all("was not kept" in s["detail"] for s in lines(tmp_path / "out/skipped.jsonl"))


def test_of_two_answers_to_one_prompt_the_newest_correction_counts(bot, serve, tmp_path):
    accepted(bot, serve("My card is gone"), kind="correction", correction="old")
    newest = accepted(bot, serve("My card is gone"), kind="correction", correction="new")
    accepted(bot, serve("My card is gone", completion="liked"), kind="rating", rating=1)
    made = export(bot, tmp_path / "out", config=ExportConfig(include_liked=True))
    assert made.skipped == {"superseded": 2}
    (row,) = lines(tmp_path / "out/examples.jsonl")
    assert row["messages"][-1]["content"] == "new"
    assert row["metadata"]["feedback_id"] == newest


def test_a_correction_also_makes_a_pair_when_asked_for(bot, serve, tmp_path):
    accepted(bot, serve("My card is gone", completion="bad"), kind="correction", correction="good")
    made = export(bot, tmp_path / "out", config=ExportConfig(corrections_as_preferences=True))
    assert (made.examples, made.preferences) == (1, 1)


def test_model_and_since_narrow_an_export(bot, serve, tmp_path):
    accepted(bot, serve("My card is gone"), kind="correction", correction="x")
    add_dataset(bot, "ds-9", [("test", "Where is my parcel?")], name="parcels")
    add_model(bot, "ds-9", name="parcels")
    accepted(bot, serve("Is it late?", model="parcels@1"), kind="correction", correction="x")
    assert export(bot, tmp_path / "all").examples == 2
    assert export(bot, tmp_path / "one", model="parcels").examples == 1
    assert export(bot, tmp_path / "none", since=NOW + timedelta(days=365_00)).examples == 0
    with pytest.raises(NotFoundError, match="did you mean 'parcels'"):
        export(bot, tmp_path / "typo", model="parcel")


def test_the_same_rows_give_the_same_id_and_an_earlier_export_is_replaced(bot, serve, tmp_path):
    accepted(bot, serve("My card is gone"), kind="correction", correction="x")
    first, again = export(bot, tmp_path / "out"), export(bot, tmp_path / "out")
    assert first.id == again.id
    accepted(bot, serve("My card was stolen"), kind="correction", correction="y")
    more = export(bot, tmp_path / "out")
    assert more.id != first.id
    assert json.loads((tmp_path / "out/export.json").read_text())["id"] == more.id
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "examples.jsonl",
        "export.json",
        "preferences.jsonl",
        "skipped.jsonl",
    ]


def test_a_folder_with_other_things_and_a_file_are_left_alone(bot, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"notes\.txt"):
        export(bot, tmp_path)
    with pytest.raises(ConfigError, match="is a file"):
        export(bot, tmp_path / "notes.txt")
    assert [p.name for p in tmp_path.glob("*.jsonl")] == []


def test_an_export_that_fails_half_way_is_not_an_export(bot, serve, tmp_path, monkeypatch):
    accepted(bot, serve("My card is gone"), kind="correction", correction="x")
    export(bot, tmp_path / "out")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ResourceError, match="No space left"):
        export(bot, tmp_path / "out")
    assert not (tmp_path / "out/export.json").exists()
    assert list((tmp_path / "out").glob(".*")) == []


def test_a_rating_of_an_unusual_text_survives_the_round_trip(bot, serve, tmp_path):
    text = 'line\nbreak "quote" \u2028 ünïcode 🙂 \x00'
    accepted(bot, serve(text), kind="correction", correction=text + "!")
    export(bot, tmp_path / "out")
    raw = (tmp_path / "out/examples.jsonl").read_text(encoding="utf-8")
    (row,) = [json.loads(line) for line in raw.split("\n") if line]
    assert row["messages"][-1]["content"] == text + "!"
