"""Baselines get their best chance, and never a look at the test rows."""

from typing import Any

import pytest

from tests.unit.evaluate.scripted import CharTokenizer, example
from tunery.core.engine import Constraint
from tunery.core.errors import ConfigError
from tunery.core.example import Example, Message
from tunery.evaluate.config import BaselineConfig, EvaluateConfig
from tunery.evaluate.prompting import Prompting, Subject, baseline_subjects, draw_shots
from tunery.evaluate.task import make_task

LABELS = ("a", "b", "c")
SYSTEM = "Name the intent."
TOKENIZER = CharTokenizer()


def train(count: int = 30) -> list[Example]:
    return [example(f"train {i}", LABELS[i % 3], label=LABELS[i % 3], system=SYSTEM) for i in range(count)]


TEST = [example(f"test {i}", LABELS[i % 3], label=LABELS[i % 3], system=SYSTEM) for i in range(6)]


def subjects(
    main: str = "exact_match", schema: Any = None, labels: Any = LABELS, **settings: Any
) -> list[Subject]:
    config = EvaluateConfig(baseline=BaselineConfig(**settings), json_schema=schema)
    test = TEST if labels else [example("t", '{"total": 1}')]
    task = make_task(test, data="ds-1/test", config=config, main_metric=main, labels=labels)
    return list(baseline_subjects(task, train(), base="tiny", tokenizer=TOKENIZER))


def test_the_tuned_model_sees_what_training_showed_it() -> None:
    assert Prompting().conversation(TEST[0]) == TEST[0].prompt


def test_closed_sets_are_listed_after_the_datas_own_prompt() -> None:
    system, question = subjects()[0].prompting.conversation(TEST[0])
    assert system.content.startswith(SYSTEM + "\n\n")
    assert system.content.endswith("\n- a\n- b\n- c")
    assert question == TEST[0].prompt[-1]


def test_a_prompt_of_the_recipe_takes_the_place_of_all_that() -> None:
    found = subjects(system_prompt='Answer {"label": one of}\n{labels}')[0].prompting.conversation(TEST[0])
    assert found[0].content == 'Answer {"label": one of}\n- a\n- b\n- c'


def test_a_schema_is_shown_where_there_is_one() -> None:
    subject = subjects(schema={"type": "object"}, labels=None)[0]
    assert '{"type": "object"}' in subject.prompting.conversation(TEST[0])[0].content


def test_shots_are_turns_between_the_system_turn_and_the_question() -> None:
    few = next(s for s in subjects(shots=4) if s.name == "few_shot")
    turns = few.prompting.conversation(TEST[0])
    assert [t.role for t in turns] == ["system", *["user", "assistant"] * 4, "user"]
    for shot, user, assistant in zip(few.prompting.shots, turns[1::2], turns[2::2], strict=False):
        assert (user, assistant) == shot.messages[1:]


def test_without_any_system_prompt_there_is_no_system_turn() -> None:
    assert Prompting(shots=(TEST[1],)).conversation(example("q", "x"))[0].role == "user"


@pytest.mark.parametrize(("shots", "per_class"), [(3, 1), (6, 2), (9, 3)])
def test_shots_are_balanced_over_classes(shots: int, per_class: int) -> None:
    drawn = draw_shots(train(), TEST, settings=BaselineConfig(shots=shots), tokenizer=TOKENIZER)
    assert [sum(e.label == label for e in drawn) for label in LABELS] == [per_class] * 3


def test_shots_depend_on_the_seed_and_not_on_the_order_of_rows() -> None:
    def draw(rows: list[Example], seed: int) -> tuple[Example, ...]:
        return draw_shots(rows, TEST, settings=BaselineConfig(seed=seed), tokenizer=TOKENIZER)

    assert draw(train(), 0) == draw(train()[::-1], 0) != draw(train(), 1)


def test_shots_come_from_train_alone() -> None:
    drawn = draw_shots(train(), TEST, settings=BaselineConfig(shots=256), tokenizer=TOKENIZER)
    assert {e.id for e in drawn} == {e.id for e in train()}


def test_a_shot_of_a_test_rows_group_is_refused() -> None:
    leaking = [e.with_(group=TEST[0].group) for e in train()]
    with pytest.raises(ConfigError, match="would give the answer away"):
        draw_shots(leaking, TEST, settings=BaselineConfig(), tokenizer=TOKENIZER)


def test_shots_that_are_too_long_make_room_for_shorter_ones() -> None:
    rows = [*train(3), *[example("x" * 5000 + str(i), "a", label="a") for i in range(50)]]
    drawn = draw_shots(rows, TEST, settings=BaselineConfig(shots=8, max_shot_tokens=200), tokenizer=TOKENIZER)
    assert {e.id for e in drawn} == {e.id for e in rows[:3]}
    with pytest.raises(ConfigError, match="no train example fits"):
        draw_shots(rows[3:], TEST, settings=BaselineConfig(), tokenizer=TOKENIZER)


def test_few_shot_without_train_rows_says_how_to_go_on() -> None:
    with pytest.raises(ConfigError, match="few_shot=false"):
        draw_shots([], TEST, settings=BaselineConfig(), tokenizer=TOKENIZER)


def test_closed_sets_are_also_measured_under_constraint() -> None:
    found = {s.name: s.prompting.constraint for s in subjects()}
    held = Constraint(labels=LABELS)
    assert found == {
        "zero_shot": None,
        "zero_shot_constrained": held,
        "few_shot": None,
        "few_shot_constrained": held,
        "few_shot_retrieved": None,
        "few_shot_retrieved_constrained": held,
    }
    assert [s.name for s in subjects(constrained=False, few_shot=False)] == ["zero_shot"]


def test_json_is_constrained_by_its_schema_or_on_request() -> None:
    schema = {"type": "object", "required": ["total"]}
    assert subjects(schema=schema, labels=None)[1].prompting.constraint == Constraint(json_schema=schema)
    assert len(subjects(labels=None)) == 3
    held_to = subjects(labels=None, constrained=True)[1].prompting.constraint
    assert held_to == Constraint(json_schema={"type": "object"})


def test_perplexity_is_measured_once_a_prompt_unless_it_decides() -> None:
    assert [s.perplexity for s in subjects()] == [True, False] * 3
    assert not any(s.perplexity for s in subjects(perplexity=False))
    assert all(s.perplexity for s in subjects("perplexity", perplexity=False))


def test_demands_that_the_data_cannot_meet_are_refused() -> None:
    config = EvaluateConfig(baseline=BaselineConfig(constrained=True))
    task = make_task([example("q", "text")], data="d", config=config, main_metric="exact_match")
    with pytest.raises(ConfigError, match="constrained=auto"):
        baseline_subjects(task, train(), base="tiny", tokenizer=TOKENIZER)
    with pytest.raises(ConfigError, match="no closed label set"):
        subjects(labels=None, system_prompt="one of {labels}")


def test_earlier_turns_of_a_conversation_stay() -> None:
    turns = [
        Message(role="user", content="hi"),
        Message(role="assistant", content="hello"),
        Message(role="user", content="bye"),
        Message(role="assistant", content="bye!"),
    ]
    long = example("q", "x").with_(messages=tuple(turns))
    assert Prompting(instruction="Be kind.").conversation(long)[1:] == tuple(turns[:3])
