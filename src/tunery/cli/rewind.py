"""``tunery train rewind``: the rows behind a step's loss, and the steps at which the loss rose."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunery.cli.output import answer, facts, table
from tunery.cli.parameters import Json, Limit
from tunery.cli.session import open_workspace

if TYPE_CHECKING:
    from tunery.cli.output import Part
    from tunery.pipeline.stages.rewind import RecordedTraining, RowText
    from tunery.train.rewind import Rewound, Spike

_LOSSES_SHOWN = 4


def train_rewind(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="RUN_OR_ADAPTER", help="Id of a run or of an adapter.")],
    *,
    step: Annotated[
        int | None, typer.Option("--step", min=1, help="Optimizer step; without it, those that rose most.")
    ] = None,
    limit: Limit = 10,
    as_json: Json = False,
) -> None:
    """Name the rows behind a step's loss, with what their loss was before and after.

    Without --step, list the steps whose loss rose most above the median of the fifty before. A training that
    still runs, was stopped or diverged can be looked at as well.
    """
    from tunery.pipeline.stages.rewind import recorded_training, require_recorded, texts_of
    from tunery.train.rewind import rewind, spikes

    with open_workspace(ctx) as workspace:
        training = recorded_training(workspace, name)
        recorded = require_recorded(training)
        if step is None:
            found = spikes(recorded, limit=limit)
            texts = texts_of(workspace, training.dataset, {row for spike in found for row in spike.rows})
            value, shown = _spikes_object(found, texts), spikes_text(found, texts, training)
        else:
            then = rewind(recorded, step)
            texts = texts_of(workspace, training.dataset, {row.id for row in then.rows})
            value, shown = _step_object(then, texts), step_text(then, texts, limit)
    about = {"adapter": training.adapter, "dataset_version": training.dataset}
    answer({**about, **value}, lambda: shown, as_json=as_json)


def spikes_text(
    found: list[Spike], texts: Mapping[str, RowText], training: RecordedTraining
) -> Iterable[Part]:
    """Return the steps with what added most to each."""
    from tunery.core.figures import number

    if not found:
        yield "no step's loss was above the median of the steps before it"
        return
    rows = [
        (
            f"{spike.step:,}",
            number(spike.loss),
            number(spike.usual),
            f"{number(spike.factor)} x",
            "; ".join(_row_name(row, texts) for row in spike.rows),
        )
        for spike in found
    ]
    yield table([">step", ">loss", ">usual", ">rise", "rows that added most"], rows)
    yield f"try: tunery train rewind {training.adapter} --step {found[0].step}"


def step_text(then: Rewound, texts: Mapping[str, RowText], limit: int) -> Iterable[Part]:
    """Return a step's rows, those that added most first."""
    from tunery.core.figures import number, percent_of

    yield facts(
        [
            ("step", f"{then.step:,} of {then.steps:,}"),
            ("loss", number(then.loss)),
            ("usual loss", None if then.usual is None else f"{number(then.usual)}, of the steps before"),
            ("rows", f"{len(then.rows):,}"),
        ]
    )
    rows = [
        (
            _row_name(row.id, texts),
            number(row.loss),
            percent_of(row.share, then.loss),
            " ".join(number(loss) for loss in row.before[-_LOSSES_SHOWN:]) or "first time",
            " ".join(number(loss) for loss in row.after[:_LOSSES_SHOWN]),
            "" if row.usual is None else number(row.usual),
        )
        for row in then.rows[:limit]
    ]
    yield table(["row", ">loss", ">of the step", ">before", ">after", ">usual row"], rows)
    if len(then.rows) > limit:
        yield f"and {len(then.rows) - limit:,} more rows: --limit {len(then.rows)}"
    for row in then.rows[:limit]:
        if row.id in texts:
            text = texts[row.id]
            yield ""
            yield f"{row.id}  {text.where}"
            yield f"  prompt    {text.prompt}"
            yield f"  answer    {text.answer}"
            if text.rejected is not None:
                yield f"  rejected  {text.rejected}"


def _row_name(identity: str, texts: Mapping[str, RowText]) -> str:
    return f"{identity} ({texts[identity].where})" if identity in texts else identity


def _spikes_object(found: list[Spike], texts: Mapping[str, RowText]) -> dict[str, Any]:
    return {
        "spikes": [
            {
                "step": spike.step,
                "loss": spike.loss,
                "usual": spike.usual,
                "factor": spike.factor,
                "rows": [_with_text(identity, texts) for identity in spike.rows],
            }
            for spike in found
        ]
    }


def _step_object(then: Rewound, texts: Mapping[str, RowText]) -> dict[str, Any]:
    rows = [{**row.model_dump(mode="python"), **_with_text(row.id, texts)} for row in then.rows]
    return {**then.model_dump(mode="python"), "rows": rows}


def _with_text(identity: str, texts: Mapping[str, RowText]) -> dict[str, Any]:
    nothing = dict.fromkeys(("where", "prompt", "answer", "rejected"))
    return {"id": identity, **(texts[identity]._asdict() if identity in texts else nothing)}
