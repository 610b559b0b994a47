"""Answers that teach nothing, and good ones that look a little like them."""

from __future__ import annotations

import pytest

from tests.unit.inspect.detectors.rows import clean, columns, one
from tunery.inspect.detectors import bad_answers


def kinds(answer: str, prompt: str = "What about my order?") -> list[str]:
    prompts, answers = clean(100)
    prompts[0], answers[0] = prompt, answer
    return [f.kind for f in bad_answers.find(columns(prompts, answers))]


@pytest.mark.parametrize(
    "answer",
    [
        "I'm sorry, but I cannot assist with that.",
        "I am really sorry, I can’t help you there.",
        "As an AI language model, I cannot give legal advice.",
        "Unfortunately, I am not able to do that for you.",
        "I must decline this request.",
    ],
)
def test_refusals(answer: str):
    assert kinds(answer) == ["refusal"]


@pytest.mark.parametrize(
    "answer",
    [
        "I'm sorry that your parcel is late. It will arrive on Monday.",
        "You can't change the address of a parcel that has been sent.",
        "Sorry for the trouble! Please restart the app and sign in again.",
        "The poet cannot help but love the sea, as the last line says.",
        "Our AI team wrote the model of the car that you ordered.",
        "Please open the settings, then choose one of:\n- Privacy\n- Payments and cards",
        "Use this:\n```\nprint(1)\n```",
        "It costs 5 € (about £4)",
        "Very, very, very, very good news: your parcel is here, we have your parcel at the door.",
        "No",
    ],
)
def test_good_answers_are_left_alone(answer: str):
    assert kinds(answer) == []


@pytest.mark.parametrize(
    "answer",
    [
        "You can change the address of your parcel on the orders page. Then we send the",
        "Please have your order number at hand when you call us, because",
        "Use this:\n```python\nprint(1)\n",
        "Sign in first. After that you open the page of your orders and you will see that our team",
    ],
)
def test_answers_that_end_before_their_end(answer: str):
    assert kinds(answer) == ["cut_off"]


def test_json_that_is_not_closed_among_json_that_is():
    prompts, _ = clean(60)
    answers = [f'{{"name": "n{i}", "items": [1, 2, {{"k": "a }} b"}}]}}' for i in range(60)]
    answers[5] = answers[5][:-4]

    assert one(bad_answers.find(columns(prompts, answers)), "cut_off").rows == ("ex-5",)


def test_where_most_answers_lack_an_end_none_is_called_cut_off():
    prompts, answers = clean(60)
    answers = [a.rstrip(".") if i % 2 else a for i, a in enumerate(answers)]

    assert list(bad_answers.find(columns(prompts, answers))) == []


@pytest.mark.parametrize("cycle", ["no ", "please wait ", "the order is on the way to you and "])
def test_loops(cycle: str):
    assert "loop" in kinds("We looked at it. " + cycle * 15)


def test_refusals_in_a_dataset_of_refusals_are_meant():
    prompts, answers = clean(60)
    answers = ["I can't help with that." if i % 2 else a for i, a in enumerate(answers)]

    assert one(bad_answers.find(columns(prompts, answers)), "refusal").severity == "low"


def test_an_answer_without_the_last_line_of_all_others_is_cut_off():
    prompts, answers = clean(60)
    answers = [f"{a}\n#### {10 - i}" for i, a in enumerate(answers)]
    answers[5] = answers[5].split("\n")[0]

    assert one(bad_answers.find(columns(prompts, answers)), "cut_off").rows == ("ex-5",)
