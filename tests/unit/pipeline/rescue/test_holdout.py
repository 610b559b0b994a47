"""The hold-out: twins and conversations on one side, its share of each label, and nothing moved later."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunery.pipeline.rescue.holdout import HoldOut, drawn_prompts
from tunery.pipeline.rescue.prompts import FoundPrompt
from tunery.rescue.records import RecordedPrompt


def asked(text: str, origin: str = "training_file", truth: str | None = None) -> FoundPrompt:
    return FoundPrompt(origin, ({"role": "user", "content": text},), (), truth)


def portions(drawn: list[RecordedPrompt]) -> dict[str, str]:
    return {str(prompt.messages[-1]["content"]): prompt.portion for prompt in drawn}


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 400), min_size=4, max_size=120), st.integers(1, 99), st.integers(0, 4))
def test_twins_share_a_purpose_and_later_prompts_change_none(
    numbers: list[int], cut: int, labels: int
) -> None:
    texts = [
        f"{n * 7919} please tell me where parcel number {n * 104729} of customer {n} is" for n in numbers
    ]
    twins = [text.upper() for text in texts[::3]]
    truths = [f"label {len(text) % labels}" if labels else None for text in [*texts, *twins]]
    every = [asked(text, truth=truth) for text, truth in zip([*texts, *twins], truths, strict=True)]
    size = HoldOut(share=0.3, at_least=2)
    here = len(every) * cut // 100
    first = drawn_prompts(every[:here], [], size)
    later = drawn_prompts(every, first, size)
    assert later[: len(first)] == first
    assert len({prompt.id for prompt in later}) == len(later)
    found = portions(later)
    for text, twin in zip(texts[::3], twins, strict=True):
        assert found[text] == found[twin]


@settings(max_examples=25, deadline=None)
@given(st.permutations([(n, length) for n in range(12) for length in (1, 2, 3)]), st.integers(0, 36))
def test_a_conversation_s_prompts_share_a_purpose(order: list[tuple[int, int]], cut: int) -> None:
    def conversation(n: int, length: int) -> FoundPrompt:
        words = [f"{(n + 1) * 15485863 * (turn + 2)} {(n + 3) * 32452843 + turn * 7919}" for turn in range(3)]
        turns: list[dict[str, Any]] = []
        for word in words[:length]:
            turns += [{"role": "user", "content": word}, {"role": "assistant", "content": f"about {word}"}]
        return FoundPrompt("log", tuple(turns[:-1]))

    every = [conversation(n, length) for n, length in order]
    size = HoldOut(share=0.3, at_least=4)
    drawn = drawn_prompts(every[cut:], drawn_prompts(every[:cut], [], size) if cut else [], size)
    found = {prompt.id: prompt.portion for prompt in drawn}
    for n in range(12):
        assert len({found[conversation(n, length).id] for length in (1, 2, 3)}) == 1
    assert cut or set(found.values()) == {"train", "holdout"}


def test_holdout_comes_from_validation_first_and_has_its_size() -> None:
    rows = [asked(f"{n * 7919} {n * 104729} {n * 1299709}") for n in range(1000)]
    validation = [asked(f"v {n * 15485863} {n * 32452843}", "validation_file") for n in range(60)]
    drawn = drawn_prompts([*rows, *validation], [], HoldOut(share=0.1, at_least=20))
    held = [prompt for prompt in drawn if prompt.portion == "holdout"]
    assert len(held) == 106
    assert sum(prompt.origin == "validation_file" for prompt in held) == 60
    again = drawn_prompts([*rows, *validation], [], HoldOut(share=0.1, at_least=20))
    assert again == drawn


@pytest.mark.parametrize(
    ("share", "of", "held"),
    [
        (None, 300, 150),
        (None, 1000, 200),
        (None, 3000, 300),
        (0.1, 300, 30),
        (0.01, 300, 10),
        (0.5, 3000, 1500),
    ],
)
def test_share_that_is_asked_for_is_held_out_and_the_usual_otherwise(
    share: float | None, of: int, held: int
) -> None:
    rows = [asked(f"{n * 7919} {n * 104729} {n * 1299709}") for n in range(of)]
    drawn = drawn_prompts(rows, [], HoldOut.of(share))
    assert sum(prompt.portion == "holdout" for prompt in drawn) == held


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from("aaaaabbbcd"), min_size=40, max_size=160), st.integers(40, 100))
def test_holdout_has_its_share_of_every_label_however_the_prompts_arrive(labels: list[str], cut: int) -> None:
    rows = [
        asked(f"{n * 7919} {n * 104729} {n * 1299709}", truth=label) for n, label in enumerate(labels * 2)
    ]
    size = HoldOut(share=0.25, at_least=2)
    drawn = drawn_prompts(rows, [], size)
    held = Counter(prompt.truth for prompt in drawn if prompt.portion == "holdout")
    for label, count in Counter(row.truth for row in rows).items():
        assert abs(held[label] - 0.25 * count) <= 1.0
    first = drawn_prompts(rows[: len(rows) * cut // 100], [], size)
    later = drawn_prompts(rows, first, size)
    assert later[: len(first)] == first
    assert Counter(p.portion for p in later)["holdout"] <= round(0.25 * len(rows)) + 1


def test_rows_without_a_label_are_held_out_by_the_plain_rule() -> None:
    texts = [f"{n * 7919} {n * 104729} {n * 1299709}" for n in range(200)]
    plain = drawn_prompts([asked(text) for text in texts], [], HoldOut(share=0.2, at_least=2))
    open_text = drawn_prompts(
        [asked(text, truth=f"an answer of its own, {text}") for text in texts],
        [],
        HoldOut(share=0.2, at_least=2),
    )
    assert portions(plain) == portions(open_text)
    few = [asked(text, truth="ab"[n % 2] if n < 150 else None) for n, text in enumerate(texts)]
    some = drawn_prompts(few, [], HoldOut(share=0.2, at_least=2))
    assert Counter(p.truth for p in some if p.portion == "holdout") == {"a": 15, "b": 15, None: 10}


def test_owner_s_answer_that_comes_later_is_taken_up_and_moves_nothing() -> None:
    texts = [f"{n * 7919} {n * 104729} {n * 1299709}" for n in range(40)]
    first = drawn_prompts([asked(text, "log") for text in texts], [], HoldOut())
    later = drawn_prompts([asked(text, truth=f"on {text}") for text in texts], first, HoldOut())
    assert [(p.id, p.portion, p.origin) for p in later] == [(p.id, p.portion, p.origin) for p in first]
    assert all(p.truth == f"on {p.messages[0]['content']}" for p in later)
    assert drawn_prompts([asked(text, truth="another") for text in texts], later, HoldOut()) == later


def test_owner_s_answer_is_kept_wherever_the_prompt_was_found_first() -> None:
    drawn = drawn_prompts([asked("a b c d", "log"), asked("a b c d", truth="yes")], [], HoldOut())
    assert [prompt.truth for prompt in drawn] == ["yes"]
