"""How training went: the curves, the same numbers as a table, and what they say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from tunery.core.evaluation import metric_title
from tunery.core.figures import count, counted, duration, number, percent
from tunery.core.training import Adapter, StepLog
from tunery.report.inputs import ReportInputs
from tunery.report.loss_chart import Losses, loss_chart, losses_of, thinned

_TABLE_ROWS = 40
"""Rows of the loss table at most; every validation is among them where they fit [count]."""


class TrainingSection(NamedTuple):
    """The training section."""

    chart: Markup | None
    sentence: str
    note: str | None
    """Which losses no curve can show."""
    facts: tuple[tuple[str, str], ...]
    rows: Sequence[StepLog]
    """Some of the steps logged, in their order."""


def training_of(inputs: ReportInputs) -> TrainingSection | None:
    """Return how training went; None where nothing was trained."""
    adapter = inputs.adapter
    if adapter is None:
        return None
    losses = losses_of(adapter.history)
    whole = adapter.base.parameters
    share = (
        f" ({percent(adapter.trainable_parameters / whole)} of the base's {count(whole)})" if whole else ""
    )
    speed = adapter.trained_tokens / adapter.seconds if adapter.seconds > 0 else 0.0
    facts = (
        *((("Method", inputs.training_method),) if inputs.training_method else ()),
        ("Steps", count(adapter.steps)),
        ("Kept", f"the adapter of step {count(adapter.best_step)}{_chosen_by(adapter)}"),
        (
            "Trained-on tokens",
            count(adapter.trained_tokens) + (f", {number(speed)} a second" if speed else ""),
        ),
        ("Trainable parameters", count(adapter.trainable_parameters) + share),
        ("Training time", inputs.training_took or duration(adapter.seconds)),
        *((("Rows that stayed hard", _hard(inputs.hard_rows)),) if inputs.hard_rows else ()),
    )
    return TrainingSection(
        loss_chart(losses, adapter.best_step),
        _sentence(losses, adapter.best_step, adapter.steps),
        _note(losses.not_finite),
        facts,
        _rows(adapter.history, adapter.best_step),
    )


def _sentence(losses: Losses, best_step: int, steps: int) -> str:
    if not losses.train and not losses.validation:
        return "No loss was logged, so there is no curve to show."
    if not losses.validation:
        return "Training logged no validation loss, so only the train curve is shown."
    first, last = losses.validation[0], losses.validation[-1]
    best = next((p for p in losses.validation if p.step == best_step), None)
    if best is None:
        ends = f"{number(first.loss)} to {number(last.loss)}"
        return f"Validation loss went from {ends} in {counted(steps, 'step')}."
    lowest = number(best.loss)
    low = min(losses.validation, key=lambda p: p.loss)
    if low.loss < best.loss:
        return (
            f"Validation loss was lowest, {number(low.loss)}, at step {count(low.step)}, and {lowest} "
            f"at step {count(best.step)}, whose adapter was kept."
        )
    if last.step == best.step:
        return f"Validation loss fell to {lowest} and was lowest at the end, so the last step was kept."
    return (
        f"Validation loss was lowest, {lowest}, at step {count(best.step)}; that adapter was kept. "
        f"By the last validation it was {number(last.loss)}."
    )


def _chosen_by(adapter: Adapter) -> str:
    by = adapter.config.get("best_by", "loss")
    if by == "loss":
        return ""
    found = next((log.metrics for log in adapter.history if log.step == adapter.best_step), {})
    value = found.get(f"validation/{by}")
    return f", by {metric_title(by)} of answers to validation rows" + (
        "" if value is None else f" ({number(value)})"
    )


def _hard(rows: int) -> str:
    return f"{count(rows)}, whose loss stayed far above that of the others: tunery data inspect"


def _note(not_finite: int) -> str | None:
    lost = counted(not_finite, "logged loss was", "logged losses were")
    return f"{lost} infinite or not a number and left out of the curves." if not_finite else None


def _rows(history: tuple[StepLog, ...], best_step: int) -> list[StepLog]:
    ordered = sorted(history, key=lambda log: log.step)
    marked = [log for log in ordered if log.validation_loss is not None or log.step == best_step]
    others = [log for log in ordered if log.validation_loss is None and log.step != best_step]
    chosen = thinned(marked, _TABLE_ROWS)
    left = _TABLE_ROWS - len(chosen)
    chosen += thinned(others, left) if left >= 2 else []
    return sorted(chosen, key=lambda log: log.step)
