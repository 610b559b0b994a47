"""``tunery evaluate benchmark``: published benchmarks, by lm-evaluation-harness's tasks."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunery.cli.output import answer, table
from tunery.cli.parameters import Json, Overrides, RecipePath
from tunery.cli.session import open_recipe

if TYPE_CHECKING:
    from tunery.cli.output import Part
    from tunery.pipeline.stages.benchmark import Compared


def run_benchmarks(  # noqa: PLR0913 - each is an option of its own
    ctx: typer.Context,
    recipe: RecipePath,
    overrides: Overrides = None,
    *,
    model: Annotated[
        str, typer.Option("--model", metavar="NAME@N", help="A model version, or 'base' for the base alone.")
    ],
    tasks: Annotated[
        str,
        typer.Option(
            "--tasks", metavar="TASK,…", help="Samples in the package, files in --data, or the hub."
        ),
    ],
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="FOLDER", help="Published files: FOLDER/mmlu, /hellaswag, /gsm8k."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="First items of a task; of MMLU of each subject.")
    ] = None,
    chat: Annotated[
        bool, typer.Option("--chat", help="Write prompts as a user's turn by the chat template.")
    ] = False,
    predictions: Annotated[
        Path | None,
        typer.Option("--predictions", metavar="FOLDER", help="Write each task's items to FOLDER/TASK.jsonl."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Run benchmarks on a model version, beside its base item by item, or on the base.

    mmlu_sample, hellaswag_sample and gsm8k_sample run offline. Needs the extra 'benchmarks'.
    """
    from tunery.benchmarks.config import BenchmarkConfig
    from tunery.evaluate.predictions import write_predictions
    from tunery.pipeline.stages.benchmark import benchmark_model

    wanted = [
        BenchmarkConfig(
            task=name, data=None if data is None else str(data.absolute()), limit=limit, chat=chat
        )
        for name in dict.fromkeys(part.strip() for part in tasks.split(",") if part.strip())
    ]
    with open_recipe(ctx, recipe, overrides) as context:
        found = benchmark_model(context, model, wanted)
    for benchmark, one in zip(wanted, found, strict=True):
        if predictions is not None:
            write_predictions(predictions / f"{benchmark.task}.jsonl", one.result.predictions)
    names = [benchmark.task for benchmark in wanted]
    answer(
        [_object(name, one) for name, one in zip(names, found, strict=True)],
        lambda: _text(names, found),
        as_json=as_json,
    )


def _object(name: str, one: Compared) -> dict[str, Any]:
    evaluation, beside = one.result.evaluation, one.beside
    return {
        "task": name,
        **evaluation.main_numbers,
        "evaluation": evaluation.model_dump(mode="json"),
        "base": beside.base.model_dump(mode="json") if beside else None,
        "comparisons": [c.model_dump(mode="json") for c in beside.comparisons] if beside else [],
    }


def _text(names: list[str], found: list[Compared]) -> Iterable[Part]:
    from tunery.core.figures import (
        change,
        change_interval,
        count,
        is_rate,
        metric_interval,
        metric_value,
        p_value,
    )

    rows = []
    for name, one in zip(names, found, strict=True):
        compared = {c.metric: c for c in one.beside.comparisons} if one.beside else {}
        for metric in one.result.evaluation.metrics.values():
            numbers = (name, metric.title, metric_value(metric), metric_interval(metric), count(metric.n))
            beside = compared.get(metric.name)
            share = is_rate(metric)
            against = (
                f"{change(beside.difference, share=share)} ({change_interval(*beside.ci95, share=share)}), "
                f"{p_value(beside.p_value)}"
                if beside
                else ""
            )
            rows.append((*numbers, against))
    yield table(["task", "metric", ">value", ">95 % interval", ">n", "against the base"], rows)
    for name, one in zip(names, found, strict=True):
        for warning in one.result.evaluation.warnings:
            yield f"warning: {name}: {warning}"
