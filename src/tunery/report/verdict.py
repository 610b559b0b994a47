"""The verdict: one sentence for whoever must decide, and what stands behind it."""

from __future__ import annotations

from typing import Literal, NamedTuple

from tunery.core.evaluation import Metric
from tunery.core.figures import at_least_as_good, counted, metric_phrase, metric_value, subject_name
from tunery.core.registry import parse_ref
from tunery.report.inputs import ReportInputs
from tunery.report.stages import stopped_at


class VerdictSection(NamedTuple):
    """What to do, in one sentence."""

    kind: Literal["ship", "refused", "open"]
    word: str
    """Two or three words that stand alone: ``Ship it``."""
    sentence: str
    """The whole verdict."""
    reasons: tuple[str, ...] = ()
    """Sentences of the rules that refused, or what went wrong."""
    next_step: str | None = None
    command: str | None = None
    """What to type next."""


def verdict_of(inputs: ReportInputs) -> VerdictSection:
    """Return the run's verdict; a run without a gate result has none and says why."""
    if inputs.gate is None:
        return _open(inputs)
    if not inputs.gate.passed:
        return _refused(inputs)
    if inputs.run.status in ("failed", "cancelled"):
        return _passed_but_stopped(inputs)
    tuned, prompting = inputs.main_of(inputs.tuned), _prompting(inputs)
    name = inputs.run.model_version or "the tuned model"
    reached = f"{name} reaches {metric_phrase(tuned)}" if tuned else f"{name} meets every rule of its gate"
    beside = f"; the best prompting reached {metric_value(prompting)}" if tuned and prompting else ""
    step, command = _onwards(inputs.run.model_version)
    return VerdictSection("ship", "Ship it", f"{reached}{beside}.", (), step, command)


def _onwards(reference: str | None) -> tuple[str | None, str | None]:
    if reference is None:
        return None, None
    if parse_ref(reference).version == 1:
        return (
            "As the first version of its name it is the champion; the server answers with it.",
            "tunery serve",
        )
    step = "Give it a tenth of the traffic; the canary rolls back by itself if users fare worse."
    return step, f"tunery deploy canary {reference} --percent 10"


def _refused(inputs: ReportInputs) -> VerdictSection:
    rules = inputs.gate.rules if inputs.gate else ()
    refused = tuple(rule.sentence for rule in rules if not rule.passed)
    tuned, prompting = inputs.main_of(inputs.tuned), _prompting(inputs)
    step = "Nothing was promoted. The worst classes and the broken examples below show where it loses."
    if tuned and prompting and not at_least_as_good(tuned, prompting):
        best = subject_name(inputs.best_prompting or "")
        sentence = (
            f"prompting wins. {best} of the same base reaches {metric_phrase(prompting)}, "
            f"the tuned model {metric_value(tuned)}."
        )
        return VerdictSection("refused", "Do not ship", sentence, refused, step)
    reached = f"the tuned model reaches {metric_phrase(tuned)}" if tuned else "the tuned model was measured"
    beside = f" and the best prompting {metric_value(prompting)}" if prompting else ""
    verb = "refuses" if len(refused) == 1 else "refuse"
    sentence = f"{reached}{beside}, but {len(refused)} of {counted(len(rules), 'gate rule')} {verb} it."
    return VerdictSection("refused", "Do not ship", sentence, refused, step)


def _passed_but_stopped(inputs: ReportInputs) -> VerdictSection:
    at = stopped_at(inputs)
    where = f" at the stage “{at.name}”" if at else ""
    sentence = f"the gate passed, but the run {_ended(inputs)} afterwards{where}; nothing was registered."
    return VerdictSection("open", "Not shipped", sentence, _error(inputs), *_again())


def _open(inputs: ReportInputs) -> VerdictSection:
    at = stopped_at(inputs)
    where = f" at the stage “{at.name}”" if at else ""
    if inputs.run.status == "running":
        return VerdictSection("open", "No verdict yet", f"the run is still going{where}.")
    if inputs.run.status in ("failed", "cancelled"):
        sentence = f"the run {_ended(inputs)}{where}, before the gate could judge."
        return VerdictSection("open", "No verdict", sentence, _error(inputs), *_again())
    return VerdictSection(
        "open", "No verdict", "the run ended without a gate, so nothing says whether to ship."
    )


def _ended(inputs: ReportInputs) -> str:
    return "was cancelled" if inputs.run.status == "cancelled" else "failed"


def _again() -> tuple[str, str]:
    return ("Starting it again continues where it stopped.", "tunery run RECIPE")


def _error(inputs: ReportInputs) -> tuple[str, ...]:
    return (inputs.run.error,) if inputs.run.error else ()


def _prompting(inputs: ReportInputs) -> Metric | None:
    best = inputs.best_prompting
    return inputs.main_of(inputs.evaluations[best]) if best else None
