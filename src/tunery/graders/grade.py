"""Grade answers by OpenAI's graders: every row gets a score or a reason why it has none."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

from tunery.core.example import Example, Message
from tunery.core.figures import listed_counts
from tunery.core.judging import AnswerForm, AsksMany, NoAnswer, ScorerModels
from tunery.graders.config import (
    LabelModel,
    Multi,
    PythonCode,
    ScoreModel,
    StringCheck,
    TextSimilarity,
    part_name,
)
from tunery.graders.formula import calculate
from tunery.graders.sandbox import Sandbox
from tunery.graders.similarity import similarity
from tunery.graders.template import NoValue, fill, has, item_of, places, sample_of
from tunery.text.answer import NotJson, read_json

Asking = ScoreModel | LabelModel
_SHOWN = 3
"""Reasons that a warning names [count]."""


class Row(NamedTuple):
    """An answer and the row that it answers, as graders see them."""

    sample: Mapping[str, Any]
    item: Mapping[str, Any]


class Mark(NamedTuple):
    """One grader's word on one answer."""

    score: float | None
    """As the grader gives it; None where it could not."""
    error: str | None = None

    def passes(self, grader: Any) -> bool:
        """Return whether the answer passes this grader."""
        if self.score is None:
            return False
        low, high = range_of(grader)
        threshold = getattr(grader, "pass_threshold", None)
        return self.score >= ((low + high) / 2 if threshold is None else threshold)

    def share(self, grader: Any) -> float:
        """Return the score as a share of the grader's range; 0 where there is none."""
        low, high = range_of(grader)
        return 0.0 if self.score is None else (self.score - low) / (high - low)


def range_of(grader: Any) -> tuple[float, float]:
    """Return the lowest and the highest score that a grader may give."""
    return getattr(grader, "range", (0.0, 1.0))


def grade(
    graders: Sequence[Any], rows: Sequence[tuple[str, Example]], models: ScorerModels
) -> tuple[list[dict[str, Mark]], list[str]]:
    """Grade answers by every grader.

    Args:
        graders: As the settings have them.
        rows: Each answer and its example.
        models: Whom model graders and cosine may ask.

    Returns:
        For each row the marks by the part of the grader's name, and warnings: what could not be graded, with
        the reasons, and the walls that Python graders lack.
    """
    seen = [Row(sample_of(answer), item_of(example)) for answer, example in rows]
    marks: list[dict[str, Mark]] = [{} for _ in rows]
    warnings = []
    for grader in graders:
        with ExitStack() as stack:
            ready = _Ready(models, stack)
            found = [_within(grader, mark) for mark in ready.grade(grader, seen)]
            warnings += [f"grader {grader.name}: {weak}" for weak in ready.weaknesses()]
        for row, mark in zip(marks, found, strict=True):
            row[part_name(grader.name)] = mark
        failed = Counter(mark.error for mark in found if mark.error is not None)
        if failed:
            warnings.append(
                f"grader {grader.name} failed on {sum(failed.values())} of {len(found)} answers, which score "
                f"0 ({listed_counts(failed, _SHOWN)})"
            )
    return marks, warnings


def grade_one(
    grader: Any, answer: str, item: Mapping[str, Any], models: ScorerModels
) -> tuple[Mark, dict[str, Mark]]:
    """Grade one answer, and return the mark with those of the graders within, by their names."""
    row = Row(sample_of(answer), item)
    with ExitStack() as stack:
        ready = _Ready(models, stack)
        if not isinstance(grader, Multi):
            return _within(grader, ready.grade(grader, [row])[0]), {}
        parts = {name: _within(one, ready.grade(one, [row])[0]) for name, one in grader.graders.items()}
    return _within(grader, _combined(grader, parts)), parts


def _within(grader: Any, mark: Mark) -> Mark:
    low, high = range_of(grader)
    if mark.score is None or low <= mark.score <= high:
        return mark
    return Mark(None, f"its score {mark.score:g} lies outside its range of {low:g} to {high:g}")


class _Ready:
    """Graders that need something opened; sandboxes are closed with the stack."""

    def __init__(self, models: ScorerModels, stack: ExitStack) -> None:
        self._models, self._stack = models, stack
        self._sandboxes: list[Sandbox] = []

    def weaknesses(self) -> Iterator[str]:
        """Yield what the sandboxes that were used could not keep out."""
        return (weak for weak in {sandbox.weak for sandbox in self._sandboxes} if weak is not None)

    def grade(self, grader: Any, rows: Sequence[Row]) -> list[Mark]:
        """Return a grader's mark on each row."""
        if isinstance(grader, Multi):
            inner = {name: self.grade(one, rows) for name, one in grader.graders.items()}
            return [_combined(grader, {n: marks[i] for n, marks in inner.items()}) for i in range(len(rows))]
        if isinstance(grader, PythonCode):
            sandbox = self._stack.enter_context(Sandbox(grader.source))
            self._sandboxes.append(sandbox)
            return [Mark(*sandbox.grade(row.sample, row.item)) for row in rows]
        if isinstance(grader, (ScoreModel, LabelModel)):
            return _asked(grader, rows, self._models)
        if isinstance(grader, StringCheck):
            return [_marked(partial(_check, grader, row)) for row in rows]
        return [_marked(partial(_likeness, grader, row, self._models)) for row in rows]


def _marked(work: Callable[[], float]) -> Mark:
    try:
        return Mark(work())
    except (NoValue, ValueError) as error:
        return Mark(None, str(error))


def _check(grader: StringCheck, row: Row) -> float:
    text, reference = fill(grader.input, *row), fill(grader.reference, *row)
    if grader.operation == "ilike":
        return float(reference.casefold() in text.casefold())
    if grader.operation == "like":
        return float(reference in text)
    return float((text == reference) == (grader.operation == "eq"))


def _likeness(grader: TextSimilarity, row: Row, models: ScorerModels) -> float:
    texts = fill(grader.input, *row), fill(grader.reference, *row)
    return similarity(grader.evaluation_metric, *texts, models.encoder)


def _combined(grader: Multi, marks: Mapping[str, Mark]) -> Mark:
    failed = [f"{name}: {mark.error}" for name, mark in marks.items() if mark.score is None]
    if failed:
        return Mark(None, "; ".join(failed))
    scores = {name: mark.score for name, mark in marks.items() if mark.score is not None}
    return _marked(lambda: calculate(grader.calculate_output, scores))


def _asked(grader: Asking, rows: Sequence[Row], models: ScorerModels) -> list[Mark]:
    """Put all rows to the grading model at once, and read each answer; one that is none is an error."""
    if models.named is None:
        return [Mark(None, "there is no endpoint to ask: set evaluate.judge.base_url and .model")] * len(rows)
    judge = models.named(grader.model, _sampling(grader))
    turns = [_turns(grader, row) for row in rows]
    asking: object = judge
    if isinstance(asking, AsksMany):
        asking.ask([one for one in turns if not isinstance(one, Mark)], _form(grader))
    return [one if isinstance(one, Mark) else _verdict(grader, judge, one) for one in turns]


def _verdict(grader: Asking, judge: Callable[[Sequence[Message]], str], turns: Sequence[Message]) -> Mark:
    try:
        text = judge(turns)
    except NoAnswer as none:
        return Mark(None, str(none))
    score = _read(grader, text)
    return Mark(score) if score is not None else Mark(None, f"{grader.model}'s answer is no {_sort(grader)}")


def _turns(grader: Asking, row: Row) -> list[Message] | Mark:
    wanted = (
        f"a number from {grader.range[0]:g} to {grader.range[1]:g}"
        if isinstance(grader, ScoreModel)
        else f"one of {json.dumps(grader.labels, ensure_ascii=False)}"
    )
    form = f'Answer with a JSON object {{"result": …}} and nothing else; result is {wanted}.'
    try:
        found = [
            Message(role="system" if turn.role == "developer" else turn.role, content=fill(turn.text, *row))
            for turn in grader.input
        ]
    except NoValue as error:
        return Mark(None, str(error))
    if found[-1].role == "user":
        return [*found[:-1], found[-1].with_(content=f"{found[-1].content}\n\n{form}")]
    return [*found, Message(role="user", content=form)]


def _form(grader: Asking) -> AnswerForm:
    result = (
        {"type": "number"} if isinstance(grader, ScoreModel) else {"type": "string", "enum": [*grader.labels]}
    )
    schema = {
        "type": "object",
        "properties": {"result": result},
        "required": ["result"],
        "additionalProperties": False,
    }
    return AnswerForm(schema, lambda text: _read(grader, text) is not None)


def _read(grader: Asking, text: str) -> float | None:
    """Return the score in a grading model's answer, None where it holds none."""
    try:
        value = read_json(text)
    except NotJson:
        value = text.strip()
    result = value.get("result") if isinstance(value, Mapping) else value
    if isinstance(grader, LabelModel):
        return float(result in grader.passing_labels) if result in grader.labels else None
    if isinstance(result, bool) or not isinstance(result, (int, float)) or not math.isfinite(result):
        return None
    return float(result) if grader.range[0] <= result <= grader.range[1] else None


def _sort(grader: Asking) -> str:
    return "number of its range" if isinstance(grader, ScoreModel) else "label of its list"


def _sampling(grader: Asking) -> dict[str, Any]:
    """Return the settings of the endpoint that a grader's own sampling changes."""
    params = grader.sampling_params
    if params is None:
        return {}
    given = {
        "temperature": params.temperature,
        "top_p": params.top_p,
        "max_tokens": params.max_completions_tokens,
    }
    extra = {"seed": params.seed, "reasoning_effort": params.reasoning_effort}
    extra = {key: value for key, value in extra.items() if value is not None}
    return {**{k: v for k, v in given.items() if v is not None}, **({"extra": extra} if extra else {})}


def problems_of(graders: Sequence[Any], examples: Sequence[Example], models: ScorerModels) -> list[str]:
    """Return what keeps graders from grading any of these rows, known before anything is asked."""
    items = [item_of(example) for example in examples]
    problems = []
    for grader in singles(graders):
        if isinstance(grader, (ScoreModel, LabelModel)) and models.named is None:
            problems.append(
                f"grader {grader.name} asks the model {grader.model}: set evaluate.judge.base_url and .model "
                "to an endpoint that has it"
            )
        if isinstance(grader, TextSimilarity) and grader.evaluation_metric == "cosine" and not models.encoder:
            problems.append(
                f"grader {grader.name}: cosine needs an embedding model, and this evaluation has none"
            )
        lacking = sorted({place for place in _places(grader) if not any(has(place, item) for item in items)})
        if lacking:
            problems.append(
                f"grader {grader.name}: no row has {', '.join(lacking)} (item has: {', '.join(items[0])}; "
                "sample has: output_text, output_json)"
            )
    return problems


def singles(graders: Sequence[Any]) -> Iterator[Any]:
    """Yield every grader that is none of several, those within others included."""
    for grader in graders:
        if isinstance(grader, Multi):
            yield from (
                one.model_copy(update={"name": f"{grader.name}, {name}"})
                for name, one in grader.graders.items()
            )
        else:
            yield grader


def _places(grader: Any) -> Iterator[str]:
    given = getattr(grader, "input", "")
    for template in (given,) if isinstance(given, str) else (turn.text for turn in given):
        yield from places(template)
    yield from places(getattr(grader, "reference", ""))
