"""``tunery evaluate judge`` and ``judge-check``: a model's word on answers, and how far to believe it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunery.cli.output import answer, facts, table
from tunery.cli.parameters import ApiKeyEnv, Json, endpoint_settings
from tunery.cli.session import open_workspace

if TYPE_CHECKING:
    from tunery.cli.output import Part
    from tunery.core.evaluation import Metric
    from tunery.evaluate.config import EvaluateConfig
    from tunery.evaluate.judges.config import JudgeConfig
    from tunery.review.check import JudgeCheck
    from tunery.review.pairwise import JudgedComparison

Address = Annotated[
    str | None, typer.Option("--endpoint", metavar="URL", help="Address of the judge, as in https://…/v1.")
]
Model = Annotated[str | None, typer.Option("--model", metavar="NAME", help="The judging model.")]
Recipe = Annotated[
    Path | None, typer.Option("--recipe", metavar="RECIPE", help="Take evaluate.judge of this recipe.")
]
Further = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Settings of evaluate.judge, such as max_tokens=256."),
]


def judge_answers(  # noqa: PLR0913 - each is an option of its own
    ctx: typer.Context,
    a: Annotated[Path, typer.Argument(metavar="A.jsonl", help="Answers of the model to beat.")],
    b: Annotated[Path, typer.Argument(metavar="B.jsonl", help="Answers of the model to judge.")],
    *,
    endpoint: Address = None,
    model: Model = None,
    api_key_env: ApiKeyEnv = None,
    recipe: Recipe = None,
    settings: Further = None,
    as_json: Json = False,
) -> None:
    """Have a model compare two files of answers pair by pair, in both orders; positive means B is better.

    What was asked is read from either file ("prompt" or "messages"), else from the stored dataset versions.
    Where people judged some of the same pairs, the win rate is corrected for the judge's errors on them.
    """
    from tunery.cli.progress import terminal_progress
    from tunery.pipeline.stages.judge import judge_files

    config = _config(endpoint_settings(endpoint, model, api_key_env, None, None), recipe, settings or ())
    with open_workspace(ctx) as workspace:
        found = judge_files(workspace, config, a, b, terminal_progress())
    answer(found, lambda: judged_text(found, config.min_kappa), as_json=as_json)


def check_judge(  # noqa: PLR0913 - each is an option of its own
    ctx: typer.Context,
    labels: Annotated[
        Path, typer.Argument(metavar="LABELS", help="Pairs or answers that people judged, one row each.")
    ],
    *,
    endpoint: Address = None,
    model: Model = None,
    api_key_env: ApiKeyEnv = None,
    recipe: Recipe = None,
    grader: Annotated[
        str | None,
        typer.Option("--grader", metavar="NAME", help="Check this grader of the recipe, which asks a model."),
    ] = None,
    settings: Further = None,
    as_json: Json = False,
) -> None:
    """Measure how far a judge agrees with people, and keep it: a gate may rest on no other judge.

    Rows hold "prompt" (or "messages") and either "a", "b" and "preferred", or "chosen" and "rejected", or
    "answer" and "score" (1 to 5); preference files in any form that training reads do, too. With --grader
    they hold "answer", "passes" (true or false) and the columns that the grader's templates name.
    """
    from tunery.cli.progress import terminal_progress
    from tunery.pipeline.stages.judge import check_labels, check_marks

    config = _config(endpoint_settings(endpoint, model, api_key_env, None, None), recipe, settings or ())
    with open_workspace(ctx) as workspace:
        if grader is None:
            found = check_labels(workspace, config, labels, terminal_progress())
        else:
            evaluate = _evaluation(recipe).model_copy(update={"judge": config})
            found = check_marks(workspace, evaluate, grader, labels, terminal_progress())
    answer(found, lambda: check_text(found, config.min_kappa), as_json=as_json)


def _config(given: dict[str, Any], recipe: Path | None, settings: Sequence[str]) -> JudgeConfig:
    from tunery.core.config import apply_overrides
    from tunery.pipeline.recipe import load_recipe
    from tunery.pipeline.stages.judge import judge_settings

    own = None if recipe is None else load_recipe(recipe, ()).evaluate.judge
    return judge_settings(apply_overrides(given, settings), own)


def _evaluation(recipe: Path | None) -> EvaluateConfig:
    from tunery.core.errors import ConfigError
    from tunery.pipeline.recipe import load_recipe

    if recipe is None:
        raise ConfigError("--grader names a grader of a recipe, and there is none", hint="--recipe RECIPE")
    return load_recipe(recipe, ()).evaluate


def judged_text(found: JudgedComparison, least: float) -> Iterable[Part]:
    """Return a judged comparison as a person reads it."""
    from tunery.core.figures import count, metric_value, number, percent

    yield {
        "better": "B is better, as the judge sees it.",
        "worse": "B is worse, as the judge sees it.",
        "no difference shown": "No difference shown.",
    }[found.verdict]
    corrected = found.corrected
    yield facts(
        [
            ("A", f"{found.a}, preferred on {count(found.wins_a)}"),
            ("B", f"{found.b}, preferred on {count(found.wins_b)}"),
            ("ties", count(found.ties)),
            (
                "errors",
                f"{count(found.errors)} without a readable verdict, ties too" if found.errors else None,
            ),
            ("win rate of B", f"{_rate(found.win_rate)} by the judge alone"),
            (
                "corrected",
                "no: people judged none of these pairs" if corrected is None else _rate(found.metric),
            ),
            (
                "labels alone",
                None
                if corrected is None
                else f"{percent(corrected.labels_alone)} on {count(corrected.labelled)} pairs",
            ),
            ("position bias", f"{metric_value(found.position_bias)} of verdicts turn with the order"),
            ("rows", count(found.n)),
            ("judge", f"{found.model} ({found.judge})"),
            ("kappa", None if found.kappa is None else number(found.kappa)),
        ]
    )
    if found.kappa_ci95 is None:
        yield "warning: nobody has measured how far people agree with this judge: tunery evaluate judge-check"
    elif found.kappa_ci95[0] < least:
        yield f"warning: people agree with this judge too little (kappa from {number(found.kappa_ci95[0])})"


def check_text(check: JudgeCheck, least: float) -> Iterable[Part]:
    """Return a judge's check as a person reads it."""
    from tunery.core.figures import count, interval, metric_value, number, percent

    problem = check.problem(least)
    yield (
        "A gate may rest on this judge." if problem is None else f"No gate may rest on this judge: {problem}."
    )
    kappa = f"{number(check.kappa)} (95 % interval {interval(*check.kappa_ci95, share=False)})"
    accuracy = f"{percent(check.accuracy)} (95 % interval {interval(*check.accuracy_ci95, share=True)})"
    yield facts(
        [
            ("check", check.id),
            ("judge", f"{check.model} at {check.host} ({check.judge})"),
            ("kappa", kappa),
            ("accuracy", accuracy),
            (
                "position bias",
                None
                if check.position_bias is None
                else f"{metric_value(check.position_bias)} of verdicts turn with the order",
            ),
            ("errors", f"{count(check.errors)} without a readable verdict" if check.errors else None),
            ("rows", count(check.n)),
        ]
    )
    rows = [
        (
            one.name,
            count(one.support),
            "" if one.sensitivity is None else percent(one.sensitivity),
            "" if one.specificity is None else percent(one.specificity),
            ", ".join(f"{n} as {name}" for name, n in one.judged_as.items()),
        )
        for one in check.classes
    ]
    yield table(["people said", ">rows", ">sensitivity", ">specificity", "judged"], rows)


def _rate(metric: Metric) -> str:
    from tunery.core.figures import metric_interval, metric_value

    return f"{metric_value(metric)} (95 % interval {metric_interval(metric)})"
