"""Prompts for an old model: read from every form of row, each drawn once, twins for the same purpose."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunery.pipeline.rescue.prompts import FoundPrompt, HoldOut, drawn_prompts, prompt_of
from tunery.rescue.records import RecordedPrompt

USER = {"role": "user", "content": "Where is my card?"}


@pytest.mark.parametrize(
    ("row", "truth"),
    [
        ({"messages": [USER, {"role": "assistant", "content": "card_arrival", "weight": 1}]}, "card_arrival"),
        ({"messages": [USER]}, None),
        ({"messages": [USER], "answer": "card_arrival"}, "card_arrival"),
        ({"prompt": "Where is my card?", "completion": "card_arrival"}, "card_arrival"),
        ({"question": "Where is my card?", "answer": "card_arrival"}, "card_arrival"),
        (
            {
                "input": {"messages": [USER]},
                "preferred_output": [{"role": "assistant", "content": "card_arrival"}],
                "non_preferred_output": [{"role": "assistant", "content": "no"}],
            },
            "card_arrival",
        ),
    ],
)
def test_every_form_of_row_asks_the_same(row: dict[str, Any], truth: str | None) -> None:
    asked = prompt_of(row, "log")
    assert asked is not None
    assert (list(asked.messages), asked.truth) == ([USER], truth)
    assert asked.id == FoundPrompt("training_file", (USER,)).id


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"messages": []},
        {"messages": [{"role": "system", "content": "x"}]},
        {"messages": ["x"]},
        {"prompt": ""},
    ],
)
def test_row_that_asks_nothing_is_none(row: dict[str, Any]) -> None:
    assert prompt_of(row, "log") is None


def test_tools_and_system_turn_make_another_prompt() -> None:
    system = {"role": "system", "content": "Be brief."}
    ids = {
        FoundPrompt("log", (USER,)).id,
        FoundPrompt("log", (system, USER)).id,
        FoundPrompt("log", (USER,), ({"type": "function"},)).id,
    }
    assert len(ids) == 3


def asked(text: str, origin: str = "training_file", truth: str | None = None) -> FoundPrompt:
    return FoundPrompt(origin, ({"role": "user", "content": text},), (), truth)


def portions(drawn: list[RecordedPrompt]) -> dict[str, str]:
    return {str(prompt.messages[-1]["content"]): prompt.portion for prompt in drawn}


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 400), min_size=4, max_size=120), st.integers(1, 99))
def test_twins_share_a_purpose_and_later_prompts_change_none(numbers: list[int], cut: int) -> None:
    texts = [
        f"{n * 7919} please tell me where parcel number {n * 104729} of customer {n} is" for n in numbers
    ]
    twins = [text.upper() for text in texts[::3]]
    every = [asked(text) for text in [*texts, *twins]]
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


def test_owner_s_answer_is_kept_wherever_the_prompt_was_found_first() -> None:
    drawn = drawn_prompts([asked("a b c d", "log"), asked("a b c d", truth="yes")], [], HoldOut())
    assert [prompt.truth for prompt in drawn] == ["yes"]
