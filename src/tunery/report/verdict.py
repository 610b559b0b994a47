"""The verdict: one sentence for whoever must decide, and what stands behind it."""

from __future__ import annotations

from typing import Literal, NamedTuple

from tunery.core.evaluation import GateResult, RuleOutcome
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
    if inputs.gate and not inputs.gate.passed:
        return _refused(inputs, inputs.gate)
    if inputs.gate is None or inputs.run.status in ("failed", "cancelled"):
        return _stopped(inputs)
    tuned, prompting = inputs.main_of(inputs.tuned), inputs.prompting
    name = inputs.run.model_version or "the tuned model"
    reached = f"{name} reaches {metric_phrase(tuned)}" if tuned else f"{name} meets every rule of its gate"
    beside = f"; the best prompting reached {metric_value(prompting)}" if tuned and prompting else ""
    step, command = _onwards(inputs.run.model_version)
    but = "".join(f"; but {caveat}" for caveat in inputs.gate.caveats)
    return VerdictSection("ship", "Ship it", f"{reached}{beside}{but}.", (), step, command)


def rule_in_words(rule: RuleOutcome) -> str:
    """Return what a rule found and, where it refused, what would make it hold."""
    return f"{rule.sentence}; to pass: {rule.change}" if rule.change else rule.sentence


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


def _refused(inputs: ReportInputs, gate: GateResult) -> VerdictSection:
    refused = tuple(rule_in_words(rule) for rule in gate.rules if not rule.passed)
    tuned, prompting = inputs.main_of(inputs.tuned), inputs.prompting
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
    sentence = f"{reached}{beside}, but {len(refused)} of {counted(len(gate.rules), 'gate rule')} {verb} it."
    return VerdictSection("refused", "Do not ship", sentence, refused, step)


def _stopped(inputs: ReportInputs) -> VerdictSection:
    """Say where a run stands that has no verdict, or that stopped after its gate had passed."""
    at = stopped_at(inputs)
    where = f" at the stage “{at.name}”" if at else ""
    status = inputs.run.status
    if status == "running":
        return VerdictSection("open", "No verdict yet", f"the run is still going{where}.")
    if status not in ("failed", "cancelled"):
        return VerdictSection(
            "open", "No verdict", "the run ended without a gate, so nothing says whether to ship."
        )
    ended = "was cancelled" if status == "cancelled" else "failed"
    word, sentence = "No verdict", f"the run {ended}{where}, before the gate could judge."
    if inputs.gate:
        word = "Not shipped"
        sentence = f"the gate passed, but the run {ended} afterwards{where}; nothing was registered."
    reasons = (inputs.run.error,) if inputs.run.error else ()
    step = "Starting it again continues where it stopped."
    return VerdictSection("open", word, sentence, reasons, step, "tunery run RECIPE")
