"""A grader that asks a model, held against people: may a gate rest on it?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tunery.core.errors import ConfigError, NotFoundError
from tunery.core.example import Example, Message
from tunery.core.ids import canonical_json, sha256_text
from tunery.core.judging import ScorerModels
from tunery.evaluate.judges.config import UNJUDGED, JudgeConfig
from tunery.evaluate.readers.files import load
from tunery.graders.config import GRADER, asks_model, part_name
from tunery.graders.grade import grade, problems_of
from tunery.review.check import Agreed, JudgeCheck, kappa_of, keep_check
from tunery.store.workspace import Workspace

_CLASSES = ("passes", "fails")
_SHOWN = 20
_FORM = (
    'each row is an object with "answer", "passes" (true or false, as people say) and what the templates name'
)
_NOT_COLUMNS = frozenset({"answer", "passes", "messages", "prompt"})


class MarkedAnswer(NamedTuple):
    """An answer, and whether people let it pass."""

    answer: str
    row: Example
    passes: bool


def model_graders(graders: Iterable[Any], metric: str) -> list[Any]:
    """Return the graders behind a metric that ask a model: ``grader.NAME``'s own, of ``grader`` all."""
    head, _, part = metric.partition(".")
    if head != GRADER:
        return []
    return [one for one in graders if asks_model([one]) and part in ("", part_name(one.name))]


def grader_key(config: JudgeConfig, grader: Any) -> str:
    """Return what tells one grader from another: endpoint, sampling, and all that it is but its name."""
    own = grader.model_dump(mode="json", exclude={"name"})
    asked = config.model_dump(
        mode="json", include={"base_url", "temperature", "top_p", "max_tokens", "extra"}
    )
    return sha256_text(canonical_json([GRADER, asked, own]))[:16]


def read_marked(path: Path) -> list[MarkedAnswer]:
    """Read answers that people let pass or not.

    Raises:
        ConfigError: The file cannot be read, is empty, or has bad rows; lists them.
    """
    problems: list[str] = []
    found = []
    for number, value in load(path, problems):
        try:
            found.append(_marked(value, number))
        except (ValueError, KeyError, TypeError) as error:
            problems.append(f"row {number}: {error}")
    if problems or not found:
        raise ConfigError.of_problems(str(path), problems or ["holds no rows"], limit=_SHOWN, hint=_FORM)
    return found


def check_grader(
    workspace: Workspace, config: JudgeConfig, grader: Any, models: ScorerModels, rows: Sequence[MarkedAnswer]
) -> JudgeCheck:
    """Have a grader grade what people have judged, measure how far they agree, and keep the result.

    Raises:
        ConfigError: No row has what its templates name, there are fewer than two labels, or all are the same.
        TuneryError: The endpoint does not answer, or refuses.
    """
    if problems := problems_of([grader], [row.row for row in rows], models):
        raise ConfigError.of_problems("labels", problems)
    marks, _ = grade([grader], [(row.answer, row.row) for row in rows], models)
    own = [mark[part_name(grader.name)] for mark in marks]
    human = [_CLASSES[not row.passes] for row in rows]
    judged = [UNJUDGED if mark.score is None else _CLASSES[not mark.passes(grader)] for mark in own]
    classes = (*_CLASSES, *([UNJUDGED] if UNJUDGED in judged else []))
    agreed = Agreed(human, judged, classes, kappa_of(human, judged, classes, [r.row.id for r in rows]))
    who = {
        "judge": grader_key(config, grader),
        "kind": GRADER,
        "model": _model_of(grader),
        "host": config.host,
    }
    said = [[row.answer, row.passes, canonical_json(dict(row.row.metadata))] for row in rows]
    return keep_check(workspace, agreed, who, labels_sha256=sha256_text(canonical_json(said)))


def named_grader(graders: Sequence[Any], name: str) -> Any:
    """Return the grader of that name that asks a model.

    Raises:
        NotFoundError: There is none; lists those there are.
    """
    known = {part_name(grader.name): grader for grader in graders if asks_model([grader])}
    found = known.get(part_name(name))
    if found is None:
        raise NotFoundError.of("grader that asks a model", name, [*known], hint="see evaluate.graders")
    return found


def _model_of(grader: Any) -> str:
    inner = getattr(grader, "graders", {"": grader}).values()
    return ", ".join(dict.fromkeys(one.model for one in inner if hasattr(one, "model")))


def _marked(value: Any, number: int) -> MarkedAnswer:
    if not isinstance(value, Mapping):
        raise ValueError("not a JSON object")
    answer, passes = value.get("answer"), value.get("passes")
    if not isinstance(answer, str):
        raise ValueError(f'"answer" is {answer!r:.40}, not text')
    if not isinstance(passes, bool):
        raise ValueError(f'"passes" is {passes!r:.40}, not true or false')
    turns = value.get("messages") or [{"role": "user", "content": str(value.get("prompt", ""))}]
    asked = [Message(role=turn["role"], content=turn["content"]) for turn in turns]
    reference = Message(role="assistant", content=str(value.get("reference", "")))
    own = {key: column for key, column in value.items() if key not in _NOT_COLUMNS}
    identity = f"row {number}"
    return MarkedAnswer(
        answer, Example(id=identity, messages=(*asked, reference), group=identity, metadata=own), passes
    )
