"""Runs of words that training shares with what it must not have seen."""

from __future__ import annotations

import itertools
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.inspect.detectors.rows import clean, columns, one
from tunery.inspect.detectors import contamination

BENCHMARK = (
    "A train leaves the station at noon and travels north at sixty miles an hour for three hours, "
    "without a stop."
)


def test_a_benchmark_question_inside_a_prompt_is_found_whatever_its_case_and_punctuation():
    prompts, answers = clean(100)
    prompts[7] = f"Solve: {BENCHMARK.upper().replace('.', '!')} How far did it go?"

    finding = one(contamination.find(columns(prompts, answers), [("trains", [BENCHMARK])]), "contamination")

    assert finding.rows == ("ex-7",)
    assert finding.numbers["references"] == {"trains": 1}
    assert [e.action for e in finding.edits] == ["drop"]


def test_twelve_words_in_a_row_are_too_few():
    prompts, answers = clean(100)
    prompts[7] = "Now " + " ".join(BENCHMARK.split()[:12])

    assert list(contamination.find(columns(prompts, answers), [("trains", [BENCHMARK])])) == []


def test_a_short_text_counts_as_a_whole_only():
    rows = columns(
        ["What is the boiling point of water?", "What is the boiling point of water in Rome?"], ["A", "B"]
    )

    finding = one(
        contamination.find(rows, [("quiz", ["what is the boiling point of water"])]), "contamination"
    )

    assert finding.rows == ("ex-0",)


def test_a_template_that_many_rows_have_is_no_copy():
    template = "Below is an instruction that describes a task, write a response that completes the request: "
    prompts = [template + str(n) for n in range(30)]

    assert list(contamination.find(columns(prompts, ["A"] * 30), [("other", [template + "sum"])])) == []


def test_training_rows_that_share_a_run_with_the_test_split_are_reported():
    rows = columns(
        [BENCHMARK, f"{BENCHMARK} And then?", "Why?"], ["A", "B", "C"], splits=["train", "test", "train"]
    )

    finding = one(contamination.find(rows), "split_overlap")

    assert finding.rows == ("ex-0",)


@given(st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_it_finds_what_comparing_every_run_with_every_run_finds(seed: int):
    draw = random.Random(seed)
    texts = [" ".join(draw.choices("abcd", k=draw.randint(4, 9))) for _ in range(12)]
    references = [" ".join(draw.choices("abcd", k=draw.randint(4, 9))) for _ in range(4)]
    size = 5

    def runs(text: str) -> set[tuple[str, ...]]:
        words = text.split()
        return {tuple(words[i : i + size]) for i in range(len(words) - size + 1)}

    expected = {
        f"ex-{i}"
        for (i, text), other in itertools.product(enumerate(texts), references)
        if runs(text) & runs(other) or (len(other.split()) < size and text == other)
    }
    rows = columns(texts, ["yes"] * len(texts), labels=["yes"] * len(texts))

    found = contamination.find(rows, [("other", references)], overlap_words=size)

    assert {row for f in found for row in f.rows} == expected
