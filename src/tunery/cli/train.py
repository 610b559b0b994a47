"""``tunery train``: preflight and training alone, and the adapters that training left."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunery.cli.output import answer, answer_table, can_write, facts, mark, styled, table
from tunery.cli.parameters import Json, Limit, Overrides, RecipePath
from tunery.cli.rewind import train_rewind
from tunery.cli.session import open_recipe, open_workspace

if TYPE_CHECKING:
    from rich.text import Text

    from tunery.cli.output import Part
    from tunery.core.training import Adapter
    from tunery.train.preflight import Preflight, PreflightRow
    from tunery.train.tune import Tuned

app = typer.Typer(no_args_is_help=True, help="Training: look at the tokens first, train, look at adapters.")
_STEPS_SHOWN = 12


@app.command("preflight")
def train_preflight(
    ctx: typer.Context, recipe: RecipePath, overrides: Overrides = None, *, as_json: Json = False
) -> None:
    """Show the exact tokens and loss mask of sample rows, and check every row; nothing is trained.

    Exits with 2 when a check fails, or when what is to be measured afterwards could not be.
    """
    from tunery.pipeline.stages.preflight import check_before_training
    from tunery.pipeline.stages.settle import settle
    from tunery.pipeline.stages.train import dataset_to_train_on

    with open_recipe(ctx, recipe, overrides) as context, context.progress.task("preflight", None):
        dataset = dataset_to_train_on(context)
        found = check_before_training(context, dataset)
        if dataset.splits.get("test"):
            settle(context, dataset)
    value = {"passed": found.passed, **found.model_dump(mode="json")}
    answer(value, lambda: preflight_text(found), as_json=as_json)
    found.require()


@app.command("run")
def train_run(
    ctx: typer.Context, recipe: RecipePath, overrides: Overrides = None, *, as_json: Json = False
) -> None:
    """Build the data, check it, train the adapter; no baselines and no verdict.

    A later 'tunery run' of the same recipe finds the adapter and goes on from there.
    """
    from tunery.pipeline.loop import train_recipe

    with open_recipe(ctx, recipe, overrides) as context:
        with context.progress.task(context.recipe.name, None):
            trained = train_recipe(context)
        folder = context.workspace.artifacts.path("adapters", trained.adapter.id)
    _answer_adapter(trained.adapter, folder, as_json=as_json)


@app.command("tune")
def train_tune(  # noqa: PLR0913 - options of one command
    ctx: typer.Context,
    recipe: RecipePath,
    overrides: Overrides = None,
    *,
    search: Annotated[
        list[str] | None,
        typer.Option(
            "--search",
            metavar="KEY=VALUES",
            help="What is searched: learning_rate=1e-4:3e-3 or rank=8,16,32; may be given several times. "
            "By default the learning rate and the rank.",
        ),
    ] = None,
    minutes: Annotated[
        float, typer.Option("--minutes", min=0.01, help="Time that the search may take.")
    ] = 30.0,
    trials: Annotated[
        int, typer.Option("--trials", min=1, help="At most this many, earlier calls included.")
    ] = 50,
    as_json: Json = False,
) -> None:
    """Search for train settings that lower the validation loss.

    Trials that fall behind are cut short. The same call given again goes on where it was stopped; nothing of
    the trials is kept but what they reached.
    """
    from tunery.pipeline.stages.tune import tune_recipe

    with open_recipe(ctx, recipe, overrides) as context, context.progress.task("searching", None):
        found = tune_recipe(context, search or (), minutes=minutes, trials=trials)
    best = None if found.best is None else found.best.model_dump(mode="json")
    value = {**found.model_dump(mode="json"), "best": best}
    answer(value, lambda: tuned_text(found, recipe, overrides or ()), as_json=as_json)


def tuned_text(found: Tuned, recipe: Path, overrides: Sequence[str]) -> Iterable[Part]:
    """Return every trial, the best first, and the command that trains with what it had."""
    best = found.best
    ordered = sorted(found.trials, key=lambda t: (t is not best, t.state != "complete", t.loss or math.inf))
    rows = [
        (
            t.number,
            ", ".join(f"{name}={_short(value)}" for name, value in t.values.items()),
            t.state,
            t.validations,
            "" if t.loss is None else f"{t.loss:.4f}",
        )
        for t in ordered
    ]
    yield table(["trial", "settings", "state", ">validations", ">validation loss"], rows)
    if best is None:
        yield "no trial was trained to its end; give the same command again, it goes on"
        return
    values = [f"train.{name}={'null' if value is None else value}" for name, value in best.values.items()]
    yield ""
    yield f"try: {shlex.join(['tunery', 'run', str(recipe), *overrides, *values])}"


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


app.command("rewind")(train_rewind)


@app.command("ls")
def list_adapters(ctx: typer.Context, *, limit: Limit = 50, as_json: Json = False) -> None:
    """List trained adapters, newest first."""
    from tunery.core.figures import duration

    with open_workspace(ctx) as workspace:
        found = workspace.adapters.list(limit=limit)
    rows = [
        (
            a.id,
            a.base.name,
            a.dataset_version,
            f"{a.steps:,}",
            _best_loss(a),
            duration(a.seconds),
            a.created_at,
        )
        for a in found
    ]
    columns = ["adapter", "base", "dataset", ">steps", ">validation loss", ">time", "trained"]
    answer_table(found, columns, rows, as_json=as_json)


@app.command("show")
def show_adapter(
    ctx: typer.Context, adapter_id: Annotated[str, typer.Argument(metavar="ID")], *, as_json: Json = False
) -> None:
    """Show one adapter: what it was trained on, with what, and its losses."""
    with open_workspace(ctx) as workspace:
        adapter = workspace.adapters.get(adapter_id)
        folder = workspace.artifacts.find("adapters", adapter.id)
    _answer_adapter(adapter, folder, as_json=as_json)


def _answer_adapter(adapter: Adapter, folder: Path | None, *, as_json: bool) -> None:
    value = {**adapter.model_dump(mode="json"), "path": folder}
    where = f"folder: {folder or 'no longer stored'}"
    answer(value, lambda: [*adapter_text(adapter), where], as_json=as_json)


def preflight_text(found: Preflight) -> Iterable[Part]:
    """Return sample rows with their trained tokens marked, then every check."""
    yield "trained tokens stand between {} and {}".format(*_marks(prompt_loss=False))
    if any(token.prompt_loss for row in found.samples for token in row.tokens):
        yield "those that count by train.prompt_loss_weight between {} and {}".format(
            *_marks(prompt_loss=True)
        )
    yield ""
    for row in found.samples:
        yield styled(row.example_id, "bold")
        yield row_text(row)
        yield ""
    yield (
        f"{found.rows:,} rows, {found.tokens:,} tokens, of which {found.trained_tokens:,} are trained; "
        f"the longest row has {found.longest:,}"
    )
    for check in found.checks:
        yield styled(f"{mark(check.passed)} {check.sentence}", "green" if check.passed else "red")


def row_text(row: PreflightRow) -> Text:
    """Return one row as the model reads it; what is trained is marked by colour and by brackets."""
    from rich.text import Text

    text = Text()
    for (trained, prompt_loss), tokens in groupby(row.tokens, key=lambda t: (t.trained, t.prompt_loss)):
        opening, closing = _marks(prompt_loss=prompt_loss) if trained or prompt_loss else ("", "")
        style = "bold yellow" if prompt_loss else "bold green" if trained else "dim"
        text.append(opening + "".join(token.text for token in tokens) + closing, style=style)
    return text


def _marks(*, prompt_loss: bool) -> tuple[str, str]:
    """Return the brackets around trained tokens or those of the prompt loss, in what stdout can write."""
    if can_write("⟦⟧⟪⟫"):
        return ("⟪", "⟫") if prompt_loss else ("⟦", "⟧")
    return ("<<", ">>") if prompt_loss else ("[[", "]]")


def adapter_text(adapter: Adapter) -> Iterable[Part]:
    """Return an adapter as a person reads it."""
    from tunery.core.figures import count, duration

    yield facts(
        [
            ("adapter", adapter.id),
            ("base", adapter.base.label),
            *((("started from", adapter.start_adapter),) if adapter.start_adapter else ()),
            ("dataset", adapter.dataset_version),
            ("trained", adapter.created_at),
            (
                "parameters",
                f"{count(adapter.trainable_parameters)} trained of {count(adapter.base.parameters)}",
            ),
            ("steps", f"{count(adapter.steps)}, that of step {count(adapter.best_step)} kept"),
            ("tokens", count(adapter.trained_tokens)),
            ("time", duration(adapter.seconds)),
            ("sha256", adapter.sha256),
            *((f"  {name}", value) for name, value in adapter.config.items()),
        ]
    )
    steps = [log for log in adapter.history if log.validation_loss is not None] or list(adapter.history)
    every = max(1, -(-len(steps) // _STEPS_SHOWN))
    rows = [
        (f"{log.step:,}", f"{log.epoch:.2f}", _loss(log.train_loss), _loss(log.validation_loss))
        for i, log in enumerate(steps)
        if i % every == 0 or i == len(steps) - 1
    ]
    yield table([">step", ">epoch", ">training loss", ">validation loss"], rows)


def _best_loss(adapter: Adapter) -> str:
    return _loss(
        min((s.validation_loss for s in adapter.history if s.validation_loss is not None), default=None)
    )


def _loss(value: float | None) -> str:
    from tunery.core.figures import number

    return "" if value is None else number(value)
