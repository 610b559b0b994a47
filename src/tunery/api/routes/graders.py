"""Graders: whether one can grade, and what it says of one answer."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter
from pydantic import BaseModel, Field, StringConstraints

from tunery.api.json_route import JsonRoute
from tunery.core.config import Settings, parse_settings
from tunery.core.errors import ConfigError
from tunery.core.judging import NO_MODELS
from tunery.graders.config import Grader, asks_model, is_cosine
from tunery.graders.grade import Mark, grade_one, singles
from tunery.graders.sandbox import missing_walls
from tunery.graders.template import NoValue, fill, sample_of
from tunery.serve.openai.wire import Text, Wire

router = APIRouter(prefix="/fine_tuning/alpha/graders", route_class=JsonRoute)
_MOST = 16_384
"""Characters of a grader, of an answer and of an item at most [count]."""
_MOST_COMPARED = 8_000
"""Characters of a text whose likeness is measured at most; some measures take its square [count]."""
_GRADING = anyio.CapacityLimiter(2)
"""Answers graded at once [count]; others wait."""
_ERRORS = (
    "formula_parse_error",
    "sample_parse_error",
    "truncated_observation_error",
    "unresponsive_reward_error",
    "invalid_variable_error",
    "other_error",
    "python_grader_server_error",
    "python_grader_runtime_error",
    "model_grader_server_error",
    "model_grader_refusal_error",
    "model_grader_parse_error",
)
"""What OpenAI tells apart."""


class _One(Settings):
    grader: Grader
    """One of any type."""


class ValidateBody(Wire):
    """``POST …/validate``."""

    grader: dict[str, Any]


class RunBody(ValidateBody):
    """``POST …/run``."""

    model_sample: Annotated[Text, StringConstraints(max_length=_MOST)]
    item: dict[str, Any] = Field(default_factory=dict)


@router.post("/validate")
def validate_grader(body: ValidateBody) -> dict[str, Any]:
    """Say whether a grader is one: its fields, its formula, its code."""
    return {"grader": _shown(_grader_of(body.grader))}


@router.post("/run")
async def run_grader(body: RunBody) -> dict[str, Any]:
    """Grade one answer; graders that ask a model or need embeddings are not run here."""
    grader = await anyio.to_thread.run_sync(_runnable, body, limiter=_GRADING)
    began = time.monotonic()
    work = partial(grade_one, grader, body.model_sample, body.item, NO_MODELS)
    mark, parts = await anyio.to_thread.run_sync(work, limiter=_GRADING)
    return _run_object(grader, mark, parts, time.monotonic() - began)


def _grader_of(given: Mapping[str, Any]) -> Any:
    if len(json.dumps(given)) > _MOST:
        raise ConfigError(f"the grader has more than {_MOST:,} characters", param="grader")
    try:
        return parse_settings(_One, {"grader": given}, where="grader").grader
    except ConfigError as error:
        raise ConfigError(error.message, hint=error.hint, param="grader") from None


def _runnable(body: RunBody) -> Any:
    """Return the grader of a request that this server can run, in bounded time.

    Raises:
        ConfigError: It cannot; says why.
    """
    grader = _grader_of(body.grader)
    if len(json.dumps(body.item)) > _MOST:
        raise ConfigError(f"item has more than {_MOST:,} characters", param="item")
    if asks_model([grader]) or is_cosine(grader):
        raise ConfigError(
            "graders that ask a model or need embeddings are not run here",
            hint="evaluate.graders of a recipe, which names the endpoint to ask",
            param="grader",
        )
    each = list(singles([grader]))
    weak = missing_walls() if any(one.type == "python" for one in each) else None
    if weak is not None:
        raise ConfigError(f"Python graders are not run here: {weak}", param="grader")
    sample = sample_of(body.model_sample)
    if any(len(text) > _MOST_COMPARED for text in _compared(each, sample, body.item)):
        raise ConfigError(
            f"texts of more than {_MOST_COMPARED:,} characters are not compared here", param="grader"
        )
    return grader


def _compared(graders: list[Any], sample: Mapping[str, Any], item: Mapping[str, Any]) -> Iterator[str]:
    for grader in graders:
        for template in (getattr(grader, "input", None), getattr(grader, "reference", None)):
            if isinstance(template, str):
                try:
                    yield fill(template, sample, item)
                except NoValue:
                    continue  # which grading says


def _run_object(grader: Any, mark: Mark, parts: Mapping[str, Mark], seconds: float) -> dict[str, Any]:
    failed = {one.type for one, m in _marks(grader, mark, parts) if m.error is not None}
    errors: dict[str, Any] = dict.fromkeys(_ERRORS, False)
    if mark.error is not None:
        kind = "python_grader_runtime_error" if "python" in failed else "other_error"
        errors |= {kind: True, "invalid_variable_error": mark.error.startswith("there is no ")}
    details = mark.error if errors["python_grader_runtime_error"] else None
    scores = {name: m.score for name, m in parts.items()}
    return {
        "reward": mark.score or 0.0,
        "sub_rewards": scores,
        "metadata": {
            "name": grader.name,
            "type": grader.type,
            "scores": scores or {grader.name: mark.score},
            "execution_time": seconds,
            "token_usage": None,
            "sampled_model_name": None,
            "errors": {
                **errors,
                "python_grader_runtime_error_details": details,
                "python_grader_server_error_type": None,
                "model_grader_server_error_details": None,
                "other_error_details": None if details else mark.error,
            },
        },
        "model_grader_token_usage_per_model": {},
    }


def _marks(grader: Any, mark: Mark, parts: Mapping[str, Mark]) -> Iterator[tuple[Any, Mark]]:
    yield grader, mark
    yield from ((grader.graders[name], one) for name, one in parts.items())


def _shown(grader: BaseModel) -> dict[str, Any]:
    return grader.model_dump(mode="json", exclude_none=True)
