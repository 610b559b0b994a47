"""What a run found: as the one object of ``tunery run --json``, and as what a person reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from tunery.cli.output import facts, mark, styled, table
from tunery.core.errors import GateFailed
from tunery.core.figures import (
    count,
    difference,
    duration,
    metric_interval,
    metric_value,
    p_value,
    subject_name,
    subject_order,
)
from tunery.core.run import CHAMPION, OWN, START, TRAINER, TUNED

if TYPE_CHECKING:
    from tunery.cli.output import Part
    from tunery.core.evaluation import Comparison, Evaluation, GateResult
    from tunery.core.run import Run
    from tunery.store.workspace import Workspace

_COMPARED = {"fixed", "broken", "p_value", "difference", "ci95", "test", "verdict"}


class Outcome(NamedTuple):
    """A run with the records it points at, as far as it came."""

    run: Run
    evaluations: dict[str, Evaluation]
    """Subject to evaluation."""
    comparisons: dict[str, Comparison]
    """Subject (A) to its comparison with the tuned model (B)."""
    gate: GateResult | None


def outcome_of(workspace: Workspace, run: Run) -> Outcome:
    """Gather what a run left behind."""
    from tunery.core.evaluation import Comparison

    stored = [(subject, workspace.evaluations.find(id)) for subject, id in run.evaluations.items()]
    found = {subject: evaluation for subject, evaluation in stored if evaluation is not None}
    return Outcome(
        run,
        {subject: found[subject] for subject in sorted(found, key=subject_order)},
        {subject: Comparison.model_validate(value) for subject, value in run.comparisons.items()},
        workspace.gates.find(run.gate_id) if run.gate_id else None,
    )


def outcome_object(outcome: Outcome) -> dict[str, Any]:
    """Return the object that programs read; a stage that was not reached is null."""
    run, measured = outcome.run, outcome.evaluations
    return {
        "run": run.id,
        "name": run.name,
        "status": run.status,
        "dataset_version": run.dataset_version,
        "adapter": run.adapter_id,
        "baselines": {n: _subject(outcome, n) for n in measured if n not in OWN},
        **{name: _subject(outcome, name) if name in measured else None for name in (CHAMPION, START, TUNED)},
        **({TRAINER: _subject(outcome, TRAINER)} if TRAINER in measured else {}),
        "gate": outcome.gate.model_dump(
            mode="json", include={"id", "passed", "rules", "alpha", "verdict", "caveats"}
        )
        if outcome.gate
        else None,
        "model_version": run.model_version,
        "report": run.report,
        "seconds": dict(run.seconds),
        "error": run.error,
    }


def outcome_text(outcome: Outcome) -> Iterable[Part]:
    """Return what a person reads: results beside each other, the gate's sentences, the verdict."""
    run = outcome.run
    yield f"{run.name}  {run.id}\n"
    if outcome.evaluations:
        yield _results(outcome)
        yield ""
    if outcome.gate:
        for rule in outcome.gate.rules:
            yield styled(f"{mark(rule.passed)} {rule.sentence}", "green" if rule.passed else "red")
            if rule.change:
                yield f"  to pass: {rule.change}"
        yield ""
    yield styled(_verdict(run, outcome.gate), "bold green" if run.status == "succeeded" else "bold red")
    yield facts(
        [
            ("report", run.report),
            ("dataset", run.dataset_version),
            (
                "time",
                ", ".join(f"{stage} {duration(s)}" for stage, s in run.seconds.items() if s >= 0.5) or None,
            ),
        ]
    )
    yield from _next_steps(run)


def refusal(outcome: Outcome) -> GateFailed | None:
    """Return the error that a refused run ends with, None where the gate passed."""
    if outcome.run.status != "refused":
        return None
    broken = [r.sentence for r in outcome.gate.rules if not r.passed] if outcome.gate else []
    return GateFailed(
        f"the gate refused {outcome.run.name}: {'; '.join(broken)}", hint=f"open {outcome.run.report}"
    )


def _subject(outcome: Outcome, name: str) -> dict[str, Any]:
    evaluation = outcome.evaluations[name]
    compared = outcome.comparisons.get(name)
    return {
        **evaluation.main_numbers,
        "evaluation": evaluation.id,
        "metrics": {
            m.name: {"value": m.value, "n": m.n, "ci95": list(m.ci95)} for m in evaluation.metrics.values()
        },
        **({"tuned_against_it": compared.model_dump(mode="json", include=_COMPARED)} if compared else {}),
    }


def _results(outcome: Outcome) -> Part:
    main = next(iter(outcome.evaluations.values())).main.title
    rows = []
    for name, evaluation in outcome.evaluations.items():
        metric, compared = evaluation.main, outcome.comparisons.get(name)
        # The comparison says how much better the tuned model (B) is than this one.
        ahead = f"{difference(metric, compared.difference)} ({p_value(compared.p_value)})" if compared else ""
        cells = [subject_name(name), metric_value(metric), metric_interval(metric), count(metric.n), ahead]
        rows.append([styled(cell, "bold") for cell in cells] if name == TUNED else cells)
    return table(["", f">{main}", ">95 % interval", ">n", ">tuned is ahead by"], rows)


def _verdict(run: Run, gate: GateResult | None) -> str:
    why = gate.verdict if gate else ""
    if run.status == "succeeded":
        named = f"Passed: {run.model_version} is registered." if run.model_version else "Passed."
        return f"{named} {why[:1].upper()}{why[1:]}." if why else named
    if run.status == "refused":
        return f"Refused: {why or 'do not ship this model'}. It is not registered."
    return f"{run.status.capitalize()}: {run.error}" if run.error else f"{run.status.capitalize()}."


def _next_steps(run: Run) -> Iterator[str]:
    if run.status == "succeeded" and run.model_version:
        yield f"next: tunery serve   (clients ask for model {run.name!r})"
        yield f"      tunery registry show {run.model_version}"
