"""Answers that are there already: found by id or by question, on the rows that have one."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from tests.unit.evaluate.scripted import example
from tunery.core.errors import ConfigError
from tunery.core.example import Example, Message
from tunery.evaluate.arms.answers import GivenAnswers
from tunery.evaluate.arms.config import AnswersArm, Arms, EndpointArm
from tunery.evaluate.config import EvaluateConfig
from tunery.evaluate.run import judged
from tunery.evaluate.task import make_task

TEST = [example(f"What is {i}?", f"answer {i}", system="Help.") for i in range(6)]
TASK = make_task(TEST, data="ds-1/test", config=EvaluateConfig(), main_metric="exact_match")


def given(folder: Path, *rows: dict[str, Any]) -> GivenAnswers:
    path = folder / "agents.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return GivenAnswers(path)


def test_answers_are_found_by_id_by_prompt_and_by_turns(tmp_path: Path) -> None:
    turns = [{"role": "system", "content": "x"}, {"role": "user", "content": "What is 2?"}]
    found = given(
        tmp_path,
        {"id": TEST[0].id, "answer": "answer 0"},
        {"prompt": "what is 1", "output": "answer 1"},
        {"messages": turns, "prediction": "wrong"},
    )
    assert [found.of(row) for row in TEST] == ["answer 0", "answer 1", "wrong", None, None, None]
    shared = found.shared(TASK)
    result = judged(shared, found.subject("agents"), found.completions(shared), started=time.monotonic())
    assert [p.correct for p in result.predictions] == [True, True, False]
    assert result.evaluation.arm == "answers"
    missing = found.missing(TASK.examples)
    assert missing is not None
    assert "no answer to 3 of 6 test rows" in missing
    assert found.missing(shared.examples) is None


def turn(text: str, role: str = "user") -> dict[str, str]:
    return {"role": role, "content": text}


def asked(*turns: dict[str, str]) -> Example:
    messages = [Message.model_validate(each) for each in (*turns, turn("?", "assistant"))]
    return example("x", "?").with_(messages=tuple(messages))


CARD = [turn("My card is lost."), turn("Shall I block it?", "assistant"), turn("Yes")]
ORDER = [turn("My order is late."), turn("Shall I cancel it?", "assistant"), turn("yes!")]


def test_conversations_that_end_alike_have_answers_of_their_own(tmp_path: Path) -> None:
    brief, polite = turn("Be brief.", "system"), turn("Be polite.", "system")
    found = given(
        tmp_path,
        {"messages": CARD, "answer": "blocked"},
        {"messages": ORDER, "answer": "cancelled"},
        {"messages": [brief, turn("Why?")], "answer": "so"},
        {"messages": [polite, turn("Why?")], "answer": "because, madam"},
        {"messages": [turn("Where is it")], "answer": "here"},
        {"messages": [turn("Where is it?")], "answer": "there"},
    )
    assert found.of(asked(*CARD)) == "blocked"
    assert found.of(asked(brief, *ORDER)) == "cancelled"  # a recipe may put a system turn before all
    assert found.of(asked(turn("Yes"))) is None  # whose yes that is, nobody knows
    assert given(tmp_path, {"messages": CARD, "answer": "blocked"}).of(asked(*ORDER)) is None
    assert given(tmp_path, {"messages": [turn("Yes")], "answer": "fine"}).of(asked(*ORDER)) is None
    assert given(tmp_path, {"prompt": "yes", "answer": "fine"}).of(asked(*ORDER)) == "fine"
    assert found.of(asked(brief, turn("Why?"))) == "so"
    assert found.of(asked(polite, turn("Why?"))) == "because, madam"
    assert found.of(asked(turn("Why?"))) is None
    bare = given(
        tmp_path,
        {"messages": [brief, turn("Why?")], "answer": "so"},
        {"messages": [turn("Why?")], "answer": "since"},
    )
    assert [bare.of(asked(*turns)) for turns in ([brief, turn("Why?")], [turn("Why?")])] == ["so", "since"]
    assert [found.of(asked(turn(text))) for text in ("Where is it", "Where is it?")] == ["here", "there"]
    with pytest.raises(ConfigError, match="row 2: another answer"):
        given(tmp_path, {"messages": CARD, "answer": "a"}, {"messages": CARD, "answer": "b"})


def test_all_bad_rows_are_listed_and_a_file_that_answers_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        given(tmp_path, {"answer": "x"}, {"id": 1}, {"id": "a", "answer": "x"}, {"id": "a", "answer": "y"})
    for row in ("row 1", "row 2", "row 4"):
        assert row in str(caught.value)
    with pytest.raises(ConfigError, match="answers none of 6 test rows"):
        given(tmp_path, {"id": "other", "answer": "x"}).shared(TASK)


class Section(BaseModel):
    """A section with arms."""

    arms: Arms = {}


def test_a_recipe_names_arms_of_both_kinds_and_none_by_a_name_that_is_taken() -> None:
    gpt = {"base_url": "https://example.com/v1", "model": "m"}
    found = Section.model_validate({"arms": {"gpt": gpt, "agents": {"answers": "a.jsonl"}}}).arms
    assert isinstance(found["gpt"], EndpointArm)
    assert isinstance(found["agents"], AnswersArm)
    assert Section.model_validate({"arms": found}).arms == found
    for name in ("tuned", "tfidf", "best_arm", "few_shot_gpt", "Großes"):
        with pytest.raises(ValueError, match="cannot name an arm"):
            Section.model_validate({"arms": {name: gpt}})
