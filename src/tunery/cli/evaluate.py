"""``tunery evaluate``: one model on one set of rows, and two sets of answers against each other."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunery.cli.evaluate_benchmark import run_benchmarks
from tunery.cli.evaluate_judge import check_judge, judge_answers
from tunery.cli.evaluate_review import app as review
from tunery.cli.output import answer, answer_table, facts, table
from tunery.cli.parameters import Json, Limit, Overrides, RecipePath
from tunery.cli.session import open_recipe, open_workspace

if TYPE_CHECKING:
    from tunery.cli.output import Part
    from tunery.core.evaluation import Calibration, Comparison, Evaluation, Slice
    from tunery.core.run import Run
    from tunery.pipeline.stages.arms import AskedAgain
    from tunery.report.paired import PartRow
    from tunery.store.workspace import Workspace

app = typer.Typer(no_args_is_help=True, help="Evaluations: measure a model, compare two sets of answers.")
_SHOWN = 10


@app.command("run")
def evaluate_run(  # noqa: PLR0913 - each is an option of its own
    ctx: typer.Context,
    recipe: RecipePath,
    overrides: Overrides = None,
    *,
    model: Annotated[
        str,
        typer.Option("--model", metavar="NAME@N", help="A model version, or 'base' for the base prompted."),
    ],
    test: Annotated[
        Path | None, typer.Option("--test", metavar="FILE", help="Rows to use; else the recipe's test split.")
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option("--predictions", metavar="OUT.jsonl", help="Write one row per example to this file."),
    ] = None,
    graders: Annotated[
        Path | None,
        typer.Option(
            "--graders", metavar="FILE", help="OpenAI's graders, or an eval's object with testing_criteria."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Evaluate a model version, or the base, on any file with the recipe's mapping."""
    from tunery.core.figures import contamination_sentence
    from tunery.evaluate.predictions import write_predictions
    from tunery.graders.config import read_graders
    from tunery.pipeline.stages.evaluate_file import evaluate_model

    if graders is not None:
        overrides = [*(overrides or ()), f"evaluate.graders={json.dumps(read_graders(graders))}"]
    with (
        open_recipe(ctx, recipe, overrides) as context,
        context.progress.task(f"evaluating {model}", None),
    ):
        result = evaluate_model(context, model, test=test)
        if predictions is not None:
            write_predictions(predictions, result.predictions)
    answer(
        {
            **evaluation_object(result.evaluation),
            "contaminated": result.contaminated,
            "predictions": predictions,
        },
        lambda: [
            *evaluation_text(result.evaluation),
            *(f"warning: {contamination_sentence(found)}" for found in result.contaminated),
            *([f"answers: {predictions}"] if predictions else []),
        ],
        as_json=as_json,
    )


@app.command("compare")
def compare_answers(
    a: Annotated[Path, typer.Argument(metavar="A", help="Answers of the model to beat.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Answers of the model to judge.")],
    *,
    metric: Annotated[
        str, typer.Option("--metric", help="A score that both files have, or a scorer; else what is right.")
    ] = "correct",
    as_json: Json = False,
) -> None:
    """Compare two files of answers, from any system, on the examples both have; positive means B is better.

    JSON lines, CSV, TSV or Parquet with the columns 'id' and 'correct', or 'prediction' and 'reference', or
    'score' (other common names are known); samples of lm-evaluation-harness; Inspect's JSON log; output items
    of OpenAI's evals; promptfoo's JSON.
    """
    from tunery.evaluate.comparison import compare_files

    compared = compare_files(a, b, metric=metric)
    answer(compared, lambda: comparison_text(compared), as_json=as_json)


app.command("benchmark")(run_benchmarks)
app.command("judge")(judge_answers)
app.command("judge-check")(check_judge)
app.add_typer(review, name="review")


@app.command("ls")
def list_evaluations(ctx: typer.Context, *, limit: Limit = 50, as_json: Json = False) -> None:
    """List evaluations, newest first."""
    from tunery.core.figures import count, metric_interval, metric_value

    with open_workspace(ctx) as workspace:
        found = workspace.evaluations.list(limit=limit)
    rows = [
        (
            e.id,
            e.subject,
            e.main.title,
            metric_value(e.main),
            metric_interval(e.main),
            count(e.main.n),
        )
        for e in found
    ]
    columns = ["evaluation", "subject", "metric", ">value", ">95 % interval", ">n"]
    answer_table([evaluation_object(e) for e in found], columns, rows, as_json=as_json)


@app.command("show")
def show_evaluation(
    ctx: typer.Context, evaluation_id: Annotated[str, typer.Argument(metavar="ID")], *, as_json: Json = False
) -> None:
    """Show one evaluation: every metric, slices, the weakest classes, the worst confusions."""
    from tunery.pipeline.stages.report import slices_of

    with open_workspace(ctx) as workspace:
        found = workspace.evaluations.get(evaluation_id)
        slices = slices_of(workspace, found)
    shown = evaluation_object(found) | {"slices": [part.model_dump(mode="json") for part in slices]}
    answer(shown, lambda: [*evaluation_text(found), *slices_text(slices)], as_json=as_json)


@app.command("checkpoints")
def evaluate_checkpoints(
    ctx: typer.Context, recipe: RecipePath, overrides: Overrides = None, *, as_json: Json = False
) -> None:
    """Evaluate every kept checkpoint of a recipe's training on the validation split, never on the test split.

    With train.keep_checkpoints their adapters stay with the one that was made; a run does this by itself.
    """
    from tunery.pipeline.stages.checkpoints import checkpoints_of_recipe, checkpoints_sentence
    from tunery.report.paired import checkpoint_rows

    with open_recipe(ctx, recipe, overrides) as context, context.progress.task("checkpoints", None):
        found = checkpoints_of_recipe(context)
    answer(
        [one.model_dump(mode="json") for one in found],
        lambda: [
            parts_table("step", checkpoint_rows(found)),
            checkpoints_sentence(found) or "",
        ],
        as_json=as_json,
    )


@app.command("resume")
def resume_arms(
    ctx: typer.Context, recipe: RecipePath, overrides: Overrides = None, *, as_json: Json = False
) -> None:
    """Ask endpoints again for the rows that ended as errors, and for no others.

    The endpoints are those of evaluate.arms. A run that was refused is judged again when its recipe is run
    again; answers that a registered version was judged by stay as they are.
    """
    from tunery.pipeline.stages.arms import ask_again

    with open_recipe(ctx, recipe, overrides) as context, context.progress.task("asking again", None):
        found = ask_again(context)
    answer([arm._asdict() for arm in found], lambda: resumed_text(found, recipe), as_json=as_json)


def resumed_text(found: Sequence[AskedAgain], recipe: Path) -> Iterable[Part]:
    """Return what asking endpoints again came to, as a person reads it."""
    from tunery.core.figures import counted

    for arm in found:
        yield f"{arm.name}: {counted(arm.before, 'row')} had no answer, {arm.left or 'none'} still has none"
    if not found:
        yield "Every row has its answer; nobody was asked."
    elif any(arm.left < arm.before for arm in found):
        yield f"To have the gate judge these answers: tunery run {recipe}"


def parts_table(what: str, rows: Sequence[PartRow]) -> Part:
    """Return the main metric of several, each against another, as a table."""
    columns = [what, ">value", ">95 % interval", ">n", ">gain", ">95 % interval", ">p", "shown"]
    return table(columns, [(*row[:3], str(row.n), *row[4:]) for row in rows])


def slices_text(slices: Sequence[Slice]) -> Iterable[Part]:
    """Return what the tuned model is on parts of the rows, as a person reads it."""
    from tunery.report.paired import slice_rows

    if slices:
        yield f"\nslices, against {slices[0].against}"
        yield parts_table("part", slice_rows(slices))


@app.command("report")
def write_run_report(
    ctx: typer.Context,
    run: Annotated[
        str | None, typer.Argument(metavar="RUN", help="A run; the newest where left out.")
    ] = None,
    *,
    format: Annotated[str, typer.Option("--format", help="html, json, junit or markdown.")] = "html",
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Where to; else stdout.")] = None,
    as_json: Json = False,
) -> None:
    """Write what a run found: a page, JSON with all evidence, JUnit XML, or a pull request's summary."""
    from tunery.pipeline.stages.report import report_of
    from tunery.report.page import write_page

    with open_workspace(ctx) as workspace:
        found = _run(workspace, run)
        text = report_of(workspace, found, format)
    if out is not None:
        write_page(text, out)
    value = {"run": found.id, "format": format, "file": out, **({} if out else {"report": text})}
    answer(value, lambda: [f"{out}: {format} report of {found.id}"] if out else [text], as_json=as_json)


@app.command("verify")
def verify_evidence(
    ctx: typer.Context,
    run: Annotated[
        str | None, typer.Argument(metavar="RUN", help="A run; the newest where left out.")
    ] = None,
    *,
    recipe: Annotated[
        Path | None, typer.Option("--recipe", metavar="FILE", help="See that this is still what was run.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compute again what a run's verdict stands on, and say what no longer matches.

    Recipe, rules, dataset version, base, adapter, every subject's answers and the figures made of them are
    held against the hashes that were stamped when the gate judged. Exits with 4 when one differs.
    """
    from tunery.cli.upkeep import answer_checks
    from tunery.pipeline.stages.evidence import verify_run

    with open_workspace(ctx) as workspace:
        found = _run(workspace, run)
        checks = verify_run(workspace, found, recipe)
    answer_checks(found.id, checks, as_json=as_json)


def _run(workspace: Workspace, run: str | None) -> Run:
    from tunery.core.errors import NotFoundError

    if run is not None:
        return workspace.runs.get(run)
    newest = workspace.runs.list(limit=1)
    if not newest:
        raise NotFoundError("there is no run yet", hint="tunery run RECIPE")
    return newest[0]


def evaluation_object(evaluation: Evaluation) -> dict[str, Any]:
    """Return an evaluation with its main metric's numbers in front."""
    return {**evaluation.main_numbers, **evaluation.model_dump(mode="json")}


def evaluation_text(evaluation: Evaluation) -> Iterable[Part]:
    """Return an evaluation as a person reads it."""
    from tunery.core.figures import count, duration, effort, percent

    yield facts(
        [
            ("evaluation", evaluation.id),
            ("subject", evaluation.subject),
            ("base", evaluation.base),
            ("adapter", evaluation.adapter),
            ("rows", evaluation.data),
            ("took", duration(evaluation.seconds)),
            *effort(evaluation),
        ]
    )
    yield metrics_table(evaluation)
    if evaluation.calibration is not None:
        yield calibration_text(evaluation.calibration)
    weakest = sorted(evaluation.per_class, key=lambda c: (c.f1, c.label))[:_SHOWN]
    if weakest and weakest[0].f1 < 1:
        yield "\nweakest classes"
        classes = [
            (c.label, count(c.support), percent(c.precision), percent(c.recall), percent(c.f1))
            for c in weakest
        ]
        yield table(["class", ">rows", ">precision", ">recall", ">F1"], classes)
    if evaluation.confusions:
        yield "\nworst confusions"
        confused = [(c.reference, c.prediction, count(c.count)) for c in evaluation.confusions[:_SHOWN]]
        yield table(["should be", "answered", ">times"], confused)
    for warning in evaluation.warnings:
        yield f"warning: {warning}"


def calibration_text(found: Calibration) -> str:
    """Return from which confidence on answers hold the stated error, and what the other half of rows says."""
    from tunery.core.figures import number, percent, rate

    if found.threshold is None:
        return f"\nno confidence holds {percent(found.max_error)} wrong answers on these rows"
    return (
        f"\nfrom a confidence of {number(found.threshold)} on at most {percent(found.max_error)} are wrong, "
        f"with 95 % certainty; on the other half of the rows {rate(found.checked_wrong, found.checked)}"
    )


def metrics_table(evaluation: Evaluation) -> Part:
    """Return every metric of an evaluation with its interval and its rows."""
    from tunery.core.figures import count, metric_interval, metric_value

    rows = [(m.title, metric_value(m), metric_interval(m), count(m.n)) for m in evaluation.metrics.values()]
    return table(["metric", ">value", ">95 % interval", ">n"], rows)


def comparison_text(compared: Comparison) -> Iterable[Part]:
    """Return a comparison as a person reads it."""
    from tunery.core.figures import change, change_interval, count, is_share, p_value, quantity, unit_behind

    values = [v for v in (compared.value_a, compared.value_b) if v is not None]
    share, unit = is_share(compared.unit, *values), unit_behind(compared.unit)
    a, b = (
        "" if value is None else f"  {quantity(value, share=share)}{unit}"
        for value in (compared.value_a, compared.value_b)
    )
    interval = change_interval(*compared.ci95, share=share)
    # Files of graded scores say of no row whether it is right.
    counted_flips = compared.test == "mcnemar_exact" or compared.fixed or compared.broken
    yield {
        "better": "B is better.",
        "worse": "B is worse.",
        "no difference shown": "No difference shown.",
    }[compared.verdict]
    yield facts(
        [
            ("A", f"{compared.a}{a}"),
            ("B", f"{compared.b}{b}"),
            ("metric", compared.metric_title),
            ("difference", f"{change(compared.difference, share=share)}{unit} (95 % interval {interval})"),
            ("test", f"{compared.test.replace('_', ' ')}, {p_value(compared.p_value)}"),
            ("rows", count(compared.n)),
            ("fixed", f"{count(compared.fixed)} wrong in A, right in B" if counted_flips else None),
            ("broken", f"{count(compared.broken)} right in A, wrong in B" if counted_flips else None),
            ("only in A", count(compared.only_a) if compared.only_a else None),
            ("only in B", count(compared.only_b) if compared.only_b else None),
        ]
    )
