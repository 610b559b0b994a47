"""Which rows a model had seen: the same prompt, or nearly, and never one that differs in what matters."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from tunery.core.evaluation import Evaluation, Prediction
from tunery.core.example import Example, Message
from tunery.core.figures import contamination_sentence
from tunery.core.progress import Silent
from tunery.evaluate.metrics import mean_metric
from tunery.evaluate.run import EvaluationResult
from tunery.evaluate.task import make_task
from tunery.pipeline.context import RunContext
from tunery.pipeline.recipe import parse_recipe
from tunery.pipeline.stages.contamination import Seen, known_rows
from tunery.pipeline.stages.data import make_dataset, split_of
from tunery.store.workspace import Workspace
from tunery.text.minhash import close_to
from tunery.text.sameness import words_alone

LONG = (
    "My card was charged twice for the same coffee on Saturday morning, and the second charge has not gone "
    "away although I was told that it would be gone within three working days; what should I do about it now?"
)


def row(identity: str, *asked: str, answer: str = "x") -> Example:
    roles = ("user", "assistant") * len(asked)
    turns = [Message(role=role, content=text) for role, text in zip(roles, asked, strict=False)]  # type: ignore[arg-type]
    return Example(id=identity, group=identity, messages=(*turns, Message(role="assistant", content=answer)))


def with_system(example: Example, system: str) -> Example:
    return example.with_(messages=(Message(role="system", content=system), *example.messages))


TRAIN = [
    with_system(row("t1", "Where is my card?"), "Name the intent."),
    row("t2", LONG),
    row("t3", "Add 2 and 3"),
]


@pytest.mark.parametrize(
    ("asked", "kind"),
    [
        (("Where is my card?",), "exact"),
        (("where is  my card",), "exact"),
        (("Where is my cat?",), None),
        ((LONG.replace("Saturday", "Sunday"),), "near"),
        ((LONG + " Please.",), "near"),
        ((LONG.replace("three", "3"),), None),
        ((" ".join(reversed(LONG.split())),), None),
        (("Add 2 and 4",), None),
        (("Add 2 and -3",), None),
        (("Hello", "Hi, what is it?", "Where is my card?"), None),
    ],
)
def test_a_row_is_known_by_its_prompt(asked: tuple[str, ...], kind: str | None) -> None:
    found = known_rows(
        [row("r", *asked, answer="another answer"), row("other", "What time is it?")], TRAIN, 0.9
    )
    assert (found.exact, found.near) == (("r",) if kind == "exact" else (), ("r",) if kind == "near" else ())


def test_near_is_what_the_threshold_says() -> None:
    changed = [row("r", LONG.replace("Saturday morning", "a Sunday"))]
    assert known_rows(changed, TRAIN, 0.95).near == ()
    assert known_rows(changed, TRAIN, 0.7).near == ("r",)


def test_nothing_is_known_of_nothing() -> None:
    assert known_rows([], TRAIN, 0.9) == known_rows([row("r", "Hi")], [], 0.9) == ((), ())


def test_close_texts_are_those_that_comparing_each_with_each_finds() -> None:
    rng = random.Random(4)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(rng.choices(letters, k=rng.randint(3, 9))) for _ in range(400)]
    known = [" ".join(rng.choices(words, k=25)) for _ in range(300)]
    texts = []
    for text in rng.sample(known, 60):
        spoiled = text.split()
        for place in rng.sample(range(25), rng.randint(0, 3)):
            spoiled[place] = rng.choice(words)
        texts.append(" ".join(spoiled))
    texts += [" ".join(rng.choices(words, k=25)) for _ in range(60)]
    threshold = 0.75

    def shingles(text: str) -> set[str]:
        return {text[i : i + 4] for i in range(len(text) - 3)}

    found = close_to([words_alone(k) for k in known], [words_alone(t) for t in texts], threshold)
    pairs = {(a, b): s for a, b, s in zip(*(column.tolist() for column in found), strict=True)}
    sets, others = [shingles(k) for k in known], [shingles(t) for t in texts]
    wanted = {
        (i, j): len(a & b) / len(a | b)
        for i, a in enumerate(sets)
        for j, b in enumerate(others)
        if len(a & b) / len(a | b) >= threshold
    }
    clear = {pair for pair, similarity in wanted.items() if similarity >= threshold + 0.03}
    assert len(clear) >= 30
    assert clear <= pairs.keys(), "1 in 10,000 at 0.8 may be missed"
    assert all(wanted.get(pair, 0) >= threshold - 0.03 or pair in wanted for pair in pairs)


@pytest.mark.parametrize(
    ("config", "where", "known"),
    [
        ({"prompt": {"shots": []}}, None, 0),
        ({"prompt": {"shots": ["first"]}}, "the solved examples of its prompt", 1),
        ({"prompt": {"shots": [], "retrieved": {"by": "words"}}}, "the solved examples chosen for them", 1),
        (
            {"prompt": {"shots": []}, "engine": {"arm": "tfidf", "train": "rows-1"}},
            "which it answers from",
            2,
        ),
    ],
)
def test_what_answers_by_train_rows_has_seen_them(
    tmp_path: Path,
    tiny_model: Path,
    workspace: Workspace,
    config: dict[str, Any],
    where: str | None,
    known: int,
) -> None:
    rows = "".join(f"question number {i},answer {i % 3}\n" for i in range(12))
    (tmp_path / "rows.csv").write_text(f"text,answer\n{rows}", encoding="utf-8")
    columns = {"input": "text", "output": "answer"}
    recipe = {
        "name": "seen",
        "goal": {"metric": "exact_match"},
        "base": str(tiny_model),
        "data": {
            "sources": [{"path": "rows.csv", "columns": columns}],
            "split": {"test": 4, "validation": 0},
            "clean": {"near_duplicates": "group", "group_threshold": 1.0, "near_threshold": 1.0},
        },
    }
    context = RunContext(parse_recipe(recipe, where="test"), workspace, tmp_path, Silent())
    dataset = make_dataset(context)
    train, test = split_of(context, dataset, "train"), split_of(context, dataset, "test")
    rows_asked = [*train[:2], *test]
    task = make_task(
        rows_asked, data=f"{dataset.id}/test", config=context.recipe.evaluate, main_metric="exact_match"
    )
    answers = tuple(
        Prediction(
            id=e.id,
            prediction=said,
            reference=e.reference,
            correct=right,
            scores={"exact_match": right},
            # Two rows of the train split were asked, and the first of them was shown before every question.
            shots=(train[0].id,) if "retrieved" in config["prompt"] else (),
        )
        for i, e in enumerate(rows_asked)
        for said, right in [(e.reference, True) if i < 2 else ("?", False)]
    )
    value = mean_metric("exact_match", [p.scores["exact_match"] for p in answers])
    shots = [train[0].id for _ in config["prompt"]["shots"]]
    evaluation = Evaluation(
        id="eval-1",
        subject="few_shot",
        base="tiny",
        adapter=None,
        data=task.data,
        main_metric="exact_match",
        metrics={"exact_match": value},
        config={**config, "prompt": {**config["prompt"], "shots": shots}},
        created_at=workspace.clock.now(),
        seconds=0,
    )
    found = Seen(context).in_result(task, EvaluationResult(evaluation, answers))
    assert len(found) == (where is not None)
    for one in found:
        assert where is not None
        assert where in one.where
        assert (one.exact, one.ids) == (known, tuple(e.id for e in train[:known]))
        assert one.metric == value
        assert one.without is not None
        assert (one.without.value, one.without.n) == ((2 - known) / (6 - known), 6 - known)
        assert contamination_sentence(one).startswith(f"Few-shot prompting: {known} of 6 rows stand in the")
    lacking = evaluation.with_(metrics={})
    for one in Seen(context).in_result(task, EvaluationResult(lacking, answers)):
        assert one.metric is None
        assert contamination_sentence(one).endswith(")")
